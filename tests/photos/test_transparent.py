"""The transparent part of a cut-out is no part of the photo, whatever the file's kind."""

import cv2
import numpy as np
import pytest
from PIL import Image

from nps_cli.errors import NpsError
from nps_cli.photos.load import load_photo

SIZE = (64, 96)
OPAQUE = np.zeros(SIZE, bool)
OPAQUE[10:50, 20:60] = True


def cut_out(opaque: np.ndarray = OPAQUE) -> Image.Image:
    color = np.random.default_rng(0).integers(0, 200, (*SIZE, 3), np.uint8)
    return Image.fromarray(np.dstack([color, 255 * opaque.astype(np.uint8)]))


def palette() -> Image.Image:
    indices = np.array(cut_out().convert("RGB").quantize(200))
    indices[~OPAQUE] = 200
    image = Image.fromarray(indices, "P")
    image.putpalette(list(range(201)) * 3)
    return image


def save_16_bit(path) -> None:
    cv2.imwrite(str(path), np.array(cut_out()).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("rgba.png", lambda path: cut_out().save(path)),
        ("gray.png", lambda path: cut_out().convert("LA").save(path)),
        ("palette.png", lambda path: palette().save(path, transparency=200)),
        ("palette.gif", lambda path: palette().save(path, transparency=200)),
        ("rgba.tif", lambda path: cut_out().save(path)),
        ("rgba.webp", lambda path: cut_out().save(path, lossless=True)),
        ("16-bit.png", save_16_bit),
    ],
)
def test_the_mask_is_what_is_not_transparent(tmp_path, name, save):
    save(tmp_path / name)
    photo = load_photo(tmp_path / name)
    assert np.array_equal(photo.mask, OPAQUE)
    assert photo.view.mask is photo.mask


def test_a_mask_is_turned_with_its_photo(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    cut_out().save(tmp_path / "a.png", exif=turned)
    assert np.array_equal(load_photo(tmp_path / "a.png").mask, np.rot90(OPAQUE, -1))


def test_soft_edges_are_transparent_and_a_veil_over_all_is_not(tmp_path):
    image = cut_out()
    alpha = np.where(OPAQUE, 180, 0).astype(np.uint8)
    alpha[10:50, 20:24] = 90
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "soft.png")
    image.putalpha(180)
    image.save(tmp_path / "veil.png")
    assert int(load_photo(tmp_path / "soft.png").mask.sum()) == 40 * 36
    assert load_photo(tmp_path / "veil.png").mask is None


def test_a_photo_that_is_transparent_everywhere_is_refused(tmp_path):
    cut_out(np.zeros(SIZE, bool)).save(tmp_path / "nothing.png")
    with pytest.raises(NpsError, match="transparent everywhere"):
        load_photo(tmp_path / "nothing.png")
