"""A focal length from matches, on points whose cameras are known."""

from dataclasses import replace

import pytest
import torch
from scripted_matcher import ScriptedMatcher, in_order
from torch import Tensor
from two_planes_scene import INTRINSICS as OFF_CENTER

from models.geometry.camera import Camera, project
from models.geometry.rigid import se3_exponential
from models.geometry.views import View
from models.sfm.correspondences import Correspondences
from models.sfm.focal_length import (
    FACTORS,
    GUESS_LOG_STD,
    MAX_LOG_STD,
    SharedFocal,
    estimate_shared_focal,
    focal_posterior,
    scale_focal,
)
from models.sfm.registration import register
from models.sfm.two_view import estimate_relative_pose

TRUE = Camera(
    torch.tensor([[0.9, 0.0, 0.5], [0.0, 1.2, 0.5], [0.0, 0.0, 1.0]]), torch.eye(4), (600, 800)
)
AROUND = se3_exponential(torch.tensor([-1.2, 0.1, 0.3, 0.05, -0.35, 0.1]))  # turns as it moves
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
    found, focal = estimate_shared_focal(wrong)

    assert focal.factor * wrong_by == pytest.approx(1, abs=0.04)
    torch.testing.assert_close(
        found.cameras[1].intrinsics, scale_focal(wrong.cameras[1], focal.factor).intrinsics
    )
    direction = torch.nn.functional.normalize(AROUND[:3, 3], dim=0)
    errors = [(each.poses[0, 1].first2second[:3, 3] - direction).norm() for each in (wrong, found)]
    assert errors[1] < 0.02 < errors[0]


def test_a_focal_length_that_the_matches_do_not_determine_stays_the_guess():
    found = correspondences(ALONG, 1.3)
    assert estimate_shared_focal(found) == (found, None)


@pytest.mark.parametrize("groups", [(None, None), (None, 0), (0, 1)])
def test_only_photos_that_share_a_guessed_focal_length_are_calibrated(groups):
    found = correspondences(AROUND, 1.4, groups)
    assert estimate_shared_focal(found) == (found, None)


def test_costs_that_are_all_alike_leave_the_guess():
    factor, spread = focal_posterior(torch.full((FACTORS,), 80.0))
    assert factor == pytest.approx(1)
    assert MAX_LOG_STD < spread < GUESS_LOG_STD


def test_only_the_focal_lengths_of_the_guessed_photos_change():
    cameras = (replace(TRUE, intrinsics=OFF_CENTER),) * 3
    applied = SharedFocal(1.5, 0.1, (0, 2)).applied_to(cameras)

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
    assert estimated.focal.factor == pytest.approx(1 / 0.75, rel=0.04)
    torch.testing.assert_close(
        estimated.cameras[1].intrinsics,
        scale_focal(guess.cameras[1], estimated.focal.factor).intrinsics,
    )
    direction = torch.nn.functional.normalize(AROUND[:3, 3], dim=0)
    errors = [
        torch.linalg.cross(pose[:3, 3], direction).norm() / pose[:3, 3].norm()
        for pose in (each.cameras[1].world2cam for each in (guess, estimated))
    ]
    assert errors[1] < 0.02 < errors[0]
