import struct

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image

from nps_cli.errors import NpsError
from nps_cli.photos.exif import FOCAL_35MM
from nps_cli.photos.load import load_photo, load_photos

RED, BLUE = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])


def halves() -> list[Image.Image]:
    return [Image.new("RGB", (320, 240), color) for color in ("red", "blue")]


def exif() -> bytes:
    made = Image.Exif()
    made[0x010F] = "Maker"
    made.get_ifd(0x8769).update({FOCAL_35MM: 35})
    return made.tobytes()


def assert_red_and_blue(photos) -> None:
    left, right = photos
    torch.testing.assert_close(left.image.mean((1, 2)), RED, atol=0.02, rtol=0)
    torch.testing.assert_close(right.image.mean((1, 2)), BLUE, atol=0.02, rtol=0)


@pytest.fixture
def mpo(tmp_path):
    """A .mpo whose pictures have a type: by default the two of a stereo photo."""

    def save(kind: int = 0x020002):
        left, right = halves()
        path = tmp_path / "photo.mpo"
        left.save(path, "MPO", save_all=True, append_images=[right], exif=exif())
        content = path.read_bytes()
        with Image.open(path) as image:
            sizes = [entry["Size"] for entry in image.mpinfo[0xB002]]
        for size in sizes:
            place = content.index(struct.pack("<I", size)) - 4
            content = content[:place] + struct.pack("<I", kind) + content[place + 4 :]
        path.write_bytes(content)
        return path

    return save


def test_a_stereo_photo_in_an_mpo_is_two_photos(mpo):
    photos = load_photos([mpo()])

    assert_red_and_blue(photos)
    assert [photo.name for photo in photos] == ["photo-left.mpo", "photo-right.mpo"]
    assert [photo.facts.focal_35mm for photo in photos] == [35, 35]  # only the left one says so
    assert {photo.camera.size for photo in photos} == {(240, 320)}


@pytest.mark.parametrize("kind", [0, 0x010001, 0x030000])
def test_previews_and_gain_maps_are_no_second_photo(mpo, kind):
    (photo,) = load_photos([mpo(kind)])

    assert photo.name == "photo.mpo"


def test_the_photo_of_a_stereo_file_is_the_left_one(mpo):
    torch.testing.assert_close(load_photo(mpo()).image.mean((1, 2)), RED, atol=0.02, rtol=0)


def test_two_pictures_of_a_heic_are_two_photos_if_it_says_stereo(tmp_path):
    path = tmp_path / "photo.heic"
    heif = pillow_heif.from_pillow(halves()[0])
    heif.add_from_pillow(halves()[1])
    heif.save(path, quality=90)
    assert len(load_photos([path])) == 1
    meta = path.read_bytes()
    group = struct.pack(">I4sIII2I", 28, b"ster", 0, 1, 2, 1, 2)
    groups = struct.pack(">I4s", 8 + len(group), b"grpl") + group
    path.write_bytes(_with_box(meta, groups))

    assert_red_and_blue(load_photos([path]))


def _with_box(content: bytes, box: bytes) -> bytes:
    """Append a box to the `meta` box of a HEIC; items lie behind, so their offsets move."""
    start = content.index(b"meta") - 4
    (size,) = struct.unpack_from(">I", content, start)
    meta = bytearray(content[start : start + size])
    iloc = meta.index(b"iloc") + 4
    version, sizes = meta[iloc], meta[iloc + 4]
    assert version in (0, 1) and sizes >> 4 == 4, "offsets of four bytes"
    base_bytes, place = meta[iloc + 5] >> 4, iloc + 8
    for _ in range(struct.unpack_from(">H", meta, iloc + 6)[0]):
        place += 4 + 2 * version + base_bytes
        (extents,) = struct.unpack_from(">H", meta, place)
        place += 2
        for _ in range(extents):
            offset = struct.unpack_from(">I", meta, place)[0] + len(box)
            struct.pack_into(">I", meta, place, offset)
            place += 4 + (sizes & 15)
    struct.pack_into(">I", meta, 0, size + len(box))
    return content[:start] + bytes(meta) + box + content[start + size :]


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg"])
def test_side_by_side_pictures_are_two_photos_if_someone_says_so(tmp_path, name):
    pair = np.concatenate([np.asarray(half) for half in halves()], axis=1)
    Image.fromarray(pair).save(tmp_path / name, exif=exif())

    photos = load_photos([tmp_path / name], max_side=80, side_by_side=True)

    assert_red_and_blue(photos)
    assert {photo.image.shape for photo in photos} == {(3, 60, 80)}
    assert {photo.camera.size for photo in photos} == {(240, 320)}
    focal_px = [photo.camera.intrinsics[0, 0].item() * 320 for photo in photos]
    assert focal_px == pytest.approx([35 * 400 / np.hypot(36, 24)] * 2, rel=1e-5)


def test_one_stereo_photo_is_enough_for_poses(nps, mpo, monkeypatch):
    def fail(*_, **__):
        raise NpsError("got this far", hint="")

    monkeypatch.setattr("nps_cli.weights.networks.load_networks", fail)

    assert "got this far" in nps("pose", mpo()).err
    ran = nps("pose", mpo(0))  # two pictures that are no stereo photo
    assert ran.code == 2
    assert "2 or 3 photos" in ran.err


def test_stereo_takes_one_picture(nps, mpo):
    ran = nps("pose", mpo(), mpo(), "--stereo")

    assert ran.code == 2
    assert "1 picture" in ran.err


def test_more_than_three_photos_in_stereo_files_are_refused(nps, mpo):
    ran = nps("pose", mpo(), mpo())

    assert ran.code == 1
    assert "4 photos" in ran.err
