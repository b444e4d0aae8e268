"""Scene files of other programs: what is written is what their formats say, and is read back."""

import gzip
import json
import math
import struct
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from models.geometry.camera import Camera
from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from models.geometry.rigid import from_wxyz
from models.geometry.spherical_harmonics import real_harmonics
from nps_cli.errors import NpsError
from nps_cli.formats import SceneCamera, load_scene, read_cameras, save_scene

TURN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # from our axes to OpenGL's
CAMERA = SceneCamera("a.jpg", Camera(torch.eye(3), torch.eye(4), (480, 640)))


def random_scene(count: int = 60, sh_degree: int = 3) -> Gaussians:
    return Gaussians(
        means=3 * torch.randn(count, 3),
        scales=(2 * torch.randn(count, 3) - 4).exp(),
        rotations=torch.nn.functional.normalize(torch.randn(count, 4), dim=-1),
        harmonics=0.3 * torch.randn(count, 3, (sh_degree + 1) ** 2),
        opacities=torch.rand(count),
    )


def angles_deg(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Between rotations, whatever the signs of their quaternions."""
    cosine = (first * second).sum(dim=1).abs().clamp(max=1)
    return torch.rad2deg(2 * cosine.acos())


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_an_spz_is_read_back_as_it_was_but_for_its_few_bits(tmp_path: Path, sh_degree: int):
    scene = random_scene(sh_degree=sh_degree)
    save_scene(scene, tmp_path / "scene.spz")
    back, comments = load_scene(tmp_path / "scene.spz")
    assert not comments
    torch.testing.assert_close(back.means, scene.means, atol=2e-6, rtol=1e-6)
    torch.testing.assert_close(back.scales.log(), scene.scales.log(), atol=0.0314, rtol=0)
    torch.testing.assert_close(back.opacities, scene.opacities, atol=0.002, rtol=0)
    assert angles_deg(back.rotations, scene.rotations).max() < 0.3
    assert back.harmonics.shape == scene.harmonics.shape
    constant = (back.harmonics - scene.harmonics)[:, :, 0].abs().max()
    assert constant < 0.5 / 255 / 0.15 + 1e-4
    inside = scene.harmonics[:, :, 1:].clamp(-1, 0.99)
    torch.testing.assert_close(back.harmonics[:, :, 1:], inside, atol=0.066, rtol=0)


@pytest.mark.parametrize("suffix", [".ply", ".glb"])
def test_guesses_stay_marked_and_can_be_left_out(tmp_path: Path, suffix: str):
    path, guessed = tmp_path / f"scene{suffix}", torch.arange(60) % 3 == 0
    scene = replace(random_scene(), guessed=guessed)
    save_scene(scene, path)
    assert torch.equal(load_scene(path)[0].guessed, guessed)
    seen, _ = load_scene(path, guesses=False)
    assert seen.guessed is None
    torch.testing.assert_close(seen.means, scene.means[~guessed])


def test_a_file_that_marks_no_guesses_is_not_taken_for_one_without(tmp_path: Path):
    path = tmp_path / "scene.ply"
    save_scene(replace(random_scene(), guessed=torch.zeros(60, dtype=torch.bool)), path)
    assert b"guess" not in path.read_bytes()
    with pytest.raises(NpsError, match="does not say which"):
        load_scene(path, guesses=False)


def streams(path: Path, widths: tuple[int, ...]) -> list[np.ndarray]:
    """Return the streams after the header, by their widths in bytes per Gaussian."""
    content = gzip.decompress(path.read_bytes())
    magic, version, count = struct.unpack_from("<4sII", content)
    assert (magic, version) == (b"NGSP", 3) and len(content) == 16 + count * sum(widths)
    parts = np.split(np.frombuffer(content, np.uint8, offset=16), np.cumsum(widths[:-1]) * count)
    return [part.reshape(count, -1) for part in parts]


def test_an_spz_has_the_axes_and_the_bytes_of_its_format(tmp_path: Path):
    half = math.sqrt(0.5)
    scene = Gaussians(
        means=torch.tensor([[1.0, 2.0, -3.0]]),
        scales=torch.full((1, 3), math.exp(-4.0)),
        rotations=torch.tensor([[half, 0.0, half, 0.0]]),  # a quarter turn about our y, down
        harmonics=torch.tensor([[[0.0], [1.0], [-1.0]]]),
        opacities=torch.tensor([0.4]),
    )
    save_scene(scene, tmp_path / "scene.spz")
    position, opacity, color, scale, rotation = streams(tmp_path / "scene.spz", (9, 1, 3, 3, 4))
    bits = gzip.decompress((tmp_path / "scene.spz").read_bytes())[13]
    fixed = [int.from_bytes(bytes(part), "little", signed=True) for part in position.reshape(3, 3)]
    assert [value / 2**bits for value in fixed] == [1.0, -2.0, 3.0]
    assert opacity.tolist() == [[102]] and scale.tolist() == [[96, 96, 96]]
    assert color.tolist() == [[128, 166, 89]]
    # xyzw of the quarter turn about -y is (0, -half, 0, half); y comes first of the largest two,
    # so it is made positive, and left out: then x = 0, z = 0 and w = -half, ten bits each.
    (packed,) = rotation.view("<u4")[:, 0].tolist()
    assert packed >> 30 == 1
    assert [(packed >> shift) & 1023 for shift in (20, 10, 0)] == [0, 0, 512 + 511]


def test_the_harmonics_of_an_spz_are_those_of_its_axes(tmp_path: Path):
    scene = random_scene(20)
    save_scene(scene, tmp_path / "scene.spz")
    stored = torch.from_numpy(streams(tmp_path / "scene.spz", (9, 1, 3, 3, 4, 45))[-1].copy())
    turned = (stored.float() / 128 - 1).unflatten(1, (15, 3)).mT
    direction = torch.nn.functional.normalize(torch.randn(20, 3), dim=-1)
    ours = real_harmonics(direction, 3)[:, None, 1:]
    theirs = real_harmonics(direction @ TURN, 3)[:, None, 1:]
    seen = (theirs * turned).sum(-1)
    torch.testing.assert_close(seen, (ours * scene.harmonics[:, :, 1:]).sum(-1), atol=0.25, rtol=0)
    assert ((ours * turned).sum(-1) - seen).abs().max() > 0.5  # the turn is not nothing


def test_an_older_spz_is_read(tmp_path: Path):
    header = struct.pack("<4sIIBBBx", b"NGSP", 2, 1, 0, 12, 0)
    position = b"".join((4096 * value).to_bytes(3, "little", signed=True) for value in (1, -2, 3))
    body = (
        position + bytes([255]) + bytes([255, 128, 0]) + bytes([160] * 3) + bytes([255, 128, 128])
    )
    (tmp_path / "old.spz").write_bytes(gzip.compress(header + body))
    scene, _ = load_scene(tmp_path / "old.spz")
    assert scene.means.tolist() == [[1, 2, -3]]
    assert scene.scales.tolist() == [[1, 1, 1]] and scene.opacities.tolist() == [1]
    assert angles_deg(scene.rotations, torch.tensor([[0.0, 1.0, 0.0, 0.0]])).item() < 1


def test_a_large_scene_keeps_its_far_points_in_an_spz(tmp_path: Path):
    scene = random_scene(10)
    scene.means[3] = torch.tensor([0.0, 0.0, 5e5])
    save_scene(scene, tmp_path / "scene.spz")
    back, _ = load_scene(tmp_path / "scene.spz")
    torch.testing.assert_close(back.means, scene.means, atol=0.05, rtol=0)
    scene.means[3] = torch.tensor([0.0, 0.0, 1e7])
    with pytest.raises(NpsError, match="farther away"):
        save_scene(scene, tmp_path / "far.spz")
    assert not (tmp_path / "far.spz").exists()


def test_a_splat_is_read_back_the_largest_gaussian_first(tmp_path: Path):
    scene = random_scene(sh_degree=1)
    save_scene(scene, tmp_path / "scene.splat")
    assert (tmp_path / "scene.splat").stat().st_size == 32 * len(scene)
    back, _ = load_scene(tmp_path / "scene.splat")
    size = scene.scales.prod(dim=1) * scene.opacities
    order = size.argsort(descending=True)
    sorted_scene = scene.at(order)
    torch.testing.assert_close(back.means, sorted_scene.means)
    torch.testing.assert_close(back.scales, sorted_scene.scales)
    torch.testing.assert_close(back.opacities, sorted_scene.opacities, atol=0.002, rtol=0)
    assert angles_deg(back.rotations, sorted_scene.rotations).max() < 1
    color = 0.5 + SH_DEGREE_0 * sorted_scene.harmonics[:, :, 0]
    shown = 0.5 + SH_DEGREE_0 * back.harmonics[:, :, 0]
    torch.testing.assert_close(shown, color.clamp(0, 1), atol=0.002, rtol=0)


def read_glb(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The document of a binary glTF, and its primitive's attributes."""
    content = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = struct.unpack_from("<I4s", content, 12)
    assert kind == b"JSON" and size % 4 == 0
    document = json.loads(content[20 : 20 + size])
    body = content[28 + size :]
    assert struct.unpack_from("<I4s", content, 20 + size) == (len(body), b"BIN\0")
    assert len(body) % 4 == 0 and document["buffers"] == [{"byteLength": len(body)}]
    attributes = {}
    for name, index in document["meshes"][0]["primitives"][0]["attributes"].items():
        accessor = document["accessors"][index]
        view = document["bufferViews"][accessor["bufferView"]]
        columns = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        kind = {5126: "<f4", 5121: "u1"}[accessor["componentType"]]
        part = body[view["byteOffset"] :][: view["byteLength"]]
        attributes[name] = np.frombuffer(part, kind).reshape(accessor["count"], columns)
    return document, attributes


def test_a_glb_holds_what_the_extension_names(tmp_path: Path):
    scene = random_scene(sh_degree=1)
    save_scene(scene, tmp_path / "scene.glb", [CAMERA])
    document, found = read_glb(tmp_path / "scene.glb")
    primitive = document["meshes"][0]["primitives"][0]
    assert document["extensionsUsed"] == ["KHR_gaussian_splatting"] and primitive["mode"] == 0
    assert primitive["extensions"]["KHR_gaussian_splatting"]["kernel"] == "ellipse"
    prefix = "KHR_gaussian_splatting:"
    assert found[prefix + "SCALE"] == pytest.approx(scene.scales.numpy())
    assert found[prefix + "OPACITY"][:, 0] == pytest.approx(scene.opacities.numpy())
    assert found[prefix + "ROTATION"] == pytest.approx(scene.rotations[:, [1, 2, 3, 0]].numpy())
    for degree, index, column in ((0, 0, 0), (1, 0, 1), (1, 1, 2), (1, 2, 3)):
        coefficient = found[f"{prefix}SH_DEGREE_{degree}_COEF_{index}"]
        assert coefficient == pytest.approx(scene.harmonics[:, :, column].numpy())
    bounds = document["accessors"][0]
    assert bounds["min"] == pytest.approx(scene.means.amin(0).tolist())
    assert bounds["max"] == pytest.approx(scene.means.amax(0).tolist())
    (camera,) = read_cameras(document["asset"]["extras"]["comments"])
    assert camera.name == "a.jpg"


def test_a_glb_is_upright_in_front_of_a_camera_that_looks_along_minus_z(tmp_path: Path):
    scene = random_scene()
    save_scene(scene, tmp_path / "scene.glb")
    document, found = read_glb(tmp_path / "scene.glb")
    x, y, z, w = document["nodes"][0]["rotation"]
    turned = torch.from_numpy(found["POSITION"].copy()) @ from_wxyz(torch.tensor([w, x, y, z])).T
    torch.testing.assert_close(turned, scene.means @ TURN, atol=1e-5, rtol=0)


def test_a_sog_is_read_back_as_it_was_but_for_its_few_bits_and_its_order(tmp_path: Path):
    scene = random_scene(300)
    save_scene(scene, tmp_path / "scene.sog")
    back, _ = load_scene(tmp_path / "scene.sog")
    scene, back = (each.at(each.means[:, 0].argsort()) for each in (scene, back))
    torch.testing.assert_close(back.means, scene.means, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(back.opacities, scene.opacities, atol=0.003, rtol=0)
    color = scene.harmonics[:, :, :1]
    torch.testing.assert_close(back.harmonics, color, atol=0.02, rtol=0)
    assert (back.scales.log() - scene.scales.log()).abs().median() < 0.02
    assert angles_deg(back.rotations, scene.rotations).median() < 1


CUT = struct.pack("<4sIIBBBx", b"NGSP", 3, 9, 0, 12, 0)
STRANGE = struct.pack("<4sIIBBBx", b"NGSP", 9, 1, 0, 12, 0)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("cut.splat", b"0" * 40, "no multiple of 32"),
        ("empty.splat", b"", "no multiple of 32"),
        ("text.spz", b"hello", "not know"),
        ("new.spz", b"NGSP" + bytes(60), "nps cannot read: version 0"),
        ("cut.spz", gzip.compress(b"NGSP", mtime=0), "cut short"),
        ("strange.spz", gzip.compress(STRANGE, mtime=0), "9"),
        ("short.spz", gzip.compress(CUT, mtime=0), "cut short"),
        ("scene.glb", b"glTF", "cut short"),
        ("scene.obj", b"", "is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_said(nps, tmp_path: Path, name: str, content: bytes, reason: str):
    (tmp_path / name).write_bytes(content)
    ran = nps("render", tmp_path / name, "-o", tmp_path / "a.png")
    assert ran.code == 1 and reason in ran.err and "hint" in ran.err
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("suffix", ["ply", "spz", "splat", "glb", "sog"])
def test_a_picture_of_the_scene_is_the_same_from_every_file(
    nps, tmp_path: Path, tiny_scene: Gaussians, suffix: str
):
    from PIL import Image

    depth = torch.linspace(0, 0.1, len(tiny_scene))[:, None]  # else which one is in front is open
    scene = replace(tiny_scene, means=tiny_scene.means * (1 + depth))
    pictures = []
    for name in ("reference.ply", f"scene.{suffix}"):
        save_scene(scene, tmp_path / name)
        picture = tmp_path / f"{name}.png"
        assert nps("render", tmp_path / name, "--size", "48x32", "-o", picture).code == 0
        pictures.append(np.asarray(Image.open(picture)).astype(float))
    assert pictures[0].std() > 20
    assert np.abs(pictures[0] - pictures[1]).mean() < 2


@pytest.mark.parametrize("format", ["ply", "splat", "glb"])
def test_large_scenes_are_encoded_in_pieces(monkeypatch, format: str):
    module = import_module(f"nps_cli.formats.{format}")
    monkeypatch.setattr(module, "PIECE", 10)
    _, *pieces = getattr(module, f"encode_{format}")(random_scene(sh_degree=0))
    assert max(map(len, pieces)) <= 10 * 17 * 4  # the 17 floats of a .ply without harmonics


def test_inspect_knows_every_scene_that_can_be_read(nps, tmp_path: Path):
    for suffix in ("spz", "splat", "glb", "sog"):
        save_scene(random_scene(sh_degree=0), tmp_path / f"scene.{suffix}")
        (facts,) = json.loads(nps("inspect", tmp_path / f"scene.{suffix}", "--json").out)
        assert (facts["kind"], facts["gaussians"], facts["sh_degree"]) == ("scene", 60, 0)


@pytest.mark.parametrize("name", ["s.obj", "s", "s.ply.gz"])
def test_a_name_of_no_scene_is_refused_before_any_work(nps, tmp_path: Path, name: str):
    ran = nps("reconstruct", "missing.jpg", "missing.png", "-o", tmp_path / name)
    assert ran.code == 2 and "not known" in ran.err and ".spz" in ran.err
