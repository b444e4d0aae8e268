"""A focal length from matches, on points whose cameras are known."""

from dataclasses import replace

import pytest
import torch
from known_points import unit
from scripted_matcher import ScriptedMatcher, in_order
from torch import Tensor
from two_planes_scene import INTRINSICS as OFF_CENTER

from models.confidence import TRUSTED_CONFIDENCE, least_confidence
from models.geometry.camera import Camera, project
from models.geometry.rigid import se3_exponential
from models.geometry.views import View
from models.sfm.correspondences import Correspondences
from models.sfm.focal_length import (
    CENTERED,
    FACTORS,
    GUESS_LOG_STD,
    MAX_LOG_STD,
    UNEQUAL_LOG_STD,
    FocalEstimate,
    estimate_focal_lengths,
    focal_posterior,
    scale_focal,
)
from models.sfm.registration import Registration, _guess_spread, register
from models.sfm.two_view import estimate_relative_pose, pose_angle

TRUE = Camera(
    torch.tensor([[0.9, 0.0, 0.5], [0.0, 1.2, 0.5], [0.0, 0.0, 1.0]]), torch.eye(4), (600, 800)
)
AROUND = se3_exponential(torch.tensor([-1.2, 0.1, 0.3, 0.05, -0.35, 0.1]))  # turns as it moves
TRUE_POSE = unit(AROUND)
ALONG = se3_exponential(torch.tensor([-0.5, 0.1, 0.0, 0.0, 0.0, 0.0]))


def correspondences(
    first2second: Tensor, wrong_by: float, groups: tuple[int | None, int | None] = (0, 0)
) -> Correspondences:
    """Matches with half a pixel of noise, cameras and a pose with a wrong focal length."""
    generator = torch.Generator().manual_seed(3)
    extent = torch.tensor([2.0, 1.5, 2.0])
    points = (torch.rand(400, 3, generator=generator) - 0.5) * 2 * extent
    points[:, 2] += 4.5
    width_height = torch.tensor(TRUE.size[::-1])
    keypoints = [project(points, pose, TRUE.intrinsics)[0] for pose in (torch.eye(4), first2second)]
    keypoints = [
        at + 0.4 * torch.randn(at.shape, generator=generator) / width_height for at in keypoints
    ]
    guess = scale_focal(TRUE, wrong_by)
    cameras = tuple(replace(guess, focal_group=group) for group in groups)
    found = Correspondences(cameras, keypoints, {(0, 1): in_order(400)}, {}, {})
    return replace(found, poses={(0, 1): estimate_relative_pose(found.two_view((0, 1)))})


@pytest.mark.parametrize("wrong_by", [0.75, 1.4])
def test_a_wrong_guess_is_corrected_and_the_pose_with_it(wrong_by: float):
    wrong = correspondences(AROUND, wrong_by)
    found, focal = estimate_focal_lengths(wrong)

    assert focal.factors[1] * wrong_by == pytest.approx(1, abs=0.04)
    torch.testing.assert_close(
        found.cameras[1].intrinsics, scale_focal(wrong.cameras[1], focal.factors[1]).intrinsics
    )
    direction = torch.nn.functional.normalize(AROUND[:3, 3], dim=0)
    errors = [(each.poses[0, 1].first2second[:3, 3] - direction).norm() for each in (wrong, found)]
    assert errors[1] < 0.02 < errors[0]


def test_a_focal_length_that_the_matches_do_not_determine_stays_the_guess():
    found = correspondences(ALONG, 1.3)
    assert estimate_focal_lengths(found) == (found, None)


def cut_out(share: float, zoom: float = 1.0) -> Correspondences:
    """Matches of a photo and of the center of another, enlarged; both focal lengths are guesses."""
    found = correspondences(AROUND, 1.0)
    points = (found.keypoints[1] - 0.5) / share + 0.5
    seen = ((points > 0) & (points < 1)).all(1)
    height, width = (round(share * zoom * side) for side in TRUE.size)
    second = replace(TRUE, size=(height, width), focal_group=1)  # the guess: the field of view
    found = replace(
        found,
        cameras=(found.cameras[0], second),
        keypoints=[found.keypoints[0], points],
        matches={(0, 1): in_order(400)[seen]},
    )
    return replace(found, poses={(0, 1): estimate_relative_pose(found.two_view((0, 1)))})


