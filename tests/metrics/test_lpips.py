"""LPIPS is computed as its authors do; its weights are found where other programs put them."""

import sys
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from models.metrics.lpips import Lpips, load_lpips
from nps_cli.errors import NpsError
from nps_cli.weights import lpips

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)  # of torchvision's VGG-16
WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
ENDS = {2: 64, 7: 128, 14: 256, 21: 512, 28: 512}  # the last convolution of each stage


@cache
def made_weights() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    trunk = {}
    for place, width, out in zip(CONVOLUTIONS, WIDTHS, WIDTHS[1:], strict=False):
        deviation = (2 / 9 / width) ** 0.5
        weight = torch.randn(out, width, 3, 3, generator=generator) * deviation
        trunk[f"features.{place}.weight"] = weight
        trunk[f"features.{place}.bias"] = torch.randn(out, generator=generator) * 0.1
    heads = {
        f"lin{index}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
        for index, width in enumerate(ENDS.values())
    }
    return trunk, heads


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("lpips")
    paths = folder / "vgg16-397923af.pth", folder / "vgg.pth"
    for path, state in zip(paths, made_weights(), strict=True):
        torch.save(state, path)
    return paths


@pytest.fixture(scope="module")
def distance(files: tuple[Path, Path]) -> Lpips:
    return load_lpips(*files)


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(2, 2, 3, 16, 32, generator=generator).unbind()


def by_hand(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The definition, in float64, a layer at a time, from the published files' names."""
    trunk, heads = made_weights()
    shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64).view(3, 1, 1)
    spread = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64).view(3, 1, 1)
    both = (torch.cat([first, second]).double() * 2 - 1 - shift) / spread
    total = torch.zeros(len(first), dtype=torch.float64)
    for place in range(30):
        weight = trunk.get(f"features.{place}.weight")
        if weight is not None:
            bias = trunk[f"features.{place}.bias"].double()
            both = torch.conv2d(both, weight.double(), bias, padding=1).clamp(min=0)
        if place in (4, 9, 16, 23):
            both = torch.nn.functional.max_pool2d(both, 2)
        if place in ENDS:
            a, b = torch.nn.functional.normalize(both, dim=1).split(len(first))
            head = heads[f"lin{list(ENDS).index(place)}.model.1.weight"].double()
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
            layer.weight.data = made_weights()[0][f"features.{place}.weight"]
            layer.bias.data = made_weights()[0][f"features.{place}.bias"]
            layers.append(layer)
        else:
            pools = place in (4, 9, 16, 23)
            layers.append(torch.nn.MaxPool2d(2) if pools else torch.nn.ReLU())
    stub = ModuleType("torchvision")
    features = torch.nn.Sequential(*layers)
    stub.models = SimpleNamespace(vgg16=lambda pretrained: SimpleNamespace(features=features))
    return stub


def test_the_authors_package_says_the_same_with_its_own_heads(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torchvision", torchvision_stub())
    package = pytest.importorskip("lpips")
    theirs = package.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    ours = load_lpips(files[0], Path(package.__file__).parent / "weights/v0.1/vgg.pth")
    first, second = pictures()

    expected = theirs(first, second, normalize=True).flatten()

    torch.testing.assert_close(ours(first, second), expected, rtol=1e-5, atol=1e-7)
    assert expected.min() > 0.01


def test_equal_pictures_have_no_distance_and_its_gradient_reaches_the_first(distance: Lpips):
    first, second = pictures()
    first.requires_grad_()
    assert distance(first, first).abs().max() == 0
    distance(first, second).sum().backward()
    assert first.grad is not None and first.grad.abs().min(0).values.max() > 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_other_files_are_refused(files: tuple[Path, Path], tmp_path: Path):
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no weights of LPIPS"):
        load_lpips(files[1], files[0])
    with pytest.raises(ValueError, match=r"broken\.pth is broken"):
        load_lpips(tmp_path / "broken.pth", files[1])


def test_weights_are_found_in_torchs_cache_and_fetched_into_it(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nps
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(lpips, "_package_heads", lambda: [])
    assert lpips.find_lpips() is None
    with pytest.raises(NpsError, match="not its heads"):
        lpips.find_lpips(files[0])
    for name, file in zip(("TRUNK", "HEADS"), files, strict=True):
        digest = sha256(file.read_bytes()).hexdigest()
        part = getattr(lpips, name)._replace(url=file.as_uri(), sha256=digest)
        monkeypatch.setattr(lpips, name, part)

    fetched = nps("weights", "fetch", "lpips-vgg")
    first, second = pictures()

    assert fetched.code == 0 and "BSD" in fetched.err and str(tmp_path / "home") in fetched.out
    distance = lpips.find_lpips()
    assert distance is not None and distance(first, second).min() > 0
    assert nps("weights", "fetch", "lpips-vgg").code == 0


def test_a_fetched_file_with_another_hash_is_not_kept(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nps
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(lpips, "TRUNK", lpips.TRUNK._replace(url=files[0].as_uri()))

    ran = nps("weights", "fetch", "lpips-vgg")

    assert ran.code == 1 and "could not be fetched" in ran.err
    assert not list((tmp_path / "home").rglob("*.pth"))
