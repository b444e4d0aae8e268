"""Guesses tell motions apart that explain the same matches."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.features.matcher import NO_GUESSES, Guesses
from models.geometry.camera import project
from models.geometry.rigid import se3_exponential
from models.sfm.contender import Contender
from models.sfm.degeneracy import flat_twin
from models.sfm.hypotheses import choose
from models.sfm.likelihood import log_likelihood
from models.sfm.two_view import (
    MatchedPair,
    RelativePose,
    angle_between,
    explain,
    propose,
)

INTRINSICS = torch.tensor([[0.9, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]])
BOTH = INTRINSICS.expand(2, 3, 3)
SIZES = ((480, 640), (480, 640))
MOTION = se3_exponential(torch.tensor([-0.1, 0.05, -0.5, 0.05, -0.1, 0.02]))
FLAT, DEEP = 60, 100  # matches on a plane; points beyond it that are merely alike


@pytest.fixture(scope="module")
def scene() -> tuple[MatchedPair, RelativePose, RelativePose]:
    """Matches on a plane and guesses beyond it; the right motion, and the other of the plane."""
    generator = torch.Generator().manual_seed(2)
    plane = torch.rand(FLAT, 3, generator=generator) * torch.tensor([2.4, 1.6, 0.0])
    tilt = se3_exponential(torch.tensor([0, 0, 0, 0.3, 0.5, 0.0]))[:3, :3]
    plane = (plane - torch.tensor([1.2, 0.8, 0.0])) @ tilt.T + torch.tensor([0.0, 0.0, 2.0])
    deep = torch.rand(DEEP, 3, generator=generator) * torch.tensor([3, 2, 3])
    points = torch.cat([plane, deep + torch.tensor([-1.5, -1, 1.5])])
    sights = [project(points, pose, INTRINSICS)[0] for pose in (torch.eye(4), MOTION)]
    # Each guess is right with a chance of 0.2; four others are as likely.
    number = torch.arange(FLAT, FLAT + DEEP)
    others = torch.randint(FLAT, FLAT + DEEP, (4, DEEP), generator=generator)
    pairs = [torch.stack([number, second], dim=1) for second in (number, *others)]
    guesses = Guesses(torch.cat(pairs), torch.full((5 * DEEP,), 0.2))
    matches = torch.arange(FLAT)[:, None].expand(-1, 2)
    pair = MatchedPair(sights[0], sights[1], matches, BOTH, SIZES, guesses)
    unit = MOTION.clone()
    unit[:3, 3] /= unit[:3, 3].norm()
    right = explain(pair.where(matches), matches, BOTH, SIZES, unit)
    wrong = flat_twin(pair, right)
    assert wrong is not None and len(wrong) == len(right) == FLAT
    assert angle_between(wrong.first2second, right.first2second) > 0.1
    return pair, right, wrong


def prefer(pair: MatchedPair, pose: RelativePose) -> tuple[RelativePose, Contender]:
    """The choice where photos show nothing but their matches."""
    blank = torch.zeros(3, *SIZES[0])
    return choose((blank, blank), pair, pose)[1:]


def competing(pose: RelativePose, other: RelativePose) -> RelativePose:
    return replace(pose, others=(other.first2second,))


def test_guesses_choose_between_two_motions_that_explain_all_matches(scene):
    pair, right, wrong = scene
    for competitors in (competing(wrong, right), competing(right, wrong)):
        chosen, rival = prefer(pair, competitors)
        assert angle_between(chosen.first2second, right.first2second) < 1e-3
        assert len(chosen) == FLAT
        assert rival.margin > 5


def test_short_runs_propose_every_motion_that_explains_the_matches(scene):
    pair, right, wrong = scene
    motions = propose(pair)

    for pose in (right, wrong):
        assert min(angle_between(motion, pose.first2second) for motion in motions) < 0.01


def test_a_motion_is_found_that_did_not_compete(scene):
    pair, right, _ = scene
    turned = se3_exponential(torch.tensor([0.6, 0.2, 0.1, -0.2, 0.3, 0.1]))
    world = torch.rand(FLAT - 10, 3, generator=torch.Generator().manual_seed(5))
    world = world * torch.tensor([2, 1.5, 2]) + torch.tensor([-1, -0.75, 2])
    first = project(world, torch.eye(4), INTRINSICS)[0]
    second = project(world, turned, INTRINSICS)[0]
    numbers = len(pair.first) + torch.arange(FLAT - 10)
    matches = torch.cat([pair.matches, numbers[:, None].expand(-1, 2)])
    both = replace(
        pair,
        first=torch.cat([pair.first, first]),
        second=torch.cat([pair.second, second]),
        matches=matches,
    )
    turned[:3, 3] /= turned[:3, 3].norm()
    other = explain(both.where(matches), matches, BOTH, SIZES, turned)
    assert len(other) >= FLAT - 10
    chosen, _ = prefer(both, other)

    assert angle_between(chosen.first2second, right.first2second) < 0.01


def test_without_guesses_the_two_motions_rival_each_other(scene):
    pair, right, wrong = scene
    alone = replace(pair, guesses=NO_GUESSES)
    assert log_likelihood(alone, right.first2second) == 0
    assert prefer(alone, competing(wrong, right))[1].margin < 0.1


def test_guesses_that_are_all_wrong_do_not_outvote_matches(scene):
    pair, right, _ = scene
    generator = torch.Generator().manual_seed(0)
    mixed = FLAT + torch.randperm(5 * DEEP, generator=generator) % DEEP
    pairs = torch.stack([pair.guesses.pairs[:, 0], mixed], dim=1)
    misled = replace(pair, guesses=Guesses(pairs, pair.guesses.chances))
    turned = right.first2second.clone()
    angles = 0.1 * torch.randn(3, generator=generator)
    turned[:3, :3] = se3_exponential(torch.cat([torch.zeros(3), angles]))[:3, :3] @ turned[:3, :3]
    other = explain(pair.where(pair.matches), pair.matches, BOTH, SIZES, turned)

    chosen, _ = prefer(misled, competing(right, other))
    assert len(chosen) == FLAT


def test_points_behind_the_camera_speak_against_a_motion(scene):
    pair, right, _ = scene
    backward = right.first2second.clone()
    backward[:3, 3] *= -1
    certain = Guesses(pair.guesses.pairs[:DEEP], torch.full((DEEP,), 0.9))
    pair = replace(pair, guesses=certain)

    assert log_likelihood(pair, right.first2second) > 2 * DEEP
    assert log_likelihood(pair, backward) < -DEEP


def test_a_likely_guess_says_more_than_an_unlikely_one(scene):
    pair, right, _ = scene

    def told(chance: float) -> Tensor:
        guesses = Guesses(pair.guesses.pairs[:DEEP], torch.full((DEEP,), chance))
        return log_likelihood(replace(pair, guesses=guesses), right.first2second)

    assert 0 < told(0.01) < told(0.1) < told(0.9)
