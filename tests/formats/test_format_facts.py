"""What formats say about numbers at the edges: nodes, tags, bits, pieces."""

import gzip
import io
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_files import FILES, assert_same, known_scene, read, spz_content

from models.geometry.gaussians import Gaussians
from models.geometry.rigid import from_wxyz, rotation_angle
from nps_cli.errors import NpsError
from nps_cli.formats import sog, spz_bits
from nps_cli.formats.ply import encode_ply
from nps_cli.formats.poses import write_poses
from nps_cli.formats.scene_file import Source
from nps_cli.formats.spz import encode_spz

MODULES = ("scene_file", "ply", "sog", "ksplat", "splat", "spz", "glb_reader", "compressed_ply")


@pytest.mark.parametrize("name", FILES)
def test_a_scene_in_pieces_is_the_scene(tmp_path: Path, monkeypatch, name: str):
    content = FILES[name](known_scene())
    whole = read(tmp_path, name, content)
    for module in MODULES:
        monkeypatch.setattr(f"nps_cli.formats.{module}.PIECE", 3, raising=False)
    assert_same(read(tmp_path, name, content), whole)


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


def test_quaternions_of_sog_that_leave_nothing_for_the_last_number_are_unit_ones():
    packed = np.array([[255, 255, 255, sog.FIRST_QUATERNION_TAG]], np.uint8)
    (wxyz,) = sog._unpack_rotations(packed)
    torch.testing.assert_close(wxyz, torch.tensor([0, 1, 1, 1]) / 3**0.5)


def test_a_ksplat_of_another_level_is_named(tmp_path: Path):
    content = bytearray(FILES["plain.ksplat"](known_scene()))
    content[20] = 3
    with pytest.raises(NpsError, match="level 3"):
        read(tmp_path, "a.ksplat", bytes(content))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["plain.ksplat", "3dgs.ply", "ours.glb", "v3.spz", "v4.spz"])
def test_every_degree_of_harmonics_is_read(tmp_path: Path, name: str, degree: int):
    scene = known_scene(degree)
    found = read(tmp_path, name, FILES[name](scene))
    assert found.sh_degree == degree
    torch.testing.assert_close(found.means, scene.means, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.harmonics, scene.harmonics, atol=0.07, rtol=0)


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
