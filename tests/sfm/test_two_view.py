"""Relative and absolute pose, on photographs whose cameras are known."""

import pytest
import torch
from two_planes_scene import CARD, FIRST_CAMERA, SECOND, SECOND_CAMERA, SIZE, WALL, raytrace

from models.features.sift import SiftMatcher
from models.geometry.rigid import invert
from models.geometry.views import View
from models.metrics.errors import pose_error
from models.sfm.correspondences import find_correspondences
from models.sfm.two_view import TwoView, estimate_absolute_pose, estimate_relative_pose

CAMERAS = (FIRST_CAMERA, FIRST_CAMERA)
SIFT = SiftMatcher()


@pytest.fixture(scope="module", params=["sift", "learned"])
def pair(request):
    """Matched keypoints of two photos, from each matcher."""
    matcher = SIFT if request.param == "sift" else request.getfixturevalue("learned")
    features = [matcher.detect(raytrace(pose)[0]) for pose in (torch.eye(4), SECOND)]
    keypoints = features[0].coordinates, features[1].coordinates
    return TwoView(CAMERAS, keypoints, matcher.match(*features))


def test_the_relative_pose_of_two_photos_is_found(pair):
    pose = estimate_relative_pose(pair)

    error = pose_error(pose.first2second, SECOND)
    assert error.rotation_deg < 0.2 and error.translation_deg < 1.5
    assert pose.inlier_ratio > 0.7


def test_triangulated_points_lie_on_the_two_planes(pair):
    pose = estimate_relative_pose(pair)
    depth = pose.depth * SECOND[:3, 3].norm()

    nearest = torch.minimum((depth - WALL).abs(), (depth - CARD).abs())
    assert nearest.median() < 0.05
    assert ((depth - CARD).abs() < 0.1).sum() > 10


def test_a_point_is_triangulated_at_its_depth():
    point = torch.tensor([[0.2, -0.1, 2.5]])
    first, second = (camera.project(point)[0] for camera in (FIRST_CAMERA, SECOND_CAMERA))
    pair = TwoView(CAMERAS, (first, second), torch.zeros(1, 2, dtype=torch.long))
    depth, parallax = pair.triangulate(SECOND)

    to_second = invert(SECOND)[:3, 3] - point[0]
    torch.testing.assert_close(depth, point[:, 2], rtol=1e-4, atol=0)
    assert float(parallax) == pytest.approx(
        float(torch.acos(torch.cosine_similarity(-point[0], to_second, dim=0))), rel=1e-3
    )


def test_a_pose_without_a_baseline_explains_no_match():
    points = torch.rand(20, 2)
    pair = TwoView(CAMERAS, (points, points), torch.arange(20)[:, None].expand(-1, 2))
    assert pair.sampson_px(torch.eye(4)).isinf().all()
    assert pair.scores(torch.eye(4)).sum() == 0


def test_a_camera_is_found_from_points_in_spite_of_outliers():
    points = torch.rand(100, 3) * 2 + torch.tensor([-1.0, -1.0, 2.0])
    coordinates, _ = SECOND_CAMERA.project(points)
    coordinates[:30] = torch.rand(30, 2)

    world2cam, inlier = estimate_absolute_pose(points, coordinates, FIRST_CAMERA)

    torch.testing.assert_close(world2cam, SECOND, rtol=0, atol=1e-3)
    assert inlier[30:].all() and inlier[:30].sum() < 5


def test_photos_of_different_things_have_no_relative_pose(learned):
    images = [raytrace(torch.eye(4))[0], torch.rand(3, *SIZE)]
    views = [View(image, FIRST_CAMERA) for image in images]
    found = find_correspondences(views, [SIFT, learned])
    assert all(len(pose) < 25 for pose in found.poses.values())
