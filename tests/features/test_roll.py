"""How much photos are turned against each other, as their keypoints say."""

import math

import pytest
import torch
from torch import Tensor

from models.features.matcher import Features
from models.features.relative_roll import relative_roll, turns_to_first

MANY = torch.arange(60)[:, None].expand(60, 2)


def turned_by(degrees: float, right: int = 60, count: int = 60) -> tuple[Features, Features]:
    """Keypoints of two photos; so many angles differ by this turn, the others by anything."""
    first = 2 * math.pi * torch.rand(count)
    noise = math.radians(6) * torch.randn(count)
    second = first + math.radians(degrees) + noise
    second[right:] = 2 * math.pi * torch.rand(count - right)
    return _features(first), _features(second)


def _features(angles: Tensor) -> Features:
    angles = torch.remainder(angles, 2 * math.pi)
    return Features(torch.rand(len(angles), 2), torch.zeros(len(angles), 128), 1.0, angles)


@pytest.mark.parametrize("degrees", [-170.0, -40.0, 3.0, 100.0, 178.0])
def test_a_turn_is_found_among_wrong_matches(degrees: float):
    roll, votes = relative_roll(*turned_by(degrees, right=25), MANY)
    off = math.remainder(math.degrees(roll) - degrees, 360)
    assert abs(off) < 5 and votes > 10


def test_angles_that_mean_nothing_tell_no_turn():
    told = [relative_roll(*turned_by(50, right=0), MANY) for _ in range(100)]
    assert told.count((0.0, 0.0)) >= 98
    assert relative_roll(*turned_by(50), MANY[:0]) == (0.0, 0.0)


def test_keypoints_without_angles_tell_no_turn():
    plain = Features(torch.rand(60, 2), torch.zeros(60, 128), 1.0)
    assert relative_roll(plain, plain, MANY) == (0.0, 0.0)


def test_a_photo_is_turned_back_unless_it_hardly_is():
    for degrees, expected in ((70.0, -70.0), (-120.0, 120.0), (10.0, 0.0)):
        first, second = turned_by(degrees)
        turns = turns_to_first({0: first, 1: second}, {(0, 1): MANY})
        assert turns[0] == 0
        assert math.degrees(turns[1]) == pytest.approx(expected, abs=4)


def test_a_third_photo_follows_the_one_that_it_has_most_in_common_with():
    first, second = turned_by(60)
    third = _features(second.angles + math.radians(50))
    stranger = torch.stack([torch.arange(60), torch.randperm(60)], dim=1)
    matches = {(0, 1): MANY, (0, 2): stranger, (1, 2): MANY}
    turns = turns_to_first({0: first, 1: second, 2: third}, matches)
    assert math.degrees(turns[2]) == pytest.approx(-110, abs=4)
