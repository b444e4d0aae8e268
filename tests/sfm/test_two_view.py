"""Relative and absolute pose, on photographs whose cameras are known."""

import pytest
import torch
from two_planes_scene import CARD, INTRINSICS, SIZE, WALL, raytrace

from models.features.aliked_lightglue import LearnedMatcher
from models.features.sift import SiftMatcher
from models.geometry.camera import Camera
from models.geometry.rigid import invert, rotation_angle, se3_exponential
from models.geometry.views import View
from models.sfm.correspondences import find_correspondences
from models.sfm.two_view import TwoView, estimate_absolute_pose, estimate_relative_pose

SECOND = se3_exponential(torch.tensor([-0.3, 0.05, 0.1, 0.02, -0.12, 0.03]))
POSES = (torch.eye(4), SECOND)
CAMERA = Camera(INTRINSICS, torch.eye(4), SIZE)
CAMERAS = (CAMERA, CAMERA)
SIFT = SiftMatcher()


@pytest.fixture(scope="module")
def learned():
    return LearnedMatcher(torch.device("cpu"))


@pytest.fixture(scope="module", params=["sift", "learned"])
def pair(request):
    """Matched keypoints of two photos, from each matcher."""
    matcher = SIFT if request.param == "sift" else request.getfixturevalue("learned")
    features = [matcher.detect(raytrace(pose)[0]) for pose in POSES]
    keypoints = features[0].coordinates, features[1].coordinates
    return TwoView(CAMERAS, keypoints, matcher.match(*features))


def angle_deg(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.rad2deg(torch.acos(torch.cosine_similarity(first, second, dim=0))))


def test_the_relative_pose_of_two_photos_is_found(pair):
    pose = estimate_relative_pose(pair)

    assert torch.rad2deg(rotation_angle(pose.first2second[:3, :3], SECOND[:3, :3])) < 0.2
    assert angle_deg(pose.first2second[:3, 3], SECOND[:3, 3]) < 1.5
    assert pose.inlier_ratio > 0.7


def test_triangulated_points_lie_on_the_two_planes(pair):
    pose = estimate_relative_pose(pair)
    depth = pose.depth * SECOND[:3, 3].norm()

    nearest = torch.minimum((depth - WALL).abs(), (depth - CARD).abs())
    assert nearest.median() < 0.05
    assert ((depth - CARD).abs() < 0.1).sum() > 10


def test_a_point_is_triangulated_at_its_depth():
    point = torch.tensor([[0.2, -0.1, 2.5]])
    seen = [point @ INTRINSICS.T, (point @ SECOND[:3, :3].T + SECOND[:3, 3]) @ INTRINSICS.T]
    first, second = (on_image[:, :2] / on_image[:, 2:] for on_image in seen)

    pair = TwoView(CAMERAS, (first, second), torch.zeros(1, 2, dtype=torch.long))
    depth, parallax = pair.triangulate(SECOND)

    to_second = invert(SECOND)[:3, 3] - point[0]
    torch.testing.assert_close(depth, point[:, 2], rtol=1e-4, atol=0)
    assert float(parallax) == pytest.approx(
        float(torch.acos(torch.cosine_similarity(-point[0], to_second, dim=0))), rel=1e-3
    )


def test_a_camera_is_found_from_points_in_spite_of_outliers():
    points = torch.rand(100, 3) * 2 + torch.tensor([-1.0, -1.0, 2.0])
    on_image = (points @ SECOND[:3, :3].T + SECOND[:3, 3]) @ INTRINSICS.T
    coordinates = on_image[:, :2] / on_image[:, 2:]
    coordinates[:30] = torch.rand(30, 2)

    world2cam, inlier = estimate_absolute_pose(points, coordinates, CAMERA)

    torch.testing.assert_close(world2cam, SECOND, rtol=0, atol=1e-3)
    assert inlier[30:].all() and inlier[:30].sum() < 5


def test_photos_of_different_things_have_no_relative_pose(learned):
    images = [raytrace(POSES[0])[0], torch.rand(3, *SIZE)]
    views = [View(image, CAMERA) for image in images]
    found = find_correspondences(views, [SIFT, learned])
    assert all(len(pose) < 25 for pose in found.poses.values())