@pytest.mark.parametrize("share", [0.65, 0.75])
def test_a_photo_cut_out_of_a_larger_one_has_the_larger_ones_focal_length_in_pixels(share):
    wrong = cut_out(share)
    found, focal = estimate_focal_lengths(wrong)

    first, second = (camera.intrinsics_px[0, 0] for camera in found.cameras)
    torch.testing.assert_close(second, first)
    assert focal.factors[0] == pytest.approx(1, abs=0.1)
    assert focal.probability > 0.7 * CENTERED
    errors = [pose_angle(each.poses[0, 1].first2second, TRUE_POSE) for each in (wrong, found)]
    assert errors[1] < 0.06 < errors[0]


def test_photos_of_one_camera_that_were_reduced_differently_keep_one_field_of_view():
    found = cut_out(1.0, zoom=0.6)
    _, focal = estimate_focal_lengths(found)
    assert focal.factors[1] == pytest.approx(focal.factors[0])
    assert focal.factors[0] == pytest.approx(1, abs=0.1)


def registered(found: Correspondences) -> Registration:
    views = [View(torch.zeros(3, *camera.size), camera) for camera in found.cameras]
    return register(views, [ScriptedMatcher(found.keypoints, found.matches)])


def test_photos_of_two_sizes_without_focal_lengths_are_not_trusted_by_their_matches():
    found = registered(cut_out(0.7))
    assert found.calibration_probability <= CENTERED
    assert least_confidence(found) < TRUSTED_CONFIDENCE
    certain = replace(found, calibration_probability=1.0)
    assert least_confidence(certain) == pytest.approx(
        least_confidence(found) / found.calibration_probability
    )


def test_a_part_that_was_enlarged_to_the_size_of_the_whole_is_not_trusted():
    found = cut_out(0.6, zoom=1 / 0.6)
    enlarged = replace(found, cameras=tuple(replace(TRUE, focal_group=0) for _ in range(2)))
    assert registered(enlarged).calibration_probability < 0.5
    whole = correspondences(AROUND, 1.0)
    assert registered(whole).calibration_probability > 0.95


def test_cameras_that_are_known_are_not_doubted():
    assert registered(correspondences(AROUND, 1.0, (None, None))).calibration_probability == 1


def test_photos_of_three_sizes_without_focal_lengths_are_less_certain_than_those_of_one():
    guessed = tuple(replace(TRUE, focal_group=group) for group in (0, 1, 2))
    spreads = [_guess_spread(cameras) for cameras in ((TRUE,) * 3, (guessed[0],) * 3, guessed)]
    assert spreads == [0.0, GUESS_LOG_STD, UNEQUAL_LOG_STD]


@pytest.mark.parametrize("groups", [(None, None), (None, 0)])
def test_only_photos_that_share_a_guessed_focal_length_are_calibrated(groups):
    found = correspondences(AROUND, 1.4, groups)
    assert estimate_focal_lengths(found) == (found, None)


def test_costs_that_are_all_alike_leave_the_guess():
    factor, spread = focal_posterior(torch.full((FACTORS,), 80.0))
    assert factor == pytest.approx(1)
    assert MAX_LOG_STD < spread < GUESS_LOG_STD


def test_only_the_focal_lengths_of_the_guessed_photos_change():
    cameras = (replace(TRUE, intrinsics=OFF_CENTER),) * 3
    applied = FocalEstimate({0: 1.5, 2: 1.5}, 0.1).applied_to(cameras)

    assert torch.equal(applied[1].intrinsics, OFF_CENTER)
    scaled = applied[2].intrinsics
    torch.testing.assert_close(scaled.diagonal(), torch.tensor([1.35, 1.8, 1.0]))
    assert torch.equal(scaled[:, 2], OFF_CENTER[:, 2])
    assert torch.equal(cameras[0].intrinsics, OFF_CENTER)


def test_photos_are_registered_with_the_focal_length_that_was_found():
    guess, estimated = (
        register(
            [View(torch.zeros(3, *TRUE.size), camera) for camera in found.cameras],
            [ScriptedMatcher(found.keypoints, found.matches)],
        )
        for found in (correspondences(AROUND, 0.75, groups) for groups in ((None, None), (0, 0)))
    )

    assert guess.focal is None
    assert estimated.focal.factors[1] == pytest.approx(1 / 0.75, rel=0.04)
    torch.testing.assert_close(
        estimated.cameras[1].intrinsics,
        scale_focal(guess.cameras[1], estimated.focal.factors[1]).intrinsics,
    )
    direction = torch.nn.functional.normalize(AROUND[:3, 3], dim=0)
    errors = [
        torch.linalg.cross(pose[:3, 3], direction).norm() / pose[:3, 3].norm()
        for pose in (each.cameras[1].world2cam for each in (guess, estimated))
    ]
    assert errors[1] < 0.02 < errors[0]
