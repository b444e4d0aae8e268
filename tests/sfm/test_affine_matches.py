"""Affine matches are refined, and decide which pose is right."""

import math
from dataclasses import replace

import pytest
import torch
from known_points import rotated, unit
from scripted_matcher import in_order
from torch import Tensor
from two_planes_scene import HALF_CARD, INTRINSICS, raytrace

from models.features.matcher import NO_TENTATIVE_MATCHES, TentativeMatches
from models.geometry.camera import Camera, project
from models.geometry.rigid import rotation_angle, se3_exponential
from models.geometry.views import View
from models.sfm.affine_matches import (
    AffineMatches,
    refine_affine_matches,
    with_affine_neighbors,
)
from models.sfm.correspondences import Correspondences
from models.sfm.hypotheses import pose_score, select_pose
from models.sfm.registration import _select_unsure_poses
from models.sfm.two_view import TwoView, pose_angle

SIZE = (240, 320)
CAMERA = Camera(INTRINSICS, torch.eye(4), SIZE)
PIXELS = torch.tensor([320.0, 240.0])
SECOND = se3_exponential(torch.tensor([-0.5, 0.1, 0.1, 0.05, -0.15, 0.1]))
TRUE = unit(SECOND)
STEP = 0.01  # length of a small step on a plane


