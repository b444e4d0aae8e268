import io
import json
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from nps_cli.errors import NpsError
from nps_cli.photos.load import load_photo

NOISE = np.random.default_rng(0).integers(0, 256, (600, 800, 3), np.uint8)


def jpeg(size: tuple[int, int], color: str | None = None, **how) -> bytes:
    stream = io.BytesIO()
    image = Image.new("RGB", size, color) if color else Image.fromarray(NOISE).resize(size)
    image.save(stream, "jpeg", **how)
    return stream.getvalue()


def digital_negative(*embedded: bytes, orientation: int = 1) -> bytes:
    """A TIFF with a thumbnail of 16 x 12 pixels, the tags of a DNG, and JPEGs behind it."""
    exif = [(0x829A, 3, 1), (0xA405, 3, 26)]  # exposure, 35 mm equivalent
    make, pixels = b"Maker\0", bytes(16 * 12 * 3)
    entries = 12
    ifd, exif_at = 8, 8 + 2 + 12 * entries + 4
    make_at = exif_at + 2 + 12 * len(exif) + 4
    pixels_at = make_at + len(make)
    tags = [
        (254, 4, 1, 1), (256, 4, 1, 16), (257, 4, 1, 12), (258, 3, 1, 8), (259, 3, 1, 1),
        (262, 3, 1, 2), (271, 2, len(make), make_at), (273, 4, 1, pixels_at),
        (274, 3, 1, orientation), (277, 3, 1, 3), (0x8769, 4, 1, exif_at), (50706, 1, 4, 0x401),
    ]  # fmt: skip
    content = b"II*\0" + struct.pack("<IH", ifd, entries)
    content += b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    content += struct.pack("<H", len(exif))
    content += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in exif)
    return content + bytes(4) + make + pixels + b"sensor".join([b"", *embedded, b""])


@pytest.fixture
def raw(tmp_path):
    def write(content: bytes, name: str = "photo.dng"):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["photo.dng", "photo.nef", "photo.tif"])
def test_a_raw_file_is_its_largest_preview(raw, name):
    small, large = jpeg((160, 120), "red"), jpeg((800, 600), "blue")

    photo = load_photo(raw(digital_negative(small, large, small), name))

    assert photo.camera.size == (600, 800)
    torch.testing.assert_close(
        photo.image.mean((1, 2)), torch.tensor([0, 0, 1.0]), atol=0.02, rtol=0
    )


def test_a_preview_has_the_camera_and_the_turn_of_its_raw_file(raw):
    photo = load_photo(raw(digital_negative(jpeg((800, 600)))))
    turned = load_photo(raw(digital_negative(jpeg((800, 600)), orientation=6), "turned.dng"))

    assert photo.facts.make == turned.facts.make == "Maker"
    assert photo.facts.focal_35mm == turned.facts.focal_35mm == 26
    assert (photo.orientation, turned.orientation) == (1, 6)
    assert turned.camera.size == (800, 600)
    assert turned.image.equal(photo.image.rot90(-1, (1, 2)))


def test_a_raw_file_of_an_unknown_container_is_searched_too(raw):
    content = b"FUJIFILMCCD-RAW " + bytes(100) + jpeg((800, 600)) + bytes(1000)

    assert load_photo(raw(content, "photo.raf")).camera.size == (600, 800)


@pytest.mark.parametrize(
    "embedded, said",
    [
        ([], "no JPEG"),
        ([jpeg((256, 192))], "256 x 192"),
        ([jpeg((1000, 100))], "panorama"),
        ([jpeg((800, 600), "gray")] * 9, "no JPEG"),  # tiles
        ([b"\xff\xd8\xff" * 1000], "no JPEG"),
        ([b"\xff\xd8\xff\xe0\0\x02" * 1000], "no JPEG"),
        ([b"\xff\xd8\xff\xc0\0\x0b\x08"], "no JPEG"),
    ],
)
def test_a_raw_file_without_a_preview_is_refused(raw, embedded, said):
    with pytest.raises(NpsError, match=said) as caught:
        load_photo(raw(digital_negative(*embedded)))

    assert caught.value.hint


def test_inspect_says_that_a_file_is_raw(nps, raw):
    ran = nps("inspect", "--json", raw(digital_negative()))

    (facts,) = json.loads(ran.out)
    assert "raw file" in facts["error"]
    assert "JPEG" in facts["hint"]


def test_a_jpeg_with_the_name_of_a_raw_file_is_a_jpeg(raw):
    assert load_photo(raw(jpeg((400, 300)), "photo.dng")).camera.size == (300, 400)
