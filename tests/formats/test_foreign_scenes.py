"""Scenes of other programs are read as they were meant, and what is none is named."""

import gzip
import io
import os
import struct
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_files import FILES, glb_elsewhere, known_scene, sog, spz_4, spz_content
from PIL import Image

from models.geometry.gaussians import PARAMETERS, SH_DEGREE_0, Gaussians, transform
from models.geometry.rigid import from_wxyz, rigid_motion
from nps_cli.errors import NpsError
from nps_cli.formats import is_scene, load_scene
from nps_cli.formats.ply import encode_ply

WITHOUT_HARMONICS = ("v1.spz", "v1.sog", "web.splat")


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def by_place(scene: Gaussians) -> Gaussians:
    return scene.at(scene.means[:, 2].argsort())


@pytest.mark.parametrize("name", FILES)
def test_a_scene_is_the_same_in_every_format(tmp_path: Path, name: str):
    scene = known_scene()

    found, _ = load_scene(write(tmp_path, name, FILES[name](scene)))

    if name == "elsewhere.glb":  # turned about z and back; half as large; then moved
        scene = replace(scene, means=scene.means / 2, scales=scene.scales / 2)
        scene = replace(scene, means=scene.means + torch.tensor([-1.0, -2.0, 3.0]))
    found, scene = by_place(found), by_place(scene)
    torch.testing.assert_close(found.means, scene.means, atol=4e-3, rtol=0)
    torch.testing.assert_close(found.scales.log(), scene.scales.log(), atol=0.035, rtol=0)
    torch.testing.assert_close(found.opacities, scene.opacities, atol=0.02, rtol=0)
    turned = from_wxyz(found.rotations) - from_wxyz(scene.rotations)
    assert turned.abs().max() < (0.1 if name == "v1.spz" else 0.03)  # w follows from three bytes
    degree = 0 if name in WITHOUT_HARMONICS else 1
    assert found.sh_degree == degree
    expected = scene.harmonics[:, :, : (degree + 1) ** 2]
    torch.testing.assert_close(found.harmonics, expected, atol=0.07, rtol=0)


@pytest.mark.parametrize("name", FILES)
def test_damage_never_gets_past_the_one_error(tmp_path: Path, name: str):
    content = FILES[name](known_scene())
    generator = np.random.default_rng(1)
    for trial in range(60):
        broken = bytearray(content)
        for place in generator.integers(0, min(len(content), 1500), 3):
            broken[place] = generator.integers(0, 256)
        cut = len(content) if trial % 3 else int(generator.integers(0, len(content)))
        try:
            found, _ = load_scene(write(tmp_path, name, bytes(broken[:cut])))
        except NpsError as error:
            assert "\n" not in str(error)
        else:
            assert all(getattr(found, name).isfinite().all() for name in PARAMETERS)


def test_the_name_of_a_file_does_not_matter(nps, tmp_path: Path):
    path = write(tmp_path, "scene.ksplat", FILES["3dgs.ply"](known_scene()))
    other = write(tmp_path, "scene", spz_4(known_scene()))

    assert len(load_scene(path)[0]) == len(load_scene(other)[0]) == 4
    assert is_scene(other)
    assert nps("inspect", other).code == 0


@pytest.mark.parametrize("name", ["3dgs.ply", "v3.spz", "v4.spz", "v2.sog", "ours.glb", "ply.gz"])
def test_a_scene_is_read_from_stdin(nps, name: str):
    ran = nps("inspect", "-", "--json", stdin=FILES[name](known_scene()))

    assert ran.code == 0 and '"gaussians": 4' in ran.out


def with_rgb(kind: str, largest: float) -> bytes:
    """A .ply with red, green and blue instead of f_dc, as nerfstudio exports it."""
    names = ["x", "y", "z", "opacity", *(f"scale_{i}" for i in range(3))]
    names += [f"rot_{i}" for i in range(4)]
    lines = ["ply", "format binary_little_endian 1.0", "element vertex 1"]
    lines += [f"property float {name}" for name in names]
    lines += [f"property {kind} {name}" for name in ("red", "green", "blue")]
    color = np.array([1.0, 0.2, 0.0]) * largest
    values = np.array([0, 0, 2, 1, -3, -3, -3, 1, 0, 0, 0], "<f4").tobytes()
    code = {"uchar": "u1", "ushort": "<u2", "float": "<f4"}[kind]
    return "\n".join([*lines, "end_header", ""]).encode() + values + color.astype(code).tobytes()


