"""Surroundings of matches are aligned, and tell which motion is right."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from two_planes_scene import HALF_CARD, photograph

from models.features.matcher import NO_GUESSES, Guesses
from models.geometry.camera import project
from models.geometry.rigid import rotation_angle, se3_exponential
from models.sfm.affine_matches import align, with_rims
from models.sfm.correspondences import Correspondences
from models.sfm.hypotheses import agreement, choose
from models.sfm.registration import _choose_where_unsure
from models.sfm.two_view import MatchedPair, RelativePose, angle_between, explain

INTRINSICS = torch.tensor([[0.9, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]])
BOTH = INTRINSICS.expand(2, 3, 3)
SIZE = (240, 320)
PIXELS = torch.tensor([320.0, 240.0])
MOTION = se3_exponential(torch.tensor([-0.5, 0.1, 0.1, 0.05, -0.15, 0.1]))
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
    first, second = (project(world, pose, INTRINSICS)[0] for pose in (torch.eye(4), MOTION))
    return first, second


@pytest.fixture(scope="module")
def photos() -> tuple[Tensor, Tensor]:
    return tuple(photograph(pose, INTRINSICS, SIZE)[0] for pose in (torch.eye(4), MOTION))


@pytest.fixture
def scene() -> tuple[MatchedPair, Tensor, Tensor]:
    """Matches off by most of a pixel; where they should be; and their points."""
    world = points()
    first, second = seen(world)
    inside = ((first - 0.5).abs() < 0.45).all(1) & ((second - 0.5).abs() < 0.45).all(1)
    world, first, second = world[inside], first[inside], second[inside]
    off = second + 0.5 * torch.randn_like(second) / PIXELS
    matches = torch.arange(len(first))[:, None].expand(-1, 2)
    return MatchedPair(first, off, matches, BOTH, (SIZE, SIZE)), second, world


def unit(motion: Tensor) -> Tensor:
    motion = motion.clone()
    motion[:3, 3] /= motion[:3, 3].norm()
    return motion


def posed(pair: MatchedPair, motion: Tensor) -> RelativePose:
    return explain(pair.where(pair.matches), pair.matches, BOTH, (SIZE, SIZE), unit(motion))


def error_px(coordinates: Tensor, truth: Tensor) -> float:
    return float(((coordinates - truth) * PIXELS).norm(dim=1).median())


def test_matches_move_to_where_the_photos_agree(photos, scene):
    pair, truth, _ = scene
    around = align(photos, pair, [unit(MOTION)])

    assert around.good.float().mean() > 0.7
    assert error_px(pair.second, truth) > 0.4
    assert error_px(around.second[around.good], truth[around.good]) < 0.1
    torch.testing.assert_close(around.second[~around.good], pair.second[~around.good])


def test_a_step_beside_a_match_is_followed_in_the_second_photo(photos, scene):
    pair, truth, world = scene
    around = align(photos, pair, [unit(MOTION)])
    for axis in torch.eye(3)[:2]:
        first, second = seen(world + STEP * axis)
        step, followed = (first - pair.first) * PIXELS, (second - truth) * PIXELS
        told = (around.shape @ step[..., None])[..., 0]
        wrong = ((told - followed).norm(dim=1) / followed.norm(dim=1))[around.good]
        assert wrong.median() < 0.05


def test_the_shape_of_surroundings_is_found_from_a_wrong_guess(photos, scene):
    pair, _, _ = scene
    turned = unit(MOTION)
    turned[:3, :3] = (
        se3_exponential(torch.tensor([0, 0, 0, 0.0, 0.0, 0.08]))[:3, :3] @ turned[:3, :3]
    )
    right, found = align(photos, pair, [unit(MOTION)]), align(photos, pair, [turned])
    both = right.good & found.good

    assert both.sum() > 8
    assert (right.shape - found.shape)[both].flatten(1).norm(dim=1).median() < 0.05


def test_photos_of_different_things_stay_as_they_are(photos, scene):
    pair, _, _ = scene
    around = align((photos[0], photos[1].flip(0, 2)), pair, [unit(MOTION)])

    assert not around.good.any()
    torch.testing.assert_close(around.second, pair.second)


def test_what_lies_around_a_match_is_four_further_matches(photos, scene):
    pair, truth, _ = scene
    around = align(photos, pair, [unit(MOTION)])
    first, second = with_rims(replace(pair, second=around.second), around)
    pose = explain(
        (first, second),
        torch.arange(len(first))[:, None].expand(-1, 2),
        BOTH,
        (SIZE, SIZE),
        unit(MOTION),
    )

    assert len(first) == len(truth) + 4 * around.good.sum()
    assert pose.inlier_ratio > 0.9


def test_surroundings_that_turn_another_way_speak_against_a_motion(photos, scene):
    pair, truth, _ = scene
    pair = replace(pair, second=truth)
    around = replace(align(photos, pair, [unit(MOTION)]), second=truth)
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    turned = replace(around, shape=turn @ around.shape)
    count, good = len(truth), int(around.good.sum())

    assert agreement(pair, around, unit(MOTION)) > count + 1.5 * good
    assert count - 1 < agreement(pair, turned, unit(MOTION)) < count + 0.5 * good


def test_points_behind_the_camera_are_not_explained(photos, scene):
    pair, truth, _ = scene
    around = align(photos, replace(pair, second=truth), [unit(MOTION)])
    backward = unit(MOTION)
    backward[:3, 3] *= -1

    assert agreement(replace(pair, second=truth), around, backward) < 1


def test_a_motion_is_more_precise_after_its_matches_have_moved(photos, scene):
    pair, truth, _ = scene
    rough = posed(pair, MOTION @ se3_exponential(torch.tensor([0, 0, 0, 0.005, -0.005, 0.005])))
    moved, chosen, _ = choose(photos, pair, rough)
    before, after = (
        math.degrees(rotation_angle(pose.first2second[:3, :3], MOTION[:3, :3]))
        for pose in (rough, chosen)
    )

    assert after < 0.2 < 0.4 < before
    assert error_px(moved.second, truth) < 0.2 < 0.4 < error_px(pair.second, truth)
    assert len(chosen) > 0.85 * len(truth)


def test_the_motion_across_is_left_for_the_right_one(photos, scene):
    pair, _, _ = scene
    wrong = unit(MOTION)
    wrong[:3, :3] = se3_exponential(torch.tensor([0, 0, 0, 0.0, 0.2, 0.0]))[:3, :3] @ wrong[:3, :3]
    start = replace(posed(pair, MOTION), first2second=wrong, others=(unit(MOTION),))
    _, chosen, contender = choose(photos, pair, start)

    assert math.degrees(angle_between(chosen.first2second, unit(MOTION))) < 2
    assert contender.margin > 5 and math.degrees(contender.angle) > 5


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_pair_that_further_matchers_were_asked_about_is_chosen_again(
    photos, scene, monkeypatch, is_asked: bool
):
    """However many matches agree: all may lie on one plane."""
    monkeypatch.setattr("models.sfm.registration.ENOUGH", 10)
    pair, truth, _ = scene
    guesses = Guesses(pair.matches, torch.full((len(truth),), 0.5)) if is_asked else NO_GUESSES
    both = (0, 1)
    pose = posed(pair, MOTION)
    found = Correspondences(
        [pair.first, pair.second], {both: pair.matches}, {both: pose}, {both: guesses}
    )
    again, rivals = _choose_where_unsure(found, list(photos), BOTH, [SIZE, SIZE])

    assert (both in rivals) == is_asked
    assert (again.poses[both] is pose) == (not is_asked)
    assert (error_px(again.coordinates[1], truth) < 0.2) == is_asked
