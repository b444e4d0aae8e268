"""The figure of the evidence for poses: what it shows, and where."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from PIL import Image

from models.geometry.camera import project
from models.weights import WeightsInfo
from nps_cli.formats.plot import captions, plot_poses, spread_out, write_plot
from nps_cli.formats.poses import pose_document
from nps_cli.photos.load import load_photos

WEIGHTS = WeightsInfo("tiny", "ab" * 32, "MIT", "for tests", {})


@pytest.fixture
def photos(photo_pair):
    return load_photos(list(photo_pair))


@pytest.fixture
def exact(photos, reconstruction):
    """The reconstruction with its Gaussians' centers as points, observed where they project to."""
    points = reconstruction.gaussians.means
    intrinsics = torch.stack([photo.camera.intrinsics for photo in photos])
    observations, _ = project(points.expand(2, -1, -1), reconstruction.world2cam, intrinsics)
    return replace(reconstruction, points=points, observations=observations)


def axes_of(photos, reconstruction) -> dict:
    document = pose_document(photos, reconstruction, WEIGHTS)
    matches, epipolar, scene, *_ = plot_poses(document, photos, reconstruction).axes
    return {"matches": matches, "epipolar": epipolar, "scene": scene}


def test_the_file_is_a_png_of_some_size(photos, exact, tmp_path: Path):
    document = pose_document(photos, exact, WEIGHTS)
    write_plot(document, photos, exact, tmp_path / "plot.png", force=False)
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.format == "PNG" and picture.width == 1920 and picture.height > 400
        assert np.asarray(picture.convert("L")).std() > 20


def test_a_caption_says_rotation_direction_inliers_and_problems(photos, reconstruction):
    document = pose_document(photos, replace(reconstruction, problems=("Trouble ahead.",)), WEIGHTS)
    document["pairs"][0]["baseline_direction"] = [0.6, -0.0, -0.8]
    pair, problem = captions(document)
    assert pair.startswith("Photo 1 to 2:  turned 8.6°")
    assert "moved 0.60 right, 0.00 down, 0.80 back" in pair
    assert "120 inliers (80%)" in pair and pair.endswith("confidence 0.95")
    assert problem == "Warning: Trouble ahead."
    document["pairs"][0]["confidence"] = 0.0
    assert "0.60 right" not in captions(document)[0]
    title = plot_poses(document, photos, reconstruction)._suptitle
    assert "confidence 0.00" in title.get_text() and "Trouble ahead." in title.get_text()


def test_both_photos_are_shown_twice_without_distortion(photos, exact):
    axes = axes_of(photos, exact)
    for name in ("matches", "epipolar"):
        for image, photo in zip(axes[name].images, photos, strict=True):
            left, right, bottom, top = image.get_extent()
            assert (bottom, top) == (1, 0)
            assert right - left == pytest.approx(photo.camera.size[1] / photo.camera.size[0])
            np.testing.assert_array_equal(image.get_array(), photo.image.permute(1, 2, 0))


def test_lines_of_matches_end_at_the_observations(photos, exact):
    axes = axes_of(photos, exact)["matches"]
    (lines,) = [each for each in axes.collections if isinstance(each, LineCollection)]
    lefts = [image.get_extent()[0] for image in axes.images]
    known = [exact.observations[view] * torch.tensor([4 / 3, 1]) for view in range(2)]
    assert len(lines.get_segments()) == 100
    for segment in lines.get_segments():
        for end, left, places in zip(segment, lefts, known, strict=True):
            distance = places + torch.tensor([left, 0.0]) - torch.as_tensor(end)
            assert distance.norm(dim=1).min() < 1e-5


def test_epipolar_lines_pass_through_the_numbered_points(photos, exact):
    axes = axes_of(photos, exact)["epipolar"]
    second = axes.images[1].get_extent()[0]
    places = [text.get_position() for text in axes.texts if text.get_text().isdigit()]
    shown = [np.array(place) for place in places if place[0] >= second]
    assert len(axes.lines) == len(shown) > 3
    for line, place in zip(axes.lines, shown, strict=True):
        start, end = line.get_xydata()
        along = (end - start) / np.linalg.norm(end - start)
        offset = place - start
        assert abs(along[0] * offset[1] - along[1] * offset[0]) < 1e-4


def test_points_are_above_and_beside_cameras_as_the_first_photo_shows_them(photos, exact):
    axes = axes_of(photos, exact)["scene"]
    x, depth, up = (np.asarray(values) for values in axes.collections[0]._offsets3d)
    near = exact.points[torch.isin(exact.points[:, 0], torch.from_numpy(x))]
    assert len(x) >= 0.9 * len(exact.points) - 1
    assert depth == pytest.approx(2.0)
    assert up.max() == pytest.approx(-near[:, 1].min().item())
    assert sum(isinstance(each, Poly3DCollection) for each in axes.collections) == 4
    first, second = (text.get_position_3d() for text in axes.texts)
    assert first == pytest.approx((0, 0, 0))
    assert second[0] > 0.2  # the second photo was taken from the right


def test_a_figure_without_matches_shows_the_photos_and_the_cameras(photos, reconstruction):
    empty = replace(reconstruction, points=torch.zeros(0, 3), observations=torch.zeros(2, 0, 2))
    axes = axes_of(photos, empty)
    assert len(axes["matches"].images) == len(axes["epipolar"].images) == 2
    assert "No matches" in axes["matches"].get_title("left")
    assert len(axes["scene"].texts) == 2


def test_three_photos_fit_whatever_they_are_called(photos, exact, tmp_path: Path, recwarn):
    third = replace(photos[0], name="a $very$ long name \u65e5\u672c " * 20)
    three = replace(
        exact,
        cameras=(*exact.cameras, exact.cameras[0]),
        observations=torch.cat([exact.observations, exact.observations[:1] * torch.nan]),
    )
    axes = axes_of([*photos, third], three)
    assert len(axes["matches"].images) == 3 and len(axes["scene"].texts) == 3
    names = [text.get_text() for text in axes["matches"].texts]
    assert names[2].startswith("3") and names[2].endswith("…") and len(names[2]) < 50
    document = pose_document([*photos, third], three, WEIGHTS)
    write_plot(document, [*photos, third], three, tmp_path / "plot.png", force=False)
    assert not recwarn.list


def test_spread_points_are_apart_in_every_photo():
    first = torch.rand(300, 2)
    second = torch.stack([first[:, 0], 0.1 * first[:, 1]], dim=1)  # squeezed there
    both = torch.stack([first, second])
    chosen = spread_out(both, 10, min_distance=0.05)
    distances = torch.cdist(both[:, chosen], both[:, chosen]) + torch.eye(len(chosen))
    assert len(chosen) >= 8 and distances.min() > 0.05
    assert chosen[0] == (first - 0.5).norm(dim=1).argmin()


def test_spread_takes_no_more_than_there_are():
    assert len(spread_out(torch.rand(2, 3, 2), 10)) == 3
    assert len(spread_out(torch.zeros(2, 0, 2), 10)) == 0
