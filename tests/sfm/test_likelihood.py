"""The likelihood of tentative matches, and the search for poses, from their definitions."""

import math
from dataclasses import replace

import pytest
import torch
from known_points import a_deep_scene, rotated, unit
from scripted_matcher import in_order
from torch import Tensor
from torch.distributions import Normal

from models.features.matcher import TentativeMatches
from models.geometry.camera import Camera
from models.geometry.rigid import rotation_angle, se3_exponential
from models.sfm import hypotheses
from models.sfm.hypotheses import (
    Hypothesis,
    RunnerUp,
    find_runner_up,
    log_likelihood,
    propose_poses,
    search_hypotheses,
)
from models.sfm.two_view import TwoView, pose_angle

CAMERA = Camera(torch.tensor([[1.2, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]]), torch.eye(4), (480, 640))
ASIDE = torch.eye(4)
ASIDE[0, 3] = -1.0  # the camera moves to the right: epipolar lines are rows
POSE = unit(se3_exponential(torch.tensor([-0.4, 0.1, 0.15, 0.05, -0.1, 0.08])))
DEGREE = math.radians(1)


def rows(errors_px: list[float], probability: float, same_keypoint: bool = False) -> TwoView:
    """Tentative matches at known Sampson errors from their epipolar lines, which are rows."""
    count = len(errors_px)
    first = torch.tensor([0.5, 0.5]).repeat(count, 1)
    off = math.sqrt(2) * torch.tensor(errors_px) / CAMERA.size[0]
    second = first + torch.stack([torch.full_like(off, -0.05), off], dim=1)
    matches = in_order(count).clone()
    matches[:, 0] *= not same_keypoint
    tentative = TentativeMatches(matches, torch.full((count,), probability))
    return TwoView((CAMERA, CAMERA), (first, second), in_order(0), tentative)


def density_ratio(error_px: float) -> float:
    """A right match is 2 px off, or, once in twenty, anywhere in 300 px; a wrong one anywhere."""
    near = float(2 * Normal(0.0, 2.0).log_prob(torch.tensor(error_px)).exp()) / 2
    return (0.95 * near + 0.05 / 300) / (1 / 300)


@pytest.mark.parametrize("error_px", [0.0, 1.0, -2.0, 4.0, 40.0])
def test_a_tentative_match_counts_as_the_ratio_of_two_densities(error_px: float):
    for probability in (0.2, 0.9):
        found = log_likelihood(rows([error_px], probability), ASIDE)
        expected = math.log(probability * density_ratio(error_px) + 1 - probability)
        assert float(found) == pytest.approx(expected, abs=1e-3)


def test_keypoints_are_independent_and_the_matches_of_one_exclude_each_other():
    ratios = density_ratio(0.0), density_ratio(3.0)
    apart = log_likelihood(rows([0.0, 3.0], 0.3), torch.stack([ASIDE, ASIDE]))
    assert apart.tolist() == pytest.approx([sum(math.log(0.3 * r + 0.7) for r in ratios)] * 2)
    together = log_likelihood(rows([0.0, 3.0], 0.3, same_keypoint=True), ASIDE)
    assert float(together) == pytest.approx(math.log(0.3 * sum(ratios) + 0.4), abs=1e-3)


def test_a_tentative_match_behind_the_camera_can_only_be_a_stray():
    behind = ASIDE.clone()
    behind[0, 3] = 1.0
    found = float(log_likelihood(rows([0.0], 0.6), behind))
    assert found == pytest.approx(math.log(0.6 * 0.05 + 0.4))


def scene(count: int, outliers: int = 0) -> TwoView:
    generator = torch.Generator().manual_seed(count)
    points = a_deep_scene(count + outliers, generator)
    first, second = CAMERA.project(points)[0], replace(CAMERA, world2cam=POSE).project(points)[0]
    second = second + 0.0004 * torch.randn(second.shape, generator=generator)
    second[count:] = torch.rand(outliers, 2, generator=generator)
    return TwoView((CAMERA, CAMERA), (first, second), in_order(count + outliers))


def test_short_runs_have_three_thresholds_and_sixteen_seeds():
    proposed = propose_poses(scene(40, 10))
    assert len(proposed) == 48
    assert sum(pose_angle(pose, POSE) < 2 * DEGREE for pose in proposed) > 24


def score(pair: TwoView):
    return lambda poses: pair.scores(poses).sum(-1)


def test_a_search_refines_what_it_is_given_and_looks_around_the_best():
    pair = scene(60, 20)
    far, near = (rotated(POSE, torch.tensor([angle, 0, 0])) for angle in (0.3, 0.001))
    found = search_hypotheses(pair, [far, near], score(pair))
    assert [
        each.first2second is pose for each, pose in zip(found[:2], (far, near), strict=True)
    ] == [True, True]
    assert len(found) == 2 * 2 + 2 * 16
    assert found[3].score > found[1].score
    assert [each.score for each in found] == pytest.approx(
        score(pair)(torch.stack([each.first2second for each in found])).tolist()
    )
    around = [pose_angle(each.first2second, found[3].first2second) for each in found[4:20]]
    steps = [5.5, 5.5, 10, 10, 20, 20, 40, 40] * 2  # along the tangent of the directions
    assert [math.tan(angle) / DEGREE for angle in around] == pytest.approx(steps, rel=0.05)
    for first, second in zip(found[4:20:2], found[5:20:2], strict=True):  # to both sides
        between = pose_angle(first.first2second, second.first2second)
        assert between > 1.8 * pose_angle(first.first2second, found[3].first2second) * 0.95


