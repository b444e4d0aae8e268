"""What formats say about numbers at the edges: nodes, tags, bits, pieces."""

import gzip
import io
import json
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_files import FILES, known_scene, spz_content

from models.geometry.gaussians import PARAMETERS, Gaussians, transform
from models.geometry.rigid import from_wxyz, rigid_motion, rotation_angle
from nps_cli.errors import NpsError
from nps_cli.formats import load_scene, sog, spz_bits
from nps_cli.formats.ply import encode_ply
from nps_cli.formats.poses import write_poses
from nps_cli.formats.scene_file import Source
from nps_cli.formats.spz import encode_spz

MODULES = ("scene_file", "ply", "sog", "ksplat", "splat", "spz", "glb_reader", "compressed_ply")


def read(folder: Path, name: str, content: bytes) -> Gaussians:
    path = folder / name
    path.write_bytes(content)
    return load_scene(path)[0]


def assert_same(found: Gaussians, expected: Gaussians, tolerance: float = 1e-6) -> None:
    for name in PARAMETERS:
        one, other = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(one, other, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", FILES)
def test_a_scene_in_pieces_is_the_scene(tmp_path: Path, monkeypatch, name: str):
    content = FILES[name](known_scene())
    whole = read(tmp_path, name, content)
    for module in MODULES:
        monkeypatch.setattr(f"nps_cli.formats.{module}.PIECE", 3, raising=False)
    assert_same(read(tmp_path, name, content), whole)


def glb(change: Callable[[dict[str, Any]], None], name: str = "ours.glb") -> bytes:
    """A .glb whose JSON is changed."""
    content = FILES[name](known_scene())
    (length,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + length])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + length :]
    head = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
    return head + text + rest