@pytest.mark.parametrize("kind, largest", [("uchar", 255), ("ushort", 65535), ("float", 1)])
def test_red_green_and_blue_are_the_base_color(tmp_path: Path, kind: str, largest: float):
    scene, _ = load_scene(write(tmp_path, "scene.ply", with_rgb(kind, largest)))

    color = 0.5 + SH_DEGREE_0 * scene.harmonics[0, :, 0]
    torch.testing.assert_close(color, torch.tensor([1.0, 0.2, 0.0]), atol=1e-3, rtol=0)


def many(count: int = 100) -> Gaussians:
    scene = known_scene(0)
    return scene.at(torch.arange(count) % len(scene))


@pytest.mark.parametrize("field", ["means", "scales", "rotations", "harmonics"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_few_broken_gaussians_are_left_out_with_a_word(
    nps, tmp_path: Path, field: str, value: float
):
    content = bytearray(b"".join(encode_ply(many())))
    start, offset = (
        len(content) - 100 * 68,
        {"means": 0, "harmonics": 24, "scales": 40, "rotations": 52},
    )
    for row in (7, 30):
        struct.pack_into("<f", content, start + 68 * row + offset[field], value)

    ran = nps("inspect", write(tmp_path, "scene.ply", bytes(content)), "--json")

    if field == "scales" and value == -np.inf:  # a flat one
        assert ran.code == 0 and '"gaussians": 100' in ran.out
    else:
        assert ran.code == 0 and '"gaussians": 98' in ran.out
        assert "2 of 100" in ran.err


def test_a_splat_of_broken_gaussians_is_refused(nps, tmp_path: Path):
    record = struct.pack("<6f8B", np.nan, 0, 1, 0.1, 0.1, 0.1, *[255] * 4, *[128] * 4)

    ran = nps("render", write(tmp_path, "a.splat", record * 5), "-o", tmp_path / "a.png")

    assert ran.code == 1 and "of 5" in ran.err and not (tmp_path / "a.png").exists()


def ply(*lines: str, body: bytes = b"") -> bytes:
    return (
        "\n".join(["ply", "format binary_little_endian 1.0", *lines, "end_header", ""]).encode()
        + body
    )


XYZ = [f"property float {axis}" for axis in "xyz"]
FLAT = [f"property float {name}" for name in ("opacity", "scale_0", "scale_1")]
FLAT += [f"property float rot_{i}" for i in range(4)] + [
    f"property float f_dc_{i}" for i in range(3)
]


def archive(name: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(name, "{}")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (ply("element vertex 2", *XYZ, body=bytes(24)), "point cloud of 2 points"),
        (ply("element vertex 1", *XYZ, *FLAT, body=bytes(52)), "2DGS"),
        (ply("element vertex 1", *XYZ, "element face 3", "property list uchar int v"), "mesh of 3"),
        (ply("element vertex 3"), "no vertices"),
        (b"\x89PNG\r\n\x1a\n" + bytes(90), "PNG picture"),
        (b"{}", "JSON"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"", "empty"),
        (archive("word/document.xml"), "zip archive without meta.json"),
        (archive("meta.json"), "damaged"),
        (gzip.compress(b"hello", mtime=0), "no scene is in it"),
        (bytes(100), "does not know"),
    ],
)
def test_what_is_no_scene_is_named(nps, tmp_path: Path, content: bytes, words: str):
    ran = nps("inspect", write(tmp_path, "scene.ply", content))

    assert ran.code == 1 and words in ran.err and "hint" in ran.err


def test_glTF_without_gaussians_is_a_model(tmp_path: Path):
    content = glb_elsewhere(known_scene()).replace(
        b'"KHR_gaussian_splatting": {"k', b'"KHR_gaussian_splattinG": {"k'
    )

    with pytest.raises(NpsError, match="model without Gaussians"):
        load_scene(write(tmp_path, "a.glb", content))


def spz_bomb() -> bytes:
    return gzip.compress(spz_content(known_scene()) + bytes(1 << 26), mtime=0)


def spz_claim() -> bytes:
    """A header that promises 100 million Gaussians, and the zeros that it promises."""
    header = struct.pack("<4sII4B", b"NGSP", 3, 100_000_000, 0, 12, 0, 0)
    return gzip.compress(header + bytes(1 << 20), mtime=0)


def spz_4_claim() -> bytes:
    content = bytearray(spz_4(known_scene(0)))
    struct.pack_into("<I", content, 8, 200_000_000)
    return bytes(content)


def ply_claim() -> bytes:
    return FILES["3dgs.ply"](known_scene()).replace(b"vertex 4", b"vertex 4000000000")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.spz", spz_bomb()),
        ("a.spz", spz_claim()),
        ("b.spz", spz_4_claim()),
        ("a.ply.gz", gzip.compress(ply_claim() + bytes(1 << 25), mtime=0)),
        ("a.ply", ply_claim()),
    ],
)
def test_a_small_file_never_becomes_a_large_scene(tmp_path: Path, name: str, content: bytes):
    path = write(tmp_path, name, content)
    began = time.perf_counter()

    with pytest.raises(NpsError, match=r"damaged|cut short"):
        load_scene(path)

    assert time.perf_counter() - began < 1


