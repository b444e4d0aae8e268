"""The relative roll of photos from the orientations of their keypoints."""

import math

import pytest
import torch
from scripted_matcher import in_order
from torch import Tensor

from models.features.matcher import Features
from models.features.relative_roll import relative_roll, upright_rotations

MANY = in_order(60)


def rolled_by(degrees: float, right: int = 60, count: int = 60) -> tuple[Features, Features]:
    """Keypoints of two photos; some orientations differ by this angle, the others by any."""
    first = 2 * math.pi * torch.rand(count)
    noise = math.radians(6) * torch.randn(count)
    second = first + math.radians(degrees) + noise
    second[right:] = 2 * math.pi * torch.rand(count - right)
    return _features(first), _features(second)


def _features(angles: Tensor) -> Features:
    angles = torch.remainder(angles, 2 * math.pi)
    return Features(torch.rand(len(angles), 2), torch.zeros(len(angles), 128), 1.0, angles)


@pytest.mark.parametrize("degrees", [-170.0, -40.0, 3.0, 100.0, 178.0])
def test_a_roll_is_found_among_wrong_matches(degrees: float):
    roll, votes = relative_roll(*rolled_by(degrees, right=25), MANY)
    off = math.remainder(math.degrees(roll) - degrees, 360)
    assert abs(off) < 5 and votes > 10


def test_random_orientations_give_no_roll():
    found = [relative_roll(*rolled_by(50, right=0), MANY) for _ in range(100)]
    assert found.count((0.0, 0.0)) >= 98
    assert relative_roll(*rolled_by(50), MANY[:0]) == (0.0, 0.0)


def test_keypoints_without_orientations_give_no_roll():
    plain = Features(torch.rand(60, 2), torch.zeros(60, 128), 1.0)
    assert relative_roll(plain, plain, MANY) == (0.0, 0.0)


def test_a_photo_is_rotated_upright_unless_it_hardly_is_rolled():
    for degrees, expected in ((70.0, -70.0), (-120.0, 120.0), (10.0, 0.0)):
        first, second = rolled_by(degrees)
        rotations = upright_rotations({0: first, 1: second}, {(0, 1): MANY})
        assert rotations[0] == 0
        assert math.degrees(rotations[1]) == pytest.approx(expected, abs=4)


def test_a_third_photo_follows_the_one_that_it_has_most_in_common_with():
    first, second = rolled_by(60)
    third = _features(second.orientations + math.radians(50))
    stranger = torch.stack([torch.arange(60), torch.randperm(60)], dim=1)
    matches = {(0, 1): MANY, (0, 2): stranger, (1, 2): MANY}
    rotations = upright_rotations({0: first, 1: second, 2: third}, matches)
    assert math.degrees(rotations[2]) == pytest.approx(-110, abs=4)