def attribute(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the accessor of an attribute."""
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    (index,) = [index for key, index in attributes.items() if key.endswith(name)]
    return document["accessors"][index]


def test_a_node_of_glTF_is_scaled_then_turned_then_moved(tmp_path: Path):
    wxyz = torch.nn.functional.normalize(torch.tensor([0.8, 0.3, -0.4, 0.2]), dim=0)
    move = torch.tensor([1.0, 2.0, -3.0])
    turn = from_wxyz(wxyz)
    node = {"mesh": 0, "scale": [2, 2, 2], "rotation": [*wxyz[1:].tolist(), float(wxyz[0])]}
    node["translation"] = move.tolist()
    matrix = torch.eye(4)
    matrix[:3, :3], matrix[:3, 3] = 2 * turn, move
    flip = torch.diag(torch.tensor([1.0, -1, -1]))  # from glTF's axes to ours
    expected = transform(known_scene(), rigid_motion(flip @ turn, flip @ move).double(), 2.0)
    for each in (node, {"mesh": 0, "matrix": matrix.T.flatten().tolist()}):
        found = read(tmp_path, "a.glb", glb(lambda d, each=each: d.update(nodes=[each])))
        assert_same(replace(found, rotations=expected.rotations), expected, 1e-5)
        assert (from_wxyz(found.rotations) - from_wxyz(expected.rotations)).abs().max() < 1e-5


def test_nodes_without_a_transformation_leave_a_scene_where_it_is(tmp_path: Path):
    flip = rigid_motion(torch.diag(torch.tensor([1.0, -1, -1])), torch.zeros(3))
    plain = transform(known_scene(), flip.double(), 1.0)
    for nodes in ([{"mesh": 0}], [{"children": [1]}, {"mesh": 0}, {"name": "camera"}]):
        found = read(tmp_path, "a.glb", glb(lambda d, n=nodes: d.update(nodes=n)))
        assert_same(replace(found, rotations=plain.rotations), plain)
    twice = read(tmp_path, "a.glb", glb(lambda d: d.update(nodes=[{"mesh": 0}, {"mesh": 0}])))
    assert len(twice) == 2 * len(plain)


@pytest.mark.parametrize("scale", [[1, 1, 2], [-1, 1, 1], [0, 0, 0], [1e200, 1e200, 1e200]])
def test_a_node_that_squeezes_or_mirrors_gaussians_is_refused(tmp_path: Path, scale):
    with pytest.raises(NpsError):
        read(tmp_path, "a.glb", glb(lambda d: d.update(nodes=[{"mesh": 0, "scale": scale}])))


def set_in(name: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: attribute(document, name).update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        set_in("ROTATION", "count", 5),
        set_in("ROTATION", "count", -1),
        set_in("ROTATION", "type", "VEC3"),
        set_in("SCALE", "type", "VEC2"),
        set_in("OPACITY", "byteOffset", 10**6),
        set_in("OPACITY", "byteOffset", -(10**6)),
        set_in("OPACITY", "sparse", {}),
        set_in("POSITION", "count", 3),
        lambda document: document["bufferViews"][0].update(buffer=1),
        lambda document: document["bufferViews"][0].update(byteStride=2),
        lambda document: document["buffers"][0].update(uri="elsewhere.bin"),
        lambda document: document.update(nodes=[{"children": [0], "mesh": 0}]),
        lambda document: document.update(asset=None),
    ],
)
def test_glTF_that_points_outside_of_itself_is_damaged(tmp_path: Path, change):
    with pytest.raises(NpsError, match="damaged"):
        read(tmp_path, "a.glb", glb(change))


def test_glTF_compressed_by_an_extension_is_named(tmp_path: Path):
    def change(document):
        (primitive,) = document["meshes"][0]["primitives"]
        primitive["extensions"]["KHR_gaussian_splatting"]["extensions"] = {"X_spz": {}}

    with pytest.raises(NpsError, match="X_spz"):
        read(tmp_path, "a.glb", glb(change))


def test_normalized_bytes_in_glTF_are_shares(tmp_path: Path):
    def change(document):
        accessor = attribute(document, "OPACITY")
        accessor.update(componentType=5121, normalized=True)
        values = np.array([0, 51, 255, 102], np.uint8).tobytes()
        view = document["bufferViews"][accessor["bufferView"]]
        change.offset, change.values = view.get("byteOffset", 0), values
        view.pop("byteStride", None)

    content = bytearray(glb(change))
    start = content.index(b"BIN\0") + 4 + change.offset
    content[start : start + 4] = change.values
    found = read(tmp_path, "a.glb", bytes(content))
    torch.testing.assert_close(found.opacities, torch.tensor([0, 0.2, 1.0, 0.4]))


def test_only_degrees_whose_harmonics_are_all_there_count(tmp_path: Path):
    def change(document):
        (primitive,) = document["meshes"][0]["primitives"]
        keys = [key for key in primitive["attributes"] if key.endswith("DEGREE_1_COEF_2")]
        del primitive["attributes"][keys[0]]

    assert read(tmp_path, "a.glb", glb(change)).sh_degree == 0


def test_harmonics_of_sog_1_fill_their_shape_and_spread_evenly():
    image = np.zeros((64 * 8, 4), np.uint8)
    image[0, 1], image[1, 2] = 255, 51
    part = {"shape": [64, 24], "mins": -2.0, "maxs": 3.0}
    palette, degree = sog._palette(part, image)
    assert degree == 2 and palette.shape == (64, 3, 8)
    assert palette[0, 1, 0] == 3 and palette[0, 0, 0] == -2
    assert palette[0, 2, 1] == pytest.approx(-1)
    for width, expected in ((9, 1), (45, 3)):
        many = np.zeros((64 * width // 3, 4), np.uint8)
        assert sog._palette({**part, "shape": [64, width]}, many)[1] == expected
    for width in (0, 72):
        with pytest.raises(ValueError, match="degree"):
            sog._palette({**part, "shape": [64, width]}, image)


def test_rotations_of_sog_are_three_components_and_which_one_is_left_out():
    packed = np.full((5, 4), 127.5).round().astype(np.uint8)
    packed[:, 3] = [252, 253, 254, 255, 251]
    found = sog._unpack_rotations(packed)
    expected = torch.eye(4)[[0, 1, 2, 3, 0]]
    torch.testing.assert_close(found, expected, atol=0.005, rtol=0)
    assert found[4].tolist() == [1, 0, 0, 0]  # 251 is no tag
    for left_out in range(4):  # the others are in their order
        packed[0] = 40, 120, 190, 252 + left_out
        wxyz = sog._unpack_rotations(packed)[0].tolist()
        largest = wxyz.pop(left_out)
        expected = (torch.tensor([40, 120, 190]) / 127.5 - 1) / 2**0.5
        torch.testing.assert_close(torch.tensor(wxyz), expected)
        assert largest == pytest.approx(float(1 - expected.square().sum()) ** 0.5)


def far(distance: float) -> Gaussians:
    return replace(known_scene(), means=known_scene().means / 4 * distance)


@pytest.mark.parametrize("distance", [0.5, 4.0, 1000.0, 5e6])
def test_positions_of_spz_use_the_bits_that_the_farthest_leaves(tmp_path: Path, distance: float):
    found = read(tmp_path, "a.spz", b"".join(encode_spz(far(distance))))
    step = max(2 * distance / 2**23, 2**-12)
    error = (found.means - far(distance).means).abs().max()
    assert error <= step / 2 * 1.01 + 1e-7 * distance


def test_an_spz_holds_nothing_beyond_its_bits():
    with pytest.raises(NpsError, match="8388608 units"):
        list(encode_spz(far(9e6)))


def test_harmonics_of_spz_keep_five_bits_of_degree_1_and_four_above():
    values = 0.9 * torch.rand(1, 15, 3)
    packed = spz_bits.pack_harmonics(values).reshape(15, 3)
    assert (packed[:3] % 8 == 0).all() and (packed[3:] % 16 == 0).all()
    assert (packed[:3] % 16 != 0).any()
    off = np.abs((packed.astype(float) - 128) / 128 - values[0].numpy())
    assert off[:3].max() <= 4 / 128 + 1e-6 and off[3:].max() <= 8 / 128 + 1e-6


def test_rotations_of_spz_are_exact_to_a_fifth_of_a_degree():
    wxyz = torch.nn.functional.normalize(torch.randn(2000, 4), dim=1)
    found = spz_bits.unpack_rotations(spz_bits.pack_rotations(wxyz).reshape(-1, 4))
    angles = rotation_angle(from_wxyz(found), from_wxyz(wxyz)).rad2deg()
    assert angles.max() < 0.3 and angles.median() < 0.12


def test_an_spz_2_has_rotations_of_three_bytes(tmp_path: Path):
    content, count = bytearray(spz_content(known_scene(0))), 4
    xyz = np.array([[255, 128, 128]] * count, np.uint8).tobytes()
    place = 16 + count * 16
    whole = content[:place] + xyz
    struct.pack_into("<I", whole, 4, 2)
    found = read(tmp_path, "a.spz", gzip.compress(bytes(whole)))
    turned = from_wxyz(found.rotations[0])
    torch.testing.assert_close(
        turned, torch.diag(torch.tensor([1.0, -1, -1])), atol=0.02, rtol=0
    )  # half a turn about x


def test_a_ply_without_a_rotation_is_not_turned(tmp_path: Path):
    scene = replace(known_scene(), rotations=torch.zeros(4, 4))
    content = b"".join(encode_ply(scene))
    found = read(tmp_path, "a.ply", content)
    assert found.rotations.tolist() == [[1, 0, 0, 0]] * 4
    half = replace(scene, rotations=torch.tensor([0.0, 0, 0, -2]).expand(4, 4))
    assert read(tmp_path, "a.ply", b"".join(encode_ply(half))).rotations[0].tolist() == [
        *(0, 0, 0, -1)
    ]


@pytest.mark.parametrize(("degree", "kept"), [(None, 2), (0, 0), (1, 1), (2, 2), (3, 3), (4, 3)])
def test_a_ply_has_harmonics_up_to_the_last_that_is_not_zero(tmp_path: Path, degree, kept: int):
    scene = known_scene(2)
    padded = replace(scene, harmonics=torch.nn.functional.pad(scene.harmonics, (0, 7)))
    found = read(tmp_path, "a.ply", b"".join(encode_ply(padded, (), degree)))
    assert found.sh_degree == kept
    terms = (kept + 1) ** 2
    torch.testing.assert_close(found.harmonics, padded.harmonics[:, :, :terms])


@pytest.mark.parametrize("comment", ["two\nlines", "two\rlines"])
def test_a_comment_of_two_lines_is_refused(comment: str):
    with pytest.raises(ValueError, match="one line"):
        list(encode_ply(known_scene(), [comment]))


def test_poses_that_are_no_numbers_are_not_written(tmp_path: Path):
    with pytest.raises(ValueError):
        write_poses({"views": [float("nan")]}, tmp_path / "a.json", force=False)
    assert not list(tmp_path.iterdir())


def test_a_ksplat_of_another_level_is_named(tmp_path: Path):
    content = bytearray(FILES["plain.ksplat"](known_scene()))
    content[20] = 3
    with pytest.raises(NpsError, match="level 3"):
        read(tmp_path, "a.ksplat", bytes(content))


def test_stdin_stays_open_behind_a_scene(nps):
    for name in ("v3.spz", "3dgs.ply"):
        assert nps("inspect", "-", stdin=FILES[name](known_scene())).code == 0
        assert not sys.stdin.buffer.closed


class Trickle(io.RawIOBase):
    """A pipe that gives seven bytes at a time."""

    def __init__(self, content: bytes) -> None:
        self.rest = content

    def read(self, size: int = -1) -> bytes:
        taken, self.rest = self.rest[: min(size, 7)], self.rest[min(size, 7) :]
        return taken


def test_a_stream_that_gives_little_at_a_time_is_read_no_further_than_asked():
    source = Source(Trickle(bytes(range(100))), "the pipe", None)
    assert source.read(30) == bytes(range(30)) and source.read(5) == bytes(range(30, 35))
    with pytest.raises(NpsError, match="cut short"):
        source.read(66)
