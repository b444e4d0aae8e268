"""Epipolar errors, scores and inliers of two cameras that differ, from their definitions."""

import math
from dataclasses import replace

import pytest
import torch
from known_points import a_deep_scene, rotated, unit
from scripted_matcher import in_order
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.rigid import se3_exponential
from models.sfm.two_view import (
    RelativePose,
    TwoView,
    estimate_absolute_pose,
    estimate_relative_pose,
    pose_angle,
    poselib_camera,
    robust_score,
)

FIRST = Camera(torch.tensor([[1.1, 0, 0.47], [0, 1.5, 0.55], [0, 0, 1]]), torch.eye(4), (480, 640))
SECOND = Camera(torch.tensor([[1.6, 0, 0.52], [0, 1.2, 0.45], [0, 0, 1]]), torch.eye(4), (800, 600))
POSE = se3_exponential(torch.tensor([-0.4, 0.1, 0.15, 0.05, -0.1, 0.08]))
ASIDE = torch.eye(4)
ASIDE[0, 3] = -1.0  # the camera moves to the right: epipolar lines are rows


def seen(points: Tensor, pose: Tensor = POSE) -> tuple[Tensor, Tensor]:
    return FIRST.project(points)[0], replace(SECOND, world2cam=pose).project(points)[0]


def view_of(first: Tensor, second: Tensor, cameras=(FIRST, SECOND)) -> TwoView:
    return TwoView(cameras, (first, second), in_order(len(first)))


def rows(offsets_px: list[float], shift: float = -0.05) -> TwoView:
    """Matches off their epipolar lines, which are rows, by known Sampson errors."""
    first = torch.rand(len(offsets_px), 2) * 0.5 + 0.25
    off = math.sqrt(2) * torch.tensor(offsets_px) / FIRST.size[0]  # shared by both images
    second = first + torch.stack([torch.full_like(off, shift), off], dim=1)
    return view_of(first, second, (FIRST, FIRST))


def test_points_of_two_different_cameras_are_on_their_epipolar_lines():
    pair = view_of(*seen(a_deep_scene(50)))
    assert pair.sampson_px(POSE).abs().max() < 1e-3
    assert pair.sampson_px(rotated(POSE, torch.tensor([0.02, 0, 0]))).abs().median() > 1


def test_the_sampson_error_is_the_algebraic_one_over_its_slope():
    first, second = seen(a_deep_scene(20))
    pair = view_of(first, second + 0.004 * torch.randn_like(second))
    points = [each.clone().requires_grad_() for each in pair.points_px]
    center, turn = -POSE[:3, :3].T @ POSE[:3, 3], POSE[:3, :3]
    rays = [
        torch.cat([each, torch.ones(20, 1)], 1).double() @ torch.linalg.inv(matrix).T
        for each, matrix in zip(points, pair.intrinsics_px, strict=True)
    ]
    # Both rays and the baseline are in one plane: in the first camera's axes.
    volume = torch.linalg.cross(center.double().expand(20, 3), rays[0])
    volume = (volume * (rays[1] @ turn.double())).sum(1)
    slopes = torch.autograd.grad(volume.sum(), points)
    expected = volume / torch.cat(slopes, dim=1).norm(dim=1)
    found = pair.sampson_px(torch.stack([POSE, ASIDE]))
    torch.testing.assert_close(found[0].abs(), expected.detach().abs(), rtol=1e-3, atol=1e-4)
    assert (found[0].sign() == found[0, 0].sign() * (expected.sign() * expected[0].sign())).all()
    assert found.shape == (2, 20)


def test_a_point_on_the_epipole_tells_nothing():
    forward = torch.eye(4)
    forward[2, 3] = -1.0
    camera = Camera(torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]), torch.eye(4), (64, 64))
    points = torch.tensor([[0.5, 0.5], [0.75, 0.5]])
    errors = view_of(points, points, (camera, camera)).sampson_px(forward)
    assert errors.tolist() == [math.inf, 0]


def test_scales_from_half_a_pixel_to_three_vote_on_an_error():
    errors = torch.tensor([0.0, 0.1, 0.5, -0.5, 1.0, 2.0, 2.9, 3.0, 50.0, math.inf])
    shares = 1 - (errors[:, None] / torch.tensor([0.5, 1.0, 2.0, 3.0])).square()
    expected = shares.clamp(min=0).mean(1)
    torch.testing.assert_close(robust_score(errors), expected)
    assert robust_score(errors)[0] == 1 and robust_score(errors)[-3] == 0


def test_inliers_are_nearer_than_a_pixel_and_in_front_of_the_camera():
    pair = rows([0.0, 0.97, 1.03, -0.97, -1.03, 30.0])
    found = pair.find_inliers(ASIDE)
    assert found.inliers.tolist() == [[0, 0], [1, 1], [3, 3]]
    assert len(found) == 3 and found.inlier_ratio == pytest.approx(0.5)
    torch.testing.assert_close(found.depth, torch.full((3,), 1.1 / 0.05), rtol=1e-2, atol=0)
    assert len(pair.find_inliers(ASIDE @ torch.diag(torch.tensor([1.0, 1, 1, 1])))) == 3
    behind = ASIDE.clone()
    behind[0, 3] = 1.0
    assert len(pair.find_inliers(behind)) == 0 and pair.scores(behind).sum() == 0
    torch.testing.assert_close(
        pair.scores(ASIDE), robust_score(pair.sampson_px(ASIDE)), check_dtype=False
    )


