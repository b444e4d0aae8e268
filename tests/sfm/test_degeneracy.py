"""Degenerate pairs: crops, flat scenes and second poses are detected, others are not."""

import math
from dataclasses import replace

import pytest
import torch
from known_points import a_deep_scene, a_flat_scene
from scripted_matcher import in_order
from torch import Tensor
from two_planes_scene import INTRINSICS

from models.geometry.camera import Camera, project
from models.geometry.rigid import se3_exponential
from models.sfm.degeneracy import (
    Degeneracy,
    count_second_pose_inliers,
    is_crop,
    resolve_planar_ambiguity,
    second_planar_pose,
)
from models.sfm.hypotheses import RunnerUp, find_runner_up
from models.sfm.two_view import RelativePose, TwoView, estimate_relative_pose, pose_angle

CAMERA = Camera(INTRINSICS, torch.eye(4), (480, 640))
SIDEWAYS = se3_exponential(torch.tensor([-0.25, 0.05, 0.06, 0.05, -0.1, 0.02]))
HARDLY = se3_exponential(torch.tensor([-0.005, 0.002, 0.001, 0.05, -0.1, 0.02]))
FORWARD = se3_exponential(torch.tensor([-0.1, 0.05, -0.5, 0.05, -0.1, 0.02]))


def pair_of(first: Tensor, second: Tensor, second_camera: Camera = CAMERA) -> TwoView:
    return TwoView((CAMERA, second_camera), (first, second), in_order(len(first)))


def seen(points: Tensor, first2second: Tensor, noise_px: float = 0.3) -> TwoView:
    both = [project(points, pose, INTRINSICS)[0] for pose in (torch.eye(4), first2second)]
    pixels = torch.tensor([640.0, 480.0])
    return pair_of(*(each + noise_px * torch.randn_like(each) / pixels for each in both))


def joined(one: TwoView, other: TwoView) -> TwoView:
    return pair_of(*map(torch.cat, zip(one.keypoints, other.keypoints, strict=True)))


def degeneracy(pair: TwoView) -> Degeneracy:
    return resolve_planar_ambiguity(pair, estimate_relative_pose(pair))[1]


def runner_up(pair: TwoView) -> tuple[RelativePose, RunnerUp]:
    pose = estimate_relative_pose(pair)
    return pose, find_runner_up(pair, pose)


def error_deg(pose: RelativePose, true: Tensor) -> float:
    return math.degrees(pose_angle(pose.first2second, true))


def test_a_deep_scene_is_not_degenerate():
    assert degeneracy(seen(a_deep_scene(), SIDEWAYS)) == Degeneracy(False, None, 0)


def test_a_flat_scene_walked_up_to_has_two_poses_and_one_is_right():
    pair = seen(a_flat_scene(), FORWARD)
    pose = estimate_relative_pose(pair)
    other = second_planar_pose(pair, pose)
    assert other is not None and len(other) > 0.98 * len(pose)
    errors = error_deg(pose, FORWARD), error_deg(other, FORWARD)
    assert min(errors) < 5 and max(errors) > 10
    assert degeneracy(pair).planar_ambiguity_rad is not None


def test_a_flat_scene_walked_along_has_one_pose():
    assert degeneracy(seen(a_flat_scene(), SIDEWAYS)).planar_ambiguity_rad is None


def test_the_other_pose_of_the_other_pose_is_the_first_again():
    pair = seen(a_flat_scene(), FORWARD, noise_px=0.1)
    pose = estimate_relative_pose(pair)
    again = second_planar_pose(pair, second_planar_pose(pair, pose))
    assert error_deg(again, pose.first2second) < 2


def test_a_few_things_before_a_wall_resolve_its_ambiguity():
    pair = seen(torch.cat([a_flat_scene(270), a_deep_scene(30)]), FORWARD)
    pose = estimate_relative_pose(pair)
    assert degeneracy(pair).planar_ambiguity_rad is None
    wrong = second_planar_pose(pair, pose)
    assert error_deg(wrong, FORWARD) > 10
    resolved, found = resolve_planar_ambiguity(pair, wrong)
    assert error_deg(resolved, FORWARD) < 3 and found.planar_ambiguity_rad is None