def points(count: int = 60) -> Tensor:
    """Points on the wall and on the card that neither camera sees near an edge of the card."""
    wall = torch.rand(2 * count, 3) * torch.tensor([2.4, 1.8, 0.0]) - torch.tensor([1.2, 0.9, 0.0])
    wall[:, 2] = 3.0
    behind = (wall[:, :2].abs() < 4 * HALF_CARD).all(1) & (wall[:, 1].abs() < 2 * HALF_CARD)
    card = (torch.rand(count // 2, 3) - 0.5) * 1.2 * HALF_CARD
    card[:, 2] = 2.0
    return torch.cat([wall[~behind][: count // 2], card])


def seen(world: Tensor) -> tuple[Tensor, Tensor]:
    first, second = (project(world, pose, INTRINSICS)[0] for pose in (torch.eye(4), SECOND))
    return first, second


@pytest.fixture(scope="module")
def photos() -> tuple[Tensor, Tensor]:
    return tuple(raytrace(pose, INTRINSICS, SIZE)[0] for pose in (torch.eye(4), SECOND))


@pytest.fixture
def scene() -> tuple[TwoView, Tensor, Tensor]:
    """Matches off by most of a pixel; where they should be; and their points."""
    world = points()
    first, second = seen(world)
    inside = ((first - 0.5).abs() < 0.45).all(1) & ((second - 0.5).abs() < 0.45).all(1)
    world, first, second = world[inside], first[inside], second[inside]
    off = second + 0.5 * torch.randn_like(second) / PIXELS
    return TwoView((CAMERA, CAMERA), (first, off), in_order(len(first))), second, world


@pytest.fixture
def affine(photos, scene) -> AffineMatches:
    """The scene's matches, refined from the true pose."""
    return refine_affine_matches(photos, scene[0], [TRUE])


def with_second(pair: TwoView, second: Tensor) -> TwoView:
    return replace(pair, keypoints=(pair.keypoints[0], second))


def error_px(coordinates: Tensor, truth: Tensor) -> float:
    return float(((coordinates - truth) * PIXELS).norm(dim=1).median())


def test_matches_move_to_where_the_photos_agree(scene, affine):
    pair, truth, _ = scene
    refined, before = affine.is_refined, pair.keypoints[1]

    assert refined.float().mean() > 0.7
    assert error_px(before, truth) > 0.4
    assert error_px(affine.second[refined], truth[refined]) < 0.1
    torch.testing.assert_close(affine.second[~refined], before[~refined])


def test_a_step_beside_a_match_is_followed_in_the_second_photo(scene, affine):
    pair, truth, world = scene
    for axis in torch.eye(3)[:2]:
        first, second = seen(world + STEP * axis)
        step, expected = (first - pair.keypoints[0]) * PIXELS, (second - truth) * PIXELS
        mapped = (affine.affinity @ step[..., None])[..., 0]
        error = ((mapped - expected).norm(dim=1) / expected.norm(dim=1))[affine.is_refined]
        assert error.median() < 0.05


def test_an_affinity_is_found_from_a_wrong_pose(photos, scene, affine):
    wrong = rotated(TRUE, torch.tensor([0.0, 0.0, 0.08]))
    found = refine_affine_matches(photos, scene[0], [wrong])
    both = affine.is_refined & found.is_refined

    assert both.sum() > 8
    assert (affine.affinity - found.affinity)[both].flatten(1).norm(dim=1).median() < 0.05


def test_photos_of_different_things_stay_as_they_are(photos, scene):
    pair, _, _ = scene
    affine = refine_affine_matches((photos[0], photos[1].flip(0, 2)), pair, [TRUE])

    assert not affine.is_refined.any()
    torch.testing.assert_close(affine.second, pair.keypoints[1])


@pytest.mark.parametrize("edges", [[161], [161, 177], [169], []])
def test_flat_patches_with_an_edge_beside_them_move_no_match(edges):
    image = torch.ones(3, *SIZE)
    for edge in edges:
        image[:, :, edge:] = 1 - image[:, :, edge:]
    first = torch.tensor([[152.0, 120.0], [152.5, 120.0], [90.0, 120.0], [168.0, 60.0]]) / PIXELS
    pair = TwoView((CAMERA, CAMERA), (first, first - torch.tensor([0.05, 0])), in_order(4))
    translation = torch.eye(4)
    translation[0, 3] = -1
    affine = refine_affine_matches((image, image.roll(-16, 2)), pair, [translation])

    assert affine.second.isfinite().all()
    torch.testing.assert_close(affine.second[2], pair.keypoints[1][2])  # nothing there to align
    assert not affine.is_refined[2]


def test_the_neighbors_of_an_affine_match_are_four_further_matches(scene, affine):
    pair, truth, _ = scene
    extended = with_affine_neighbors(with_second(pair, affine.second), affine)

    assert len(extended.matches) == len(truth) + 4 * affine.is_refined.sum()
    assert extended.find_inliers(TRUE).inlier_ratio > 0.9


def test_affinities_that_turn_another_way_speak_against_a_pose(scene, affine):
    pair, truth, _ = scene
    pair = with_second(pair, truth)
    affine = replace(affine, second=truth)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    turned = replace(affine, affinity=turn @ affine.affinity)
    count, refined = len(truth), int(affine.is_refined.sum())

    assert pose_score(pair, affine, TRUE) > count + 1.5 * refined
    assert count - 1 < pose_score(pair, turned, TRUE) < count + 0.5 * refined


def test_matches_behind_the_camera_score_nothing(scene, affine):
    pair, truth, _ = scene
    pair = with_second(pair, truth)
    backward = TRUE.clone()
    backward[:3, 3] *= -1

    assert pose_score(pair, affine, backward) < 1


def test_a_pose_is_more_precise_after_its_matches_were_refined(photos, scene):
    pair, truth, _ = scene
    rough = pair.find_inliers(rotated(TRUE, torch.tensor([0.005, -0.005, 0.005])))
    refined, selected, _ = select_pose(photos, pair, rough)
    before, after = (
        math.degrees(rotation_angle(pose.first2second[:3, :3], SECOND[:3, :3]))
        for pose in (rough, selected)
    )

    assert after < 0.2 < 0.4 < before
    assert error_px(refined.keypoints[1], truth) < 0.2 < 0.4 < error_px(pair.keypoints[1], truth)
    assert len(selected) > 0.85 * len(truth)


def test_the_right_pose_is_selected_among_alternatives_of_a_wrong_one(photos, scene):
    pair, _, _ = scene
    wrong = rotated(TRUE, torch.tensor([0.0, 0.2, 0.0]))
    found = pair.find_inliers(TRUE)
    start = replace(found, first2second=wrong, alternatives=(TRUE,))
    _, selected, runner_up = select_pose(photos, pair, start)

    assert math.degrees(pose_angle(selected.first2second, TRUE)) < 2
    assert runner_up.margin > 5 and math.degrees(runner_up.angle_rad) > 5


@pytest.mark.parametrize("has_tentative", [True, False])
def test_a_pose_with_tentative_matches_is_selected_again(
    photos, scene, monkeypatch, has_tentative: bool
):
    """However many matches agree: all may lie on one plane."""
    monkeypatch.setattr("models.sfm.registration.ENOUGH_INLIERS", 10)
    pair, truth, _ = scene
    tentative = NO_TENTATIVE_MATCHES
    if has_tentative:
        tentative = TentativeMatches(pair.matches, torch.full((len(truth),), 0.5))
    both, pose = (0, 1), pair.find_inliers(TRUE)
    found = Correspondences(
        pair.cameras, list(pair.keypoints), {both: pair.matches}, {both: pose}, {both: tentative}
    )
    views = [View(photo, CAMERA) for photo in photos]
    again, runners_up = _select_unsure_poses(found, views)

    assert (both in runners_up) == has_tentative
    assert (again.poses[both] is pose) == (not has_tentative)
    assert (error_px(again.keypoints[1], truth) < 0.2) == has_tentative
