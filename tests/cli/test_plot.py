"""The plot: nothing overlaps, and what is drawn is where it belongs."""

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageColor

from models.geometry.camera import project
from models.weights import WeightsInfo
from nps_cli.formats.canvas import BADGE, Canvas, between, pushed_apart
from nps_cli.formats.plot import DISTINCT, WIDTH, arrange, captions, write_plot
from nps_cli.formats.poses import pose_document
from nps_cli.photos.load import load_photos

WEIGHTS = WeightsInfo("tiny", "ab" * 32, "MIT", "for tests", {})


@pytest.fixture
def photos(photo_pair):
    return load_photos(list(photo_pair))


@pytest.fixture
def known(photos, reconstruction):
    points = reconstruction.gaussians.means
    intrinsics = torch.stack([photo.intrinsics for photo in photos])
    sightings, _ = project(points.expand(2, -1, -1), reconstruction.world2cam, intrinsics)
    return replace(reconstruction, points=points, sightings=sightings)


def drawn(photos, reconstruction, path: Path) -> Image.Image:
    document = pose_document(photos, reconstruction, WEIGHTS)
    write_plot(document, photos, reconstruction, path, force=False)
    return Image.open(path).convert("RGB")


@pytest.mark.parametrize(
    "aspects", [[1.5, 1.5], [0.75, 0.75], [1.78, 1.78], [0.6, 1.5], [0.75] * 3, [1.5] * 3, [8, 8]]
)
def test_panels_keep_inside_the_picture_and_off_each_other(aspects: list[float]):
    layout = arrange(aspects, 60)
    panels = [*layout.matches, *layout.epipolar, *layout.overviews]
    for panel in panels:
        assert panel.left >= 20 and panel.left + panel.width <= WIDTH - 20
        assert panel.top >= 60 and panel.top + panel.height <= layout.bottom
    for one, other in combinations(panels, 2):
        beside = one.left + one.width <= other.left or other.left + other.width <= one.left
        below = one.top + one.height <= other.top or other.top + other.height <= one.top
        assert beside or below
    for panel, aspect in zip(layout.matches, aspects, strict=True):
        assert panel.width / panel.height == pytest.approx(aspect)


def test_a_caption_says_turn_direction_support_and_trouble(photos, reconstruction):
    document = pose_document(photos, replace(reconstruction, problems=("Trouble ahead.",)), WEIGHTS)
    document["pairs"][0]["baseline_direction"] = [0.6, -0.0, -0.8]
    (pair, _), (problem, _) = captions(document)
    assert pair.startswith("Photo 1 to 2:  turned 8.6°")
    assert "moved 0.60 right, 0.00 down, 0.80 back" in pair
    assert "120 inliers (80%)" in pair and pair.endswith("confidence 0.95")
    assert problem == "Trouble ahead."
    document["pairs"][0]["confidence"] = 0.0
    assert "0.60 right" not in captions(document)[0][0]


def test_numbered_points_are_drawn_where_the_photos_show_them(photos, known, tmp_path: Path):
    picture = drawn(photos, known, tmp_path / "plot.png")
    assert picture.width == WIDTH
    epipolar = arrange([4 / 3, 4 / 3], 24 + 33).epipolar
    central = (known.sightings[0] - 0.5).norm(dim=1).argmin()
    for panel, sighting in zip(epipolar, known.sightings[:, central].tolist(), strict=True):
        x, y = panel.at(*sighting)
        assert picture.getpixel((round(x) - 8, round(y))) == ImageColor.getrgb(DISTINCT[0])


def test_a_plot_without_matches_shows_the_photos_and_the_cameras(
    photos, reconstruction, tmp_path: Path
):
    empty = replace(reconstruction, points=torch.zeros(0, 3), sightings=torch.zeros(2, 0, 2))
    picture = drawn(photos, empty, tmp_path / "plot.png")
    (overview,) = arrange([4 / 3, 4 / 3], 24 + 33).overviews
    left, top = overview.at(0, 0)
    right, bottom = overview.at(1, 1)
    colors = picture.crop((round(left), round(top), round(right), round(bottom))).getcolors(10**6)
    frusta = {color for _, color in colors} & {(255, 210, 59), (41, 199, 224)}
    assert len(frusta) == 2


def test_three_photos_fit_too(photos, known, tmp_path: Path):
    third = replace(photos[0], name="a very long name " * 20)
    three = replace(
        known,
        world2cam=torch.cat([known.world2cam, known.world2cam[:1]]),
        sightings=torch.cat([known.sightings, known.sightings[:1] * torch.nan]),
    )
    assert drawn([*photos, third], three, tmp_path / "plot.png").width == WIDTH


def test_badges_that_would_hide_each_other_are_pushed_apart():
    moved = pushed_apart([(5.0, 5.0), (5.0, 5.0), (7.0, 5.0)])
    for (x, y), (u, v) in combinations(moved, 2):
        assert ((x - u) ** 2 + (y - v) ** 2) ** 0.5 > 2 * BADGE
    assert pushed_apart([(0.0, 0.0), (50.0, 0.0)]) == [(0.0, 0.0), (50.0, 0.0)]


def test_text_is_wrapped_and_shortened_to_the_width():
    canvas = Canvas(1, 1)
    lines = canvas.wrapped("one two three four five six seven", 20, 120)
    assert len(lines) > 2 and " ".join(lines) == "one two three four five six seven"
    assert canvas.shortened("short", 20, 500) == "short"
    assert canvas.shortened("x" * 500, 20, 100).endswith("x…")


def test_a_ramp_runs_through_its_colors():
    assert [between(("#000000", "#ff0000", "#ffffff"), at) for at in (0, 0.25, 0.5, 1)] == [
        "#000000",
        "#800000",
        "#ff0000",
        "#ffffff",
    ]
