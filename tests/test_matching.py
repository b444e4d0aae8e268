"""Matching and relative pose, on photographs whose cameras are known."""

import pytest
import torch
from card_world import CARD, INTRINSICS, SIZE, WALL, photograph

from models.camera import invert, rotation_angle, se3_exponential
from models.matching import absolute_pose, detect, match, relative_pose, triangulate

SECOND = se3_exponential(torch.tensor([-0.3, 0.05, 0.1, 0.02, -0.12, 0.03]))


@pytest.fixture(scope="module")
def pair():
    features = [detect(photograph(pose)[0]) for pose in (torch.eye(4), SECOND)]
    return *features, match(*features)


def angle_deg(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.rad2deg(torch.acos(torch.cosine_similarity(first, second, dim=0))))


def test_the_motion_between_two_photos_is_found(pair):
    first, second, matches = pair
    pose = relative_pose(first, second, matches, INTRINSICS.expand(2, 3, 3), (SIZE, SIZE))

    assert torch.rad2deg(rotation_angle(pose.first2second[:3, :3], SECOND[:3, :3])) < 0.2
    assert angle_deg(pose.first2second[:3, 3], SECOND[:3, 3]) < 1.5
    assert pose.inlier_ratio > 0.7


def test_triangulated_points_lie_on_the_two_planes(pair):
    first, second, matches = pair
    pose = relative_pose(first, second, matches, INTRINSICS.expand(2, 3, 3), (SIZE, SIZE))
    depth = pose.depth * SECOND[:3, 3].norm()

    nearest = torch.minimum((depth - WALL).abs(), (depth - CARD).abs())
    assert nearest.median() < 0.03
    assert ((depth - CARD).abs() < 0.1).sum() > 10


def test_keypoints_are_counted_from_the_corner_of_the_first_pixel():
    image = torch.zeros(3, 64, 96)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    image += torch.exp(-((x - 30.0) ** 2 + (y - 20.0) ** 2) / 18)

    found = detect(image).coordinates * torch.tensor([96, 64])

    assert (found - torch.tensor([30.0, 20.0])).norm(dim=1).min() < 0.1


def test_a_point_is_triangulated_at_its_depth():
    point = torch.tensor([[0.2, -0.1, 2.5]])
    seen = [point @ INTRINSICS.T, (point @ SECOND[:3, :3].T + SECOND[:3, 3]) @ INTRINSICS.T]
    first, second = (on_image[:, :2] / on_image[:, 2:] for on_image in seen)

    depth, parallax = triangulate(first, second, INTRINSICS, INTRINSICS, SECOND)

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

    world2cam, good = absolute_pose(points, coordinates, INTRINSICS, SIZE)

    torch.testing.assert_close(world2cam, SECOND, rtol=0, atol=1e-3)
    assert good[30:].all() and good[:30].sum() < 5


def test_photos_of_different_things_have_no_motion_between_them(pair):
    first, _, _ = pair
    other = detect(torch.rand(3, *SIZE))
    pose = relative_pose(
        first, other, match(first, other), INTRINSICS.expand(2, 3, 3), (SIZE, SIZE)
    )
    assert pose is None or len(pose) < 25


def test_a_blank_photo_has_no_features_and_no_matches(pair):
    blank = detect(torch.full((3, *SIZE), 0.5))
    assert len(blank.coordinates) == 0
    assert len(match(pair[0], blank)) == 0