def without_a_bound() -> bytes:
    return FILES["compressed.ply"](known_scene()).replace(b"property float min_g\n", b"")


def with_buckets_of(count: int) -> bytes:
    content = bytearray(FILES["half.ksplat"](known_scene()))
    struct.pack_into("<H", content, 4096 + 20, count)
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content"), [("a.ply", without_a_bound()), ("a.ksplat", with_buckets_of(13))]
)
def test_numbers_that_contradict_each_other_are_damage(tmp_path: Path, name: str, content: bytes):
    with pytest.raises(NpsError, match=r"damaged|cut short"):
        load_scene(write(tmp_path, name, content))


def test_a_sog_with_an_empty_palette_is_damaged(tmp_path: Path):
    tiny, stream = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (1, 1)).save(tiny, "WEBP")
    with (
        zipfile.ZipFile(io.BytesIO(sog(known_scene(1)))) as old,
        zipfile.ZipFile(stream, "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, tiny.getvalue() if "centroids" in name else old.read(name))
    with pytest.raises(NpsError, match="palette"):
        load_scene(write(tmp_path, "a.sog", stream.getvalue()))


def test_pictures_of_a_sog_are_limited_by_its_size(tmp_path: Path):
    picture = io.BytesIO()
    Image.new("RGBA", (5000, 1000)).save(picture, "WEBP", lossless=True)
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(sog(known_scene(0)))) as old,
        zipfile.ZipFile(stream, "w") as new,
    ):
        for name in old.namelist():
            new.writestr(name, picture.getvalue() if name == "means_l.webp" else old.read(name))

    with pytest.raises(NpsError, match="5000 x 1000"):
        load_scene(write(tmp_path, "a.sog", stream.getvalue()))


@pytest.mark.parametrize("bits", [31, 64, 200])
def test_an_spz_with_impossible_fractional_bits_is_refused(tmp_path: Path, bits: int):
    content = bytearray(spz_content(known_scene()))
    content[13] = bits

    with pytest.raises(NpsError, match=f"{bits} fractional bits"):
        load_scene(write(tmp_path, "a.spz", gzip.compress(bytes(content))))


def test_only_regular_files_are_opened(nps, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.ply")

    for path in (tmp_path / "pipe.ply", Path("/dev/zero"), tmp_path):
        with pytest.raises(NpsError, match="no regular file"):
            load_scene(path)
    assert nps("inspect", tmp_path / "pipe.ply").code == 1


def test_a_turned_scene_looks_the_same_to_a_turned_camera():
    from models.geometry.camera import Camera
    from models.render import render

    scene = known_scene(3)
    rotation = from_wxyz(torch.tensor([0.8, 0.3, -0.4, 0.2]))
    motion = rigid_motion(rotation, torch.tensor([0.3, -0.2, 0.5]))
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    camera = Camera(intrinsics, torch.eye(4), (32, 32))
    moved = replace(camera, world2cam=camera.world2cam @ torch.linalg.inv(motion))

    before = render(scene, camera).color
    after = render(transform(scene, motion), moved).color

    assert before.std() > 0.03
    torch.testing.assert_close(after, before, atol=2e-3, rtol=0)
