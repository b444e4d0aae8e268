"""Screenshots are loaded without the screen around their photos."""

import json

import numpy as np
import pytest
from PIL import Image

from nps_cli.photos.exif import FILM_DIAGONAL_MM, GUESSED_35MM
from nps_cli.photos.intrinsics import GivenIntrinsics
from nps_cli.photos.load import load_photos


@pytest.fixture
def shots(tmp_path):
    """Two screenshots with a photo of 200 x 160 pixels at (50, 120)."""
    random = np.random.default_rng(0)
    screen = np.full((500, 300, 3), 255, np.uint8)
    screen[10:40, 20:90] = random.integers(0, 255, (30, 70, 3))
    paths = []
    for name in ("a.png", "b.png"):
        screen[120:280, 50:250] = random.integers(0, 255, (160, 200, 3))
        paths.append(tmp_path / name)
        Image.fromarray(screen).save(paths[-1])
    return paths


def test_the_photo_in_a_screenshot_has_its_own_size_and_guess(shots):
    for photo in load_photos(shots):
        assert photo.camera.size == photo.image.shape[1:] == (160, 200)
        assert (photo.window.top, photo.window.left) == (120, 50)
        focal_px = GUESSED_35MM * np.hypot(160, 200) / FILM_DIAGONAL_MM
        assert photo.camera.intrinsics_px[0, 0] == pytest.approx(focal_px)
        assert photo.camera.intrinsics[0, 2] == photo.camera.intrinsics[1, 2] == 0.5
        assert photo.view.camera.focal_group == 0


def test_a_reduced_screenshot_gives_its_photo_in_full_detail(shots):
    photo, _ = load_photos(shots, max_side=200)
    assert photo.image.shape[1:] == pytest.approx((160, 200), abs=4)
    assert photo.camera.size == pytest.approx((160, 200), abs=4)


def test_a_given_focal_length_is_the_photos_and_a_file_is_for_the_screenshot(shots, tmp_path):
    by_focal, _ = load_photos(shots, GivenIntrinsics(focal_35mm=(43.2666,)))
    assert by_focal.camera.intrinsics_px[0, 0] == pytest.approx(np.hypot(160, 200), rel=1e-4)
    file = tmp_path / "intrinsics.json"
    matrix = [[400, 0, 150], [0, 400, 250], [0, 0, 1]]
    file.write_text(json.dumps({"intrinsics_px": matrix, "width": 300, "height": 500}))
    by_file, _ = load_photos(shots, GivenIntrinsics(file=file))
    expected = [[400, 0, 100], [0, 400, 130], [0, 0, 1]]
    assert by_file.camera.intrinsics_px.tolist() == [pytest.approx(row) for row in expected]


def test_photos_of_two_sizes_share_no_frame(shots):
    Image.open(shots[1]).crop((0, 0, 300, 499)).save(shots[1])
    assert [photo.window for photo in load_photos(shots)] == [None, None]
