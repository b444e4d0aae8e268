"""Tentative matches decide between poses that explain the same matches."""

from dataclasses import replace

import pytest
import torch
from known_points import a_deep_scene, a_flat_scene, rotated, unit
from scripted_matcher import in_order
from torch import Tensor
from two_planes_scene import INTRINSICS

from models.features.matcher import NO_TENTATIVE_MATCHES, TentativeMatches
from models.geometry.camera import Camera, project
from models.geometry.rigid import se3_exponential
from models.sfm.degeneracy import second_planar_pose
from models.sfm.hypotheses import (
    RUNNER_UP_RAD,
    RunnerUp,
    find_runner_up,
    log_likelihood,
    propose_poses,
    select_pose,
)
from models.sfm.two_view import RelativePose, TwoView, pose_angle

SIZE = (480, 640)
CAMERA = Camera(INTRINSICS, torch.eye(4), SIZE)
SECOND = se3_exponential(torch.tensor([-0.1, 0.05, -0.5, 0.05, -0.1, 0.02]))
PLANAR, DEEP = 60, 100  # matches on a plane; tentative ones beyond it


@pytest.fixture(scope="module")
def scene() -> tuple[TwoView, RelativePose, RelativePose]:
    """Matches on a plane, tentative ones beyond it; the right pose, and the plane's other one."""
    generator = torch.Generator().manual_seed(2)
    points = torch.cat([a_flat_scene(PLANAR, generator), a_deep_scene(DEEP, generator)])
    keypoints = [project(points, pose, INTRINSICS)[0] for pose in (torch.eye(4), SECOND)]
    # Each tentative match is right with a probability of 0.2; four others are as likely.
    number = torch.arange(PLANAR, PLANAR + DEEP)
    others = torch.randint(PLANAR, PLANAR + DEEP, (4, DEEP), generator=generator)
    pairs = [torch.stack([number, second], dim=1) for second in (number, *others)]
    tentative = TentativeMatches(torch.cat(pairs), torch.full((5 * DEEP,), 0.2))
    pair = TwoView((CAMERA, CAMERA), tuple(keypoints), in_order(PLANAR), tentative)
    right = pair.find_inliers(unit(SECOND))
    wrong = second_planar_pose(pair, right)
    assert wrong is not None and len(wrong) == len(right) == PLANAR
    assert pose_angle(wrong.first2second, right.first2second) > 0.1
    return pair, right, wrong


def select(pair: TwoView, pose: RelativePose) -> tuple[RelativePose, RunnerUp]:
    """Select where photos show nothing but their matches."""
    blank = torch.zeros(3, *SIZE)
    return select_pose((blank, blank), pair, pose)[1:]


def with_alternative(pose: RelativePose, other: RelativePose) -> RelativePose:
    return replace(pose, alternatives=(other.first2second,))


def test_tentative_matches_decide_between_two_poses_that_explain_all_matches(scene):
    pair, right, wrong = scene
    for start in (with_alternative(wrong, right), with_alternative(right, wrong)):
        selected, runner_up = select(pair, start)
        assert pose_angle(selected.first2second, right.first2second) < 1e-3
        assert len(selected) == PLANAR
        assert runner_up.margin > 5


def test_short_runs_propose_every_pose_that_explains_the_matches(scene):
    pair, right, wrong = scene
    proposed = propose_poses(pair)

    for pose in (right, wrong):
        assert min(pose_angle(each, pose.first2second) for each in proposed) < 0.01


def test_a_pose_is_found_that_was_no_alternative(scene):
    pair, right, _ = scene
    aside = se3_exponential(torch.tensor([0.6, 0.2, 0.1, -0.2, 0.3, 0.1]))
    world = torch.rand(PLANAR - 10, 3, generator=torch.Generator().manual_seed(5))
    world = world * torch.tensor([2, 1.5, 2]) + torch.tensor([-1, -0.75, 2])
    further = [project(world, pose, INTRINSICS)[0] for pose in (torch.eye(4), aside)]
    keypoints = map(torch.cat, zip(pair.keypoints, further, strict=True))
    matches = torch.cat([pair.matches, len(pair.keypoints[0]) + in_order(PLANAR - 10)])
    both = replace(pair, keypoints=tuple(keypoints), matches=matches)
    other = both.find_inliers(unit(aside))
    assert len(other) >= PLANAR - 10
    selected, _ = select(both, other)

    assert pose_angle(selected.first2second, right.first2second) < 0.01


def test_without_tentative_matches_the_two_poses_score_alike(scene):
    pair, right, wrong = scene
    alone = replace(pair, tentative=NO_TENTATIVE_MATCHES)
    assert log_likelihood(alone, right.first2second) == 0
    assert select(alone, with_alternative(wrong, right))[1].margin < 0.1


def test_tentative_matches_that_are_all_wrong_do_not_outvote_matches(scene):
    pair, right, _ = scene
    generator = torch.Generator().manual_seed(0)
    mixed = PLANAR + torch.randperm(5 * DEEP, generator=generator) % DEEP
    wrong = torch.stack([pair.tentative.matches[:, 0], mixed], dim=1)
    misled = replace(pair, tentative=TentativeMatches(wrong, pair.tentative.probabilities))
    angles = 0.1 * torch.randn(3, generator=generator)
    other = pair.find_inliers(rotated(right.first2second, angles))

    selected, _ = select(misled, with_alternative(right, other))
    assert len(selected) == PLANAR


def test_points_behind_the_camera_speak_against_a_pose(scene):
    pair, right, _ = scene
    backward = right.first2second.clone()
    backward[:3, 3] *= -1
    certain = TentativeMatches(pair.tentative.matches[:DEEP], torch.full((DEEP,), 0.9))
    pair = replace(pair, tentative=certain)

    assert log_likelihood(pair, right.first2second) > 2 * DEEP
    assert log_likelihood(pair, backward) < -DEEP


def test_a_probable_match_says_more_than_an_improbable_one(scene):
    pair, right, _ = scene

    def likelihood(probability: float) -> Tensor:
        matches = pair.tentative.matches[:DEEP]
        tentative = TentativeMatches(matches, torch.full((DEEP,), probability))
        return log_likelihood(replace(pair, tentative=tentative), right.first2second)

    assert 0 < likelihood(0.01) < likelihood(0.1) < likelihood(0.9)


def on_a_line() -> Tensor:
    return torch.stack([torch.rand(30), torch.full((30,), 0.5)], dim=1)


@pytest.mark.parametrize(
    "points",
    [(on_a_line(), on_a_line()), (torch.full((30, 2), 0.5),) * 2],
    ids=["line through the center", "center"],
)
def test_matches_that_tell_nothing_are_no_error(points: tuple[Tensor, Tensor]):
    matches = in_order(30)
    tentative = TentativeMatches(matches, torch.full((30,), 0.5))
    central = Camera(torch.tensor([[1, 0, 0.5], [0, 1.3, 0.5], [0, 0, 1]]), torch.eye(4), SIZE)
    pair = TwoView((central, central), points, matches, tentative)
    anything = RelativePose(pair.ransac(0)[0], matches, torch.ones(30), torch.ones(30), 1.0)
    _, runner_up = select(pair, anything)
    assert runner_up.angle_rad > RUNNER_UP_RAD
    assert find_runner_up(pair, anything).angle_rad > RUNNER_UP_RAD
