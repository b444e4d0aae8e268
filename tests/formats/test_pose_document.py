"""The pose document: what it says is consistent, finite, and read back as it was written."""

import json
import math
from pathlib import Path

import pytest
import torch

from models.geometry.rigid import from_wxyz, invert, se3_exponential
from models.weights import WeightsInfo
from nps_cli.errors import NpsError
from nps_cli.formats.poses import pose_document, read_poses, write_poses
from nps_cli.photos.load import load_photos

WEIGHTS = WeightsInfo("tiny", "ab" * 32, "MIT", "for tests", {})


@pytest.fixture
def document(photo_pair, reconstruction) -> dict:
    return pose_document(load_photos(list(photo_pair)), reconstruction, WEIGHTS)


def test_a_document_names_its_convention_and_weights(document):
    assert (document["format"], document["version"]) == ("nps-pose", 1)
    assert document["convention"] == (
        "OpenCV camera axes (+x right, +y down, +z forward); world = first view's camera"
    )
    assert document["translation_scale"] == "model"
    assert document["weights"] == {"name": "tiny", "sha256": "ab" * 32}


def test_a_view_says_one_pose_in_four_ways(document, reconstruction):
    for view, expected in zip(document["views"], reconstruction.world2cam.double(), strict=True):
        world2cam = torch.tensor(view["world2cam"], dtype=torch.float64)
        torch.testing.assert_close(world2cam, expected)
        torch.testing.assert_close(
            torch.tensor(view["cam2world"], dtype=torch.float64) @ world2cam,
            torch.eye(4, dtype=torch.float64),
            atol=1e-6,
            rtol=0,
        )
        wxyz = torch.tensor(view["quaternion_wxyz"], dtype=torch.float64)
        torch.testing.assert_close(from_wxyz(wxyz), world2cam[:3, :3], atol=1e-6, rtol=0)
        assert view["translation"] == world2cam[:3, 3].tolist()


def test_intrinsics_are_in_pixels_of_the_full_upright_photo(photo_pair, reconstruction):
    photos = load_photos(list(photo_pair), max_side=64)
    view = pose_document(photos, reconstruction, WEIGHTS)["views"][1]
    assert (view["photo"], view["width"], view["height"]) == ("right.jpg", 144, 108)
    (fx, _, cx), (_, fy, cy), _ = view["intrinsics_px"]
    assert (cx, cy) == (72, 54)
    assert fx == pytest.approx(fy, rel=1e-5)
    assert view["intrinsics_source"] == "guessed"


def test_a_baseline_points_from_one_camera_to_the_other_in_the_axes_of_the_first(document):
    (pair,) = document["pairs"]
    second = torch.tensor(document["views"][1]["cam2world"])[:3, 3]
    direction = torch.tensor(pair["baseline_direction"])
    torch.testing.assert_close(direction, second / second.norm())
    assert direction[0] > 0.9  # the second photo was taken from the right
    assert pair["rotation_deg"] == pytest.approx(math.degrees(0.15), rel=1e-5)
    assert (pair["from"], pair["to"], pair["inliers"], pair["method"]) == (0, 1, 120, "matches")


def test_cameras_at_one_place_have_no_baseline_but_finite_numbers(photo_pair, reconstruction):
    from dataclasses import replace

    still = replace(reconstruction, cameras=(reconstruction.cameras[0],) * 2)
    document = pose_document(load_photos(list(photo_pair)), still, WEIGHTS)
    assert document["pairs"][0]["baseline_direction"] == [0, 0, 0]
    assert document["pairs"][0]["rotation_deg"] == 0
    json.dumps(document, allow_nan=False)


@pytest.mark.parametrize("kept", ["world2cam", "cam2world"])
def test_a_document_is_read_back_as_it_was_written(document, reconstruction, tmp_path, kept):
    for view in document["views"]:
        del view[{"world2cam": "cam2world", "cam2world": "world2cam"}[kept]]
    write_poses(document, tmp_path / "pose.json", force=False)
    cameras = read_poses(tmp_path / "pose.json")
    for camera, expected in zip(cameras, reconstruction.world2cam, strict=True):
        torch.testing.assert_close(camera.world2cam, expected, atol=1e-6, rtol=0)
        assert camera.size == (108, 144)
        assert camera.intrinsics[0, 2] == camera.intrinsics[1, 2] == 0.5


def a_view(**changes: object) -> dict:
    intrinsics_px = [[500.0, 0, 320], [0, 500, 240], [0, 0, 1]]
    pose = se3_exponential(torch.tensor([0.1, 0, 0, 0, 0.2, 0])).tolist()
    return {
        "width": 640,
        "height": 480,
        "intrinsics_px": intrinsics_px,
        "world2cam": pose,
        **changes,
    }


def write_views(path: Path, views: object) -> Path:
    path.write_text(json.dumps(views))
    return path


def test_a_bare_list_of_views_is_enough(tmp_path: Path):
    (camera,) = read_poses(write_views(tmp_path / "views.json", [a_view()]))
    assert camera.intrinsics[0, 0] == pytest.approx(500 / 640)
    assert camera.intrinsics[1, 1] == pytest.approx(500 / 480)
    torch.testing.assert_close(camera.world2cam @ invert(camera.world2cam), torch.eye(4))


@pytest.mark.parametrize(
    "views",
    [
        [],
        {"views": {}},
        "cameras",
        [a_view(width=None)],
        [a_view(width=0)],
        [a_view(world2cam=[[1, 0], [0, 1]])],
        [a_view(world2cam=[[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])],
        [a_view(world2cam=[[-1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])],
        [a_view(intrinsics_px=[[float("nan"), 0, 0], [0, 1, 0], [0, 0, 1]])],
        [{"width": 4, "height": 4}],
        [7],
    ],
)
def test_what_is_not_a_camera_is_refused_with_the_shape_to_use(tmp_path: Path, views: object):
    with pytest.raises(NpsError) as caught:
        read_poses(write_views(tmp_path / "views.json", views))
    assert "views.json" in str(caught.value)
    assert "world2cam" in caught.value.hint


def test_a_file_that_is_missing_or_not_json_is_refused(tmp_path: Path):
    (tmp_path / "text.json").write_text("not json")
    for name in ("nowhere.json", "text.json"):
        with pytest.raises(NpsError, match=name):
            read_poses(tmp_path / name)
