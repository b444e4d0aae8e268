"""A focal length from matches, on points whose cameras are known."""

import pytest
import torch
from torch import Tensor
from two_planes_scene import INTRINSICS as OFF_CENTER

from models.features.matcher import NO_GUESSES, Features, Guesses
from models.geometry.camera import project
from models.geometry.rigid import se3_exponential
from models.sfm.correspondences import Correspondences
from models.sfm.focal_length import (
    GUESS_SPREAD,
    MOST_SPREAD,
    TRIED,
    SharedFocal,
    calibrate,
    most_likely,
)
from models.sfm.registration import register
from models.sfm.two_view import relative_pose

SIZE = (600, 800)
TRUE = torch.tensor([[0.9, 0.0, 0.5], [0.0, 1.2, 0.5], [0.0, 0.0, 1.0]])
AROUND = se3_exponential(torch.tensor([-1.2, 0.1, 0.3, 0.05, -0.35, 0.1]))  # turns as it moves
ALONG = se3_exponential(torch.tensor([-0.5, 0.1, 0.0, 0.0, 0.0, 0.0]))


def seen_from(motion: Tensor, wrong_by: float) -> tuple[Correspondences, Tensor]:
    """Matches with half a pixel of noise, poses with a wrong focal length, and those cameras."""
    generator = torch.Generator().manual_seed(3)
    spread = torch.tensor([2.0, 1.5, 2.0])
    points = (torch.rand(400, 3, generator=generator) - 0.5) * 2 * spread
    points[:, 2] += 4.5
    sides = torch.tensor([SIZE[1], SIZE[0]])
    sights = [project(points, pose, TRUE)[0] for pose in (torch.eye(4), motion)]
    sights = [at + 0.4 * torch.randn(at.shape, generator=generator) / sides for at in sights]
    guess = (TRUE * torch.tensor([wrong_by, wrong_by, 1.0])).expand(2, 3, 3)
    matches = torch.arange(400).repeat(2, 1).T
    pose = relative_pose(*sights, matches, guess, (SIZE, SIZE))
    return Correspondences(sights, {(0, 1): matches}, {(0, 1): pose}, {}), guess


@pytest.mark.parametrize("wrong_by", [0.75, 1.4])
def test_a_wrong_guess_is_corrected_and_the_pose_with_it(wrong_by: float):
    wrong, guess = seen_from(AROUND, wrong_by)
    found, focal = calibrate(wrong, guess, [SIZE, SIZE], (0, 1))

    assert focal.factor * wrong_by == pytest.approx(1, abs=0.04)
    direction = torch.nn.functional.normalize(AROUND[:3, 3], dim=0)
    errors = [(each.poses[0, 1].first2second[:3, 3] - direction).norm() for each in (wrong, found)]
    assert errors[1] < 0.02 < errors[0]


def test_a_focal_length_that_the_motion_does_not_tell_stays_the_guess():
    found, guess = seen_from(ALONG, 1.3)
    assert calibrate(found, guess, [SIZE, SIZE], (0, 1)) == (found, None)


def test_only_photos_of_unknown_focal_length_are_asked():
    found, guess = seen_from(AROUND, 1.4)
    for unknown in ((), (1,)):
        assert calibrate(found, guess, [SIZE, SIZE], unknown) == (found, None)


def test_misfits_that_are_all_alike_leave_the_guess():
    factor, spread = most_likely(torch.full((TRIED,), 80.0))
    assert factor == pytest.approx(1)
    assert MOST_SPREAD < spread < GUESS_SPREAD


def test_only_the_focal_lengths_of_the_guessed_photos_change():
    cameras = OFF_CENTER.expand(3, 3, 3)
    applied = SharedFocal(1.5, 0.1, (0, 2)).applied_to(cameras)

    assert torch.equal(applied[1], OFF_CENTER)
    torch.testing.assert_close(applied[2].diagonal(), torch.tensor([1.35, 1.8, 1.0]))
    assert torch.equal(applied[2, :, 2], OFF_CENTER[:, 2])
    assert torch.equal(cameras[0], OFF_CENTER)


class Known:
    """Finds the keypoints it was given, one list a photo, and matches them in order."""

    def __init__(self, sights: list[Tensor]) -> None:
        self.left = list(sights)

    def detect(self, image: Tensor, turn: float = 0.0) -> Features:
        coordinates = self.left.pop(0)
        return Features(coordinates, torch.zeros(len(coordinates), 128), 4 / 3)

    def match(self, first: Features, second: Features) -> Tensor:
        return torch.arange(len(first.coordinates)).repeat(2, 1).T

    def guess(self, first: Features, second: Features) -> Guesses:
        return NO_GUESSES


def test_photos_are_registered_with_the_focal_length_that_was_found():
    found, guess = seen_from(AROUND, 0.75)
    photos = [torch.zeros(3, *SIZE)] * 2
    at_guess = register(photos, guess, [Known(found.coordinates)])
    registration = register(photos, guess, [Known(found.coordinates)], unknown_focal=(0, 1))

    assert at_guess.focal is None
    assert registration.focal.factor == pytest.approx(1 / 0.75, rel=0.04)
    direction = torch.nn.functional.normalize(AROUND[:3, 3], dim=0)
    errors = [
        torch.linalg.cross(each.world2cam[1, :3, 3], direction).norm()
        / each.world2cam[1, :3, 3].norm()
        for each in (at_guess, registration)
    ]
    assert errors[1] < 0.02 < errors[0]