def test_parallax_is_the_angle_between_the_rays():
    point = torch.tensor([[0.0, 0.0, 2.0]])
    pose = ASIDE.clone()
    pair = view_of(*seen(point, pose))
    depth, parallax = pair.triangulate(torch.stack([pose, pose]))
    assert depth.shape == parallax.shape == (2, 1)
    assert float(parallax[0]) == pytest.approx(math.atan(0.5), rel=1e-4)
    assert float(depth[0]) == pytest.approx(2.0, rel=1e-4)


def noisy(count: int, outliers: int) -> TwoView:
    first, second = seen(a_deep_scene(count + outliers))
    second = second + 0.0002 * torch.randn_like(second)
    second[count:] = torch.rand(outliers, 2)
    return view_of(first, second)


def test_the_pose_of_two_different_cameras_is_found_in_spite_of_outliers():
    found = estimate_relative_pose(noisy(120, 60))
    assert pose_angle(found.first2second, POSE) < 0.01
    assert float(found.first2second[:3, 3].norm()) == pytest.approx(1, abs=1e-5)
    assert len(found) >= 100 and len(found.alternatives) == 2


def test_where_few_matches_agree_half_and_twice_the_threshold_are_tried_too(monkeypatch):
    tried, honest = [], TwoView.ransac

    def ransac(pair, seed, max_error_px=1.0, **options):
        tried.append(max_error_px)
        return honest(pair, seed, max_error_px, **options)

    monkeypatch.setattr(TwoView, "ransac", ransac)
    estimate_relative_pose(noisy(60, 10))
    assert tried == [1.0, 0.5, 2.0]


def test_a_pose_with_enough_inliers_needs_no_alternative():
    found = estimate_relative_pose(noisy(260, 0))
    assert len(found) > 200 and found.alternatives == ()


@pytest.mark.parametrize(("count", "is_found"), [(7, False), (8, True)])
def test_eight_matches_are_the_fewest_for_a_pose(count: int, is_found: bool):
    points = a_deep_scene(count, torch.Generator().manual_seed(1))
    pair = view_of(*seen(points))
    assert (estimate_relative_pose(pair) is not None) == is_found
    absolute = estimate_absolute_pose(points, pair.points[1], SECOND)
    assert (absolute is not None) == is_found
    if absolute is not None:
        torch.testing.assert_close(absolute[0], POSE, rtol=0, atol=1e-3)


def test_points_that_agree_on_no_camera_give_none():
    generator = torch.Generator().manual_seed(3)
    points, coordinates = a_deep_scene(9, generator), torch.rand(9, 2, generator=generator)
    assert estimate_absolute_pose(points, coordinates, SECOND) is None
    random = torch.rand(2, 9, 2, generator=generator)
    assert estimate_relative_pose(view_of(random[0], random[1])) is None


def test_a_camera_that_is_two_pixels_off_has_inliers_and_one_that_is_three_off_has_none():
    points = a_deep_scene(40, torch.Generator().manual_seed(2))
    coordinates, _ = replace(SECOND, world2cam=POSE).project(points)
    signs = torch.ones(40, 1)
    signs[::2] = -1
    for off_px, share in ((1.2, 0.9), (60.0, 0.0)):
        noise = signs * torch.tensor([off_px / 600, -off_px / 800])
        noise[20:] = 0
        found = estimate_absolute_pose(points, coordinates + noise, SECOND)
        assert found is not None
        assert found[1][20:].all()
        assert abs(float(found[1][:20].float().mean()) - share) < 0.15


def test_a_pose_is_refined_on_matches_nearer_than_the_threshold():
    pair = noisy(80, 40)
    rough = unit(rotated(POSE, torch.tensor([0.0005, -0.0005, 0.0005])))
    refined = pair.refine_pose(rough)
    assert pose_angle(refined, POSE) < 0.01
    assert float(refined[:3, 3].norm()) == pytest.approx(1, abs=1e-5)
    inliers, others = (pair.find_inliers(pose) for pose in (refined, rough))
    errors = [pair.sampson_px(pose.first2second)[:80].abs().mean() for pose in (inliers, others)]
    assert errors[0] < errors[1]
    narrow = pair.refine_pose(rough, 0.01)  # hardly a match is that near
    assert pose_angle(narrow, rough) < 0.3 * pose_angle(refined, rough)


def test_ransac_repeats_itself_and_costs_more_where_fewer_agree():
    pair = noisy(60, 60)
    (pose, cost), (again, _) = pair.ransac(3), pair.ransac(3)
    assert torch.equal(pose, again)
    assert 0 < cost < pair.ransac(3, 5.0)[1]


def test_the_angle_between_poses_is_the_larger_of_two():
    turned = rotated(ASIDE, torch.tensor([0.0, 0.0, 0.2]))
    moved = ASIDE.clone()
    moved[:3, 3] = torch.tensor([-math.cos(0.3), math.sin(0.3), 0.0])
    both = rotated(moved, torch.tensor([0.1, 0.0, 0.0]))
    angles = [pose_angle(ASIDE, pose) for pose in (ASIDE, turned, moved, both)]
    assert angles == pytest.approx([0, 0.2, 0.3, 0.3], abs=1e-4)
    opposite = ASIDE.clone()
    opposite[0, 3] = 1
    assert pose_angle(ASIDE, opposite) == pytest.approx(math.pi)


def test_poselib_gets_intrinsics_in_pixels():
    assert poselib_camera(SECOND) == {
        "model": "PINHOLE",
        "width": 600,
        "height": 800,
        "params": pytest.approx([960.0, 960.0, 312.0, 360.0]),
    }


def test_a_pose_counts_its_inliers():
    pose = RelativePose(ASIDE, in_order(5), torch.ones(5), torch.ones(5), 0.5)
    assert len(pose) == 5 and pose.alternatives == ()