@pytest.mark.parametrize("scale", [1.0, 0.5, 1.25])
def test_a_picture_resized_or_cropped_is_a_crop(scale: float):
    first = torch.rand(200, 2)
    cropped = first if scale == 0.5 else (first - 0.5) * scale + 0.5
    second = cropped + 0.3 / 640 * torch.randn_like(cropped)
    pair = pair_of(first, second, CAMERA.resized((240, 320)) if scale == 0.5 else CAMERA)
    swapped = TwoView(pair.cameras[::-1], pair.keypoints[::-1], pair.matches)
    assert is_crop(pair) and is_crop(swapped)


def test_a_tenth_of_false_matches_does_not_hide_a_crop():
    first = torch.rand(200, 2)
    second = (first - 0.5) * 1.2 + 0.52
    second[:15] = torch.rand(15, 2)
    assert is_crop(pair_of(first, second))


def test_a_wall_passed_by_is_no_crop():
    first = torch.rand(200, 2)
    assert not is_crop(pair_of(first, first + torch.tensor([0.1, 0.0])))


def test_a_rotated_camera_makes_no_crop():
    rotated = se3_exponential(torch.tensor([0, 0, 0, 0.0, 0.03, 0.01]))
    assert not is_crop(seen(a_deep_scene(), rotated))


def with_second_pose(rest: int) -> TwoView:
    other = se3_exponential(torch.tensor([0.3, 0.0, 0.1, 0.0, 0.4, 0.0]))
    return joined(seen(a_deep_scene(100), SIDEWAYS), seen(a_deep_scene(rest), other))


def test_a_second_pose_with_many_inliers_is_counted():
    assert 50 <= degeneracy(with_second_pose(60)).second_pose_inliers <= 70


@pytest.mark.parametrize("rest", [30, 10])
def test_a_second_pose_with_few_inliers_is_none(rest: int):
    pair = with_second_pose(rest)
    assert count_second_pose_inliers(pair, estimate_relative_pose(pair)) == 0


def test_degeneracies_have_messages_and_limit_the_confidence():
    none, planar = Degeneracy(False, None, 0), Degeneracy(False, 0.9, 0)
    crop, repeated = Degeneracy(True, None, 0), Degeneracy(False, None, 27)
    assert (none.max_confidence, none.messages) == (1.0, ())
    assert planar.max_confidence == 0.5 and "52 degrees away" in planar.messages[0]
    assert crop.max_confidence == 0 and "cut out" in crop.messages[0]
    assert repeated.max_confidence < 0.5 and "27 further matches" in repeated.messages[0]


@pytest.mark.parametrize("count", [100, 900])
def test_no_other_pose_comes_near_in_a_deep_scene(count: int):
    pose, other = runner_up(seen(a_deep_scene(count), SIDEWAYS))
    assert other.margin > 0.1 * len(pose)


def test_the_runner_up_in_a_flat_scene_walked_up_to_is_its_other_pose():
    pair = seen(a_flat_scene(), FORWARD)
    pose = estimate_relative_pose(pair)
    planar = second_planar_pose(pair, pose)
    start = se3_exponential(torch.tensor([0, 0, 0, 0.02, 0, -0.02])) @ planar.first2second
    other = find_runner_up(pair, replace(pose, alternatives=(start,)))
    assert abs(other.margin) < 0.05 * len(pose)
    apart = error_deg(planar, pose.first2second)
    assert math.degrees(other.angle_rad) == pytest.approx(apart, abs=4)


def test_hardly_any_parallax_leaves_directions_far_apart():
    pose, other = runner_up(seen(a_deep_scene(100), HARDLY))
    assert len(pose) > 50 and other.margin < 0.05 * len(pose)
    assert math.degrees(other.angle_rad) > 5