def test_steps_go_where_the_errors_hardly_change():
    pair = scene(80)
    steps = hypotheses._poses_around(pair, POSE)
    smallest = [pose for pose in steps if pose_angle(pose, POSE) < 6 * DEGREE]
    turned = [rotated(POSE, 5.5 * DEGREE * axis) for axis in (*torch.eye(3), *-torch.eye(3))]
    worst, others = (
        torch.stack([pair.sampson_px(pose).abs().median() for pose in poses])
        for poses in (smallest, turned)
    )
    assert len(smallest) == 4 and worst.max() < others.min()


def test_a_small_step_tilts_the_translation_by_two_angles_and_turns_by_three():
    for axis in range(5):
        step = 0.01 * torch.eye(5, dtype=torch.float64)[axis]
        moved = hypotheses._perturb(POSE, step)
        turned = float(rotation_angle(moved[:3, :3], POSE[:3, :3].double()))
        tilted = float(torch.linalg.cross(moved[:3, 3], POSE[:3, 3].double()).norm())
        assert turned == pytest.approx(0.01 * (axis >= 2), abs=1e-4)
        assert tilted == pytest.approx(0.01 * (axis < 2), abs=2e-4)
        assert float(moved[:3, 3].norm()) == pytest.approx(1)


def hypothesis(degrees: float, score: float) -> Hypothesis:
    return Hypothesis(rotated(POSE, torch.tensor([degrees * DEGREE, 0, 0])), float(score))


def test_distinct_poses_are_the_best_of_each_two_degrees_and_not_far_behind():
    given = [hypothesis(*each) for each in ((0, 10), (1.5, 12), (4, 7), (9, 5.9), (30, 6), (3, 6))]
    kept = hypotheses._distinct(given)
    angles = [pose_angle(pose, POSE) / DEGREE for pose in kept]
    assert angles == pytest.approx([1.5, 4, 30], abs=0.05)


def test_a_runner_up_is_the_best_beyond_five_degrees_and_may_be_better():
    given = [hypothesis(*each) for each in ((0, 10), (4.9, 11), (5.2, 8), (40, 9), (20, 3))]
    found = hypotheses._runner_up(given, POSE)
    assert found.margin == pytest.approx(2)
    assert found.angle_rad == pytest.approx(40 * DEGREE, rel=1e-3)
    ahead = hypotheses._runner_up([*given, hypothesis(7, 13)], POSE)
    assert ahead.margin == pytest.approx(-2)


def test_a_margin_counts_matches_however_many_were_looked_at(monkeypatch):
    pair = scene(300, 30)
    pose = pair.find_inliers(POSE)
    whole = find_runner_up(pair, pose)
    monkeypatch.setattr(hypotheses, "MAX_SCORED_MATCHES", 110)
    third = find_runner_up(pair, pose)
    assert isinstance(whole, RunnerUp) and 150 < whole.margin < 330
    assert third.margin == pytest.approx(whole.margin, rel=0.15)
    assert whole.angle_rad > 5 * DEGREE


def test_a_pose_with_too_few_matches_is_kept_with_its_pair(monkeypatch):
    pair = scene(12)
    pose = pair.find_inliers(POSE)
    monkeypatch.setattr(hypotheses, "MIN_MATCHES", 100)
    blank = torch.zeros(3, 480, 640)
    kept_pair, kept, runner_up = hypotheses.select_pose((blank, blank), pair, pose)
    assert kept_pair is pair and kept is pose
    assert runner_up.angle_rad > 5 * DEGREE


def test_scores_of_a_selection_count_matches_neighborhoods_and_tentative_matches():
    pair = scene(30)
    blank = torch.zeros(3, 480, 640)
    affine = hypotheses.refine_affine_matches((blank, blank), pair, [POSE])
    alone = hypotheses.pose_score(pair, affine, POSE)
    torch.testing.assert_close(alone, pair.scores(POSE).sum(), check_dtype=False)
    tentative = TentativeMatches(in_order(30), torch.full((30,), 0.5))
    with_tentative = replace(pair, tentative=tentative)
    likelihood = log_likelihood(with_tentative, POSE)
    gained = hypotheses.pose_score(with_tentative, affine, POSE) - alone
    torch.testing.assert_close(gained, 0.9 * likelihood, check_dtype=False, rtol=1e-4, atol=1e-3)


def neighborhood_score(stretch: Tensor) -> float:
    """Return what affine neighborhoods add to a score, in matches of unit score."""
    pair = rows([0.0] * 20, 0.5)
    pair = replace(pair, matches=in_order(20), tentative=TwoView.tentative)
    affinity = torch.eye(2).repeat(20, 1, 1) @ stretch
    affine = hypotheses.AffineMatches(pair.points[1], affinity, torch.ones(20, dtype=torch.bool))
    return float(hypotheses.pose_score(pair, affine, ASIDE)) / 20 - 1


def test_a_neighborhood_counts_twice_a_match_by_how_well_it_follows_the_rows():
    assert neighborhood_score(torch.eye(2)) == pytest.approx(2, abs=1e-3)
    wide = torch.tensor([[1.7, 0.4], [0.0, 1.0]])  # along the rows: nobody can tell
    assert neighborhood_score(wide) == pytest.approx(2, abs=1e-3)
    # Stretched across the rows by a share: errors of right and left, or above and below, differ.
    for share in (0.02, 0.05, 0.1, 0.5):
        error = share / math.sqrt(2)
        votes = [max(0.0, 1 - (error / scale) ** 2) for scale in (0.03, 0.06, 0.12, 0.25)]
        for entry in ((1, 1), (1, 0)):
            stretch = torch.eye(2)
            stretch[entry] += share
            assert neighborhood_score(stretch) == pytest.approx(2 * sum(votes) / 4, abs=0.02)
