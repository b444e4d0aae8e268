import io
import json
import logging
import math
import os
import struct
import threading
import zlib

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile

from nps_cli.errors import NpsError
from nps_cli.photos import load as load_module
from nps_cli.photos import opening
from nps_cli.photos.exif import FOCAL, FOCAL_35MM, MODEL
from nps_cli.photos.intrinsics import GivenIntrinsics
from nps_cli.photos.load import Photo, load_photo, load_photos

pillow_heif.register_heif_opener()
EXIF_DIRECTORY, ORIENTATION = 0x8769, 0x0112
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
COLORS = {  # of the corners, upright
    "top left": (1.0, 0.0, 0.0),
    "top right": (0.0, 1.0, 0.0),
    "bottom left": (0.0, 0.0, 1.0),
    "bottom right": (1.0, 1.0, 1.0),
}


def corners(height: int = 96, width: int = 160) -> np.ndarray:
    """Four colored quarters."""
    pixels = np.zeros((height, width, 3), np.uint8)
    (top_left, top_right), (bottom_left, bottom_right) = (
        np.array(list(COLORS.values())).reshape(2, 2, 3) * 255
    )
    pixels[: height // 2, : width // 2] = top_left
    pixels[: height // 2, width // 2 :] = top_right
    pixels[height // 2 :, : width // 2] = bottom_left
    pixels[height // 2 :, width // 2 :] = bottom_right
    return pixels


def exif(tags: dict[int, object]) -> Image.Exif:
    made = Image.Exif()
    for tag, value in tags.items():
        (made.get_ifd(EXIF_DIRECTORY) if tag > 0x9000 else made)[tag] = value
    return made


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores so that the tag makes it upright, by the tag's definition.

    The tag says where the stored row 0 and column 0 are in the upright picture.
    """
    row_axis_first = orientation < 5
    top = orientation in (1, 2, 5, 6)  # of row 0 if rows stay rows; of column 0 otherwise
    left = orientation in (1, 4, 5, 8)
    if not row_axis_first:
        top, left = orientation in (5, 6), orientation in (5, 8)
    picture = upright if top else upright[::-1]
    picture = picture if left else picture[:, ::-1]
    return picture if row_axis_first else picture.transpose(1, 0, 2)


def assert_upright(image: torch.Tensor, tolerance: float = 0.06) -> None:
    height, width = image.shape[1:]
    y, x = height // 4, width // 4
    for place, color in COLORS.items():
        row = y if "top" in place else height - 1 - y
        column = x if "left" in place else width - 1 - x
        torch.testing.assert_close(
            image[:, row, column], torch.tensor(color), atol=tolerance, rtol=0
        )


@pytest.fixture
def load(tmp_path):
    """Saves pixels, or an image, and loads the file: `load(pixels, "photo.jpg").camera`."""

    def load(pixels: np.ndarray | Image.Image, name: str = "photo.png", **how) -> Photo:
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(tmp_path / name, **how)
        return load_photo(tmp_path / name)

    return load


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "heic"])
def test_every_orientation_in_every_format_ends_upright(load, orientation, suffix):
    pixels = np.ascontiguousarray(stored(corners(), orientation))
    tags = exif({ORIENTATION: orientation, FOCAL_35MM: 28})

    photo = load(pixels, f"photo.{suffix}", exif=tags.tobytes())

    assert photo.camera.size == (96, 160)
    assert photo.image.shape == (3, 96, 160)
    assert photo.orientation == orientation
    assert photo.intrinsics_source == "exif-35mm"
    assert_upright(photo.image)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_impossible_orientation_is_ignored(load, orientation):
    photo = load(corners(), "photo.jpg", exif=exif({ORIENTATION: orientation}))

    assert photo.orientation is None
    assert_upright(photo.image)


def test_intrinsics_are_those_of_the_upright_photo(load):
    portrait = np.ascontiguousarray(stored(corners(160, 96), 6))

    photo = load(portrait, "photo.jpg", exif=exif({ORIENTATION: 6, FOCAL_35MM: 28}))

    focal_px = 28 * math.hypot(160, 96) / math.hypot(36, 24)
    expected = [[focal_px / 96, 0, 0.5], [0, focal_px / 160, 0.5], [0, 0, 1]]
    torch.testing.assert_close(photo.camera.intrinsics, torch.tensor(expected))
    assert photo.hfov_deg == pytest.approx(math.degrees(2 * math.atan(48 / focal_px)))


def test_a_large_photo_is_reduced_without_a_shift(tmp_path):
    path = tmp_path / "photo.jpg"
    width, height = 2400, 1600
    ramp = ((np.arange(width) + 0.5) / width * 255)[None].repeat(height, 0)
    Image.fromarray((ramp + 0.5).astype(np.uint8)).convert("RGB").save(path, quality=98)

    photo = load_photo(path, max_side=300)

    assert photo.camera.size == (1600, 2400)
    assert photo.image.shape == (3, 200, 300)
    centers = (torch.arange(300) + 0.5) / 300
    off = (photo.image[0, 100] - centers)[2:-2].mean().item()
    assert abs(off) < 0.25 * (0.5 / 300)  # of half a pixel


def test_reduction_averages_what_it_merges(tmp_path):
    path = tmp_path / "photo.png"
    checkers = np.indices((512, 512)).sum(0) % 2 * 255
    Image.fromarray(checkers.astype(np.uint8)).save(path)

    photo = load_photo(path, max_side=128)

    torch.testing.assert_close(photo.image, torch.full((3, 128, 128), 0.5), atol=0.01, rtol=0)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK", "YCbCr", "I;16", "F", "I"])
def test_pixels_of_any_type_keep_their_brightness(load, mode):
    gray = Image.fromarray(np.repeat([[0], [255]], 32, 0).repeat(64, 1).astype(np.uint8))
    if mode in ("I;16", "I"):
        image = np.asarray(gray, np.uint16 if mode == "I;16" else np.int32) * 257
    elif mode == "F":
        image = np.asarray(gray, np.float32) / 255
    else:
        image = (gray if mode in ("L", "1", "LA", "P") else gray.convert("RGB")).convert(mode)

    image = load(image, "photo.png" if mode in ("P", "LA", "1") else "photo.tiff").image

    assert image.shape == (3, 64, 64)
    torch.testing.assert_close(image[:, 8], torch.zeros(3, 64), atol=0.01, rtol=0)
    torch.testing.assert_close(image[:, -8], torch.ones(3, 64), atol=0.01, rtol=0)


def test_16_bit_gray_is_scaled_not_clipped(load):
    image = load(np.full((32, 32), 20000, np.uint16)).image

    assert image.mean().item() == pytest.approx(20000 / 65535, abs=0.003)


def test_what_is_transparent_becomes_white(load):
    pixels = np.zeros((32, 64, 4), np.uint8)
    pixels[..., 0], pixels[:, :32, 3], pixels[:, 32:, 3] = 255, 0, 128

    image = load(pixels).image

    torch.testing.assert_close(image[:, 16, 8], torch.ones(3))
    torch.testing.assert_close(image[:, 16, 56], torch.tensor([1, 0.5, 0.5]), atol=0.01, rtol=0)


def test_colors_follow_the_icc_profile(load):
    swapped = SRGB.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")

    color = load(Image.new("RGB", (32, 32), "red"), icc_profile=swapped).image[:, 0, 0]

    torch.testing.assert_close(color, torch.tensor([0.0, 0, 1]), atol=0.02, rtol=0)


@pytest.mark.parametrize("profile", [b"not a profile", b"\0" * 200])
def test_a_broken_icc_profile_is_ignored(load, profile):
    assert_upright(load(corners(), "photo.jpg", icc_profile=profile).image)


def test_an_rgb_profile_on_a_gray_photo_is_ignored(load):
    image = load(Image.new("L", (32, 32), 100), "photo.jpg", icc_profile=SRGB).image

    assert image.mean().item() == pytest.approx(100 / 255, abs=0.01)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff", "mpo"])
def test_of_many_frames_the_first_counts(load, suffix):
    first, second = Image.new("RGB", (64, 48), "red"), Image.new("RGB", (64, 48), "blue")

    image = load(first, f"photo.{suffix}", save_all=True, append_images=[second]).image

    torch.testing.assert_close(image.mean((1, 2)), torch.tensor([1.0, 0, 0]), atol=0.02, rtol=0)


def test_garbage_in_the_exif_does_not_hide_the_photo(load):
    garbage = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xee" * 50

    photo = load(corners(), "photo.jpg", exif=garbage)

    assert photo.intrinsics_source == "guessed"
    assert_upright(photo.image)


def test_the_note_says_where_the_focal_length_came_from(load):
    notes = [
        load(corners(), "photo.jpg", exif=exif(tags)).intrinsics_note
        for tags in ({FOCAL_35MM: 26}, {FOCAL: 4.9, MODEL: "D6503"}, {})
    ]

    assert "26 mm" in notes[0] and "EXIF" in notes[0]
    assert "4.9 mm" in notes[1] and "sensor" in notes[1]
    assert "guessed" in notes[2]


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body
    data = b"IDAT" + zlib.compress(b"\0" * 1000)
    parts = start, struct.pack(">I", zlib.crc32(body)), struct.pack(">I", len(data) - 4), data
    return b"".join(parts) + struct.pack(">I", zlib.crc32(data))


def encoded(suffix: str) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, format=suffix)
    return stream.getvalue()


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("text.jpg", b"this is a letter, not a photo", "not an image"),
        ("empty.jpg", b"", "empty"),
        ("byte.png", b"\x89", "not an image"),
        ("cut.jpg", encoded("jpeg")[:9000], "cannot be decoded"),
        ("cut.png", encoded("png")[:9000], "cannot be decoded"),
        ("cut.webp", encoded("webp")[:9000], "not an image|cannot be decoded"),
        ("cut.tiff", encoded("tiff")[:9000], "cannot be decoded"),
        ("cut.heic", encoded("heif")[:9000], "not an image|cannot be decoded"),
        ("bomb.png", png_header(60000, 20000), "178 megapixels"),
        ("sliver.png", png_header(4000, 3), "4000 x 3"),
        ("ribbon.png", png_header(4000, 400), "4000 x 400"),
        ("dot.png", png_header(8, 8), "8 x 8"),
        ("drawing.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n\n", "drawing"),
    ],
)
def test_what_is_no_photo_gets_one_sentence_and_a_hint(tmp_path, capfd, name, content, expected):
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(NpsError, match=expected) as caught:
        load_photo(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_a_folder_and_a_pipe_are_told_apart(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")

    for name, expected in [
        ("nowhere.jpg", "does not exist"),
        (".", "folder"),
        ("pipe.jpg", "not a regular file"),
        ("x" * 300, "too long"),
    ]:
        with pytest.raises(NpsError, match=expected):
            load_photo(tmp_path / name)


def test_a_jpeg_beyond_pillows_limit_is_decoded_at_a_smaller_scale(tmp_path, monkeypatch):
    Image.fromarray(corners(960, 1600)).save(tmp_path / "photo.jpg", exif=exif({FOCAL_35MM: 28}))
    Image.fromarray(corners(960, 1600)).save(tmp_path / "photo.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    decoded = []
    load = JpegImageFile.load
    monkeypatch.setattr(JpegImageFile, "load", lambda self: decoded.append(self.size) or load(self))

    photo = load_photo(tmp_path / "photo.jpg", max_side=160)

    assert set(decoded) == {(200, 120)}
    assert photo.camera.size == (960, 1600)
    assert photo.intrinsics_source == "exif-35mm"
    assert_upright(photo.image)
    with pytest.raises(NpsError, match="megapixels"):
        load_photo(tmp_path / "photo.png")


def test_photos_are_decoded_at_the_same_time_and_keep_their_order(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for number, path in enumerate(paths):
        Image.new("RGB", (64, 48 + number)).save(path)
    both = threading.Barrier(2, timeout=20)
    check = opening.open_image
    monkeypatch.setattr(load_module, "open_image", lambda path: (both.wait(), check(path))[1])

    photos = load_photos(paths)

    assert [photo.camera.size for photo in photos] == [(48, 64), (49, 64)]


def test_the_first_bad_photo_is_named(tmp_path):
    paths = [tmp_path / name for name in ("first.jpg", "second.jpg")]

    with pytest.raises(NpsError, match="first"):
        load_photos(paths)


def test_stderr_and_logs_are_as_before_after_photos_were_loaded(tmp_path, capfd):
    paths = [tmp_path / f"{number}.tiff" for number in range(6)]
    for path in paths:
        Image.new("RGB", (640, 480)).save(path, compression="tiff_lzw")
    level = logging.getLogger("exifread").level

    load_photos(paths)
    os.write(2, b"still here")

    assert capfd.readouterr().err == "still here"
    assert logging.getLogger("exifread").level == level


@pytest.fixture
def two_photos(tmp_path):
    paths = [tmp_path / "wide.jpg", tmp_path / "tall.jpg"]
    Image.new("RGB", (400, 300)).save(paths[0])
    Image.new("RGB", (300, 400)).save(paths[1])
    return paths


def test_one_given_equivalent_serves_all_photos(two_photos):
    wide, tall = load_photos(two_photos, GivenIntrinsics(focal_35mm=(50.0,)))

    focal_px = 50 * 500 / math.hypot(36, 24)
    assert wide.camera.intrinsics[0, 0].item() == pytest.approx(focal_px / 400)
    assert tall.camera.intrinsics[0, 0].item() == pytest.approx(focal_px / 300)
    assert wide.intrinsics_source == tall.intrinsics_source == "given"


def test_a_given_field_of_view_is_horizontal_and_may_differ_per_photo(two_photos):
    wide, tall = load_photos(two_photos, GivenIntrinsics(fov_deg=(60.0, 90.0)))

    assert wide.hfov_deg == pytest.approx(60)
    assert tall.hfov_deg == pytest.approx(90)
    assert tall.camera.intrinsics[1, 1].item() == pytest.approx(0.5 * 300 / 400)  # square pixels


def camera(width: int, height: int, scale: float = 1.0) -> dict:
    matrix = [[380 * scale, 0, 190 * scale], [0, 390 * scale, 160 * scale], [0, 0, 1]]
    return {"intrinsics_px": matrix, "width": width, "height": height}


@pytest.mark.parametrize("scale", [1, 3.5])
@pytest.mark.parametrize("wrap", [lambda view: view, lambda view: [view], lambda v: {"views": [v]}])
def test_a_file_gives_intrinsics_at_any_scale_of_the_photo(tmp_path, two_photos, wrap, scale):
    file = tmp_path / "camera.json"
    file.write_text(json.dumps(wrap(camera(round(400 * scale), round(300 * scale), scale))))

    (photo,) = load_photos(two_photos[:1], GivenIntrinsics(file=file))

    expected = [[380 / 400, 0, 190 / 400], [0, 390 / 300, 160 / 300], [0, 0, 1]]
    torch.testing.assert_close(photo.camera.intrinsics, torch.tensor(expected))


@pytest.mark.parametrize(
    "document, expected",
    [
        (camera(300, 400), "300 x 400"),
        (camera(400, 310), "400 x 310"),
        ([camera(400, 300)] * 3, "3 cameras for 1 photos"),
        ([], "no cameras"),
        ({"views": []}, "no cameras"),
        ("text", "no cameras"),
        ([1], "not a camera"),
        ({"width": 400, "height": 300}, "not a camera"),
        (camera(400, 300) | {"intrinsics_px": [[0, 0, 1], [0, 1, 1], [0, 0, 1]]}, "not a pinhole"),
        (camera(400, 300) | {"intrinsics_px": [[math.nan, 0, 1], [0, 1, 1], [0, 0, 1]]}, "NaN"),
        (camera(400, 300) | {"width": 0}, "size is 0"),
    ],
)
def test_a_wrong_intrinsics_file_says_what_is_wrong(tmp_path, two_photos, document, expected):
    file = tmp_path / "camera.json"
    file.write_text(json.dumps(document))

    with pytest.raises(NpsError, match=expected):
        load_photos(two_photos[:1], GivenIntrinsics(file=file))


def test_an_unreadable_intrinsics_file_is_an_error_with_a_hint(tmp_path, two_photos):
    (tmp_path / "photo.json").write_bytes(b"\xff\xd8\xff")

    for name in ("photo.json", "nowhere.json"):
        with pytest.raises(NpsError, match=name):
            load_photos(two_photos, GivenIntrinsics(file=tmp_path / name))


def test_the_focal_length_is_given_in_one_way_only():
    with pytest.raises(NpsError, match="more than one way"):
        GivenIntrinsics(focal_35mm=(28.0,), fov_deg=(60.0,))


def test_the_number_of_given_values_is_one_or_that_of_the_photos(two_photos):
    with pytest.raises(NpsError, match="3 cameras for 2 photos"):
        load_photos(two_photos, GivenIntrinsics(fov_deg=(60.0, 61.0, 62.0)))


def test_a_file_of_many_named_photos_gives_each_its_own(tmp_path, two_photos):
    named = [camera(400, 300) | {"photo": two_photos[0].name}, camera(8, 8) | {"photo": "z.jpg"}]
    named.insert(0, camera(300, 400) | {"photo": two_photos[1].name})
    file = tmp_path / "poses.json"
    file.write_text(json.dumps({"views": named}))
    wide, tall = load_photos(two_photos, GivenIntrinsics(file=file))
    assert wide.camera.intrinsics[0, 0].item() == pytest.approx(380 / 400)
    assert tall.camera.intrinsics[0, 0].item() == pytest.approx(380 / 300)


def test_frames_of_one_camera_are_one_camera_and_its_distortion_is_left_out_with_a_word(
    tmp_path, two_photos, capsys
):
    eye = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    frames = [{"file_path": f"{i}.png", "transform_matrix": eye} for i in range(9)]
    document = {"fl_x": 380, "w": 400, "h": 300, "k1": 0.1, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(document))
    given = GivenIntrinsics(file=tmp_path / "transforms.json")
    (photo,) = load_photos(two_photos[:1], given)
    assert photo.camera.intrinsics[0, 0].item() == pytest.approx(380 / 400)
    assert "distortion" in capsys.readouterr().err
