import math

import pytest
from PIL.TiffImagePlugin import IFDRational

from nps_cli.photos.exif import (
    DIGITAL_ZOOM,
    FOCAL,
    FOCAL_35MM,
    MAKE,
    MODEL,
    PIXELS_X,
    PIXELS_Y,
    PLANE_UNIT,
    PLANE_X,
    PLANE_Y,
    focal_in_pixels,
    read_camera_facts,
)

LANDSCAPE = (3024, 4032)  # (height, width)


def focal(tags: dict, size: tuple[int, int] = LANDSCAPE) -> tuple[float, str]:
    return focal_in_pixels(read_camera_facts(tags), size)


def test_36_by_24_mm_of_film_see_what_their_equivalent_says():
    focal_px, source = focal({FOCAL_35MM: 50}, (2400, 3600))

    assert source == "exif-35mm"
    assert focal_px == pytest.approx(5000)  # 100 pixels per mm


def test_the_equivalent_counts_along_the_diagonal_so_a_turn_changes_nothing():
    tags = {FOCAL_35MM: 26}

    assert focal(tags, (3024, 4032)) == focal(tags, (4032, 3024))


def test_a_smaller_copy_of_a_photo_has_a_proportionally_smaller_focal_length():
    tags = {FOCAL_35MM: 26, PIXELS_X: 4032, PIXELS_Y: 3024}

    assert focal(tags, (756, 1008))[0] == pytest.approx(focal(tags)[0] / 4)


@pytest.mark.parametrize("unit, per_unit", [(2, 25.4), (3, 10), (4, 1), (5, 0.001), (None, 25.4)])
def test_focal_plane_resolution_gives_pixels_in_every_unit(unit, per_unit):
    pixels_per_mm = 4032 / 6.4
    tags = {
        FOCAL: IFDRational(43, 10),
        PLANE_X: pixels_per_mm * per_unit,
        PLANE_Y: pixels_per_mm * per_unit,
    }
    if unit:
        tags[PLANE_UNIT] = unit

    focal_px, source = focal(tags)

    assert source == "exif-sensor"
    assert focal_px == pytest.approx(4.3 * pixels_per_mm)


def test_digital_zoom_narrows_the_view_of_a_sensor_but_not_of_an_equivalent():
    sensor = {FOCAL: 4.3, PLANE_X: 630.0, PLANE_Y: 630.0, PLANE_UNIT: 4}
    zoom = {DIGITAL_ZOOM: 2.0}

    assert focal(sensor | zoom)[0] == pytest.approx(2 * focal(sensor)[0])
    assert focal({FOCAL_35MM: 52} | zoom) == focal({FOCAL_35MM: 52})


def test_an_impossible_sensor_is_not_believed():
    tags = {FOCAL: 4.3, PLANE_X: 72.0, PLANE_Y: 72.0, PLANE_UNIT: 2}  # 1.4 m wide

    assert focal(tags)[1] == "guessed"


def test_a_phone_without_an_equivalent_is_known_by_its_model():
    focal_px, source = focal({FOCAL: 4.9, MAKE: "Sony", MODEL: "D6503"})

    assert source == "exif-sensor"
    assert focal_px * math.hypot(36, 24) / math.hypot(*LANDSCAPE) == pytest.approx(27.5, abs=0.5)


@pytest.mark.parametrize(
    "nonsense",
    [0, -26, 65535, IFDRational(0, 0), float("nan"), float("inf"), "x", b"\0", (1, 2), None],
)
def test_nonsense_is_as_good_as_nothing(nonsense):
    tags = {FOCAL_35MM: nonsense, FOCAL: nonsense, PLANE_X: nonsense, PLANE_UNIT: nonsense}

    assert focal(tags) == focal({})
    assert focal({})[1] == "guessed"
    assert read_camera_facts({FOCAL_35MM: nonsense}).focal_35mm is None


def test_the_guess_is_that_of_a_phone():
    focal_px, _ = focal({})

    assert 60 < math.degrees(2 * math.atan(4032 / 2 / focal_px)) < 70


def test_a_crop_at_full_resolution_keeps_the_focal_length_of_its_frame():
    tags = {FOCAL_35MM: 26, PIXELS_X: 4032, PIXELS_Y: 3024}

    assert focal(tags, (3313, 2566))[0] == pytest.approx(focal(tags)[0])
    assert focal(tags, (2000, 2000))[0] == pytest.approx(focal(tags)[0])


def test_a_small_crop_is_taken_for_the_largest_of_its_aspect_made_smaller():
    tags = {FOCAL_35MM: 26, PIXELS_X: 4032, PIXELS_Y: 3024}

    assert focal(tags, (1008, 1008))[0] == pytest.approx(focal(tags)[0] / 3)


def test_names_are_short_and_cannot_steer_a_terminal():
    camera = read_camera_facts({MAKE: "HTC" + "\0 " * 99, MODEL: "\x1b[31mOne" + "x" * 999})

    assert camera.make == "HTC"
    assert camera.model.startswith("[31mOne")
    assert len(camera.model) == 60
