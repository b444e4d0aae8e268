"""Confidence in poses: what raises it, what takes it away, and what is said about it."""

import math
from dataclasses import replace

import pytest
import torch

from models.confidence import (
    PairQuality,
    combine,
    least_confidence,
    low_confidence_message,
    match_confidence,
    match_quality,
    pair_confidence,
    pnp_quality,
    registration_problems,
)
from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import se3_exponential
from models.metrics.contrast import structural_contrast
from models.options import PoseMethod
from models.pose.pnp import PnpPose
from models.sfm.degeneracy import Degeneracy
from models.sfm.hypotheses import RunnerUp
from models.sfm.registration import Registration
from models.sfm.two_view import RelativePose

INTRINSICS = torch.tensor([[1.0, 0, 0.5], [0, 1.5, 0.5], [0, 0, 1]])
SOUND = Degeneracy(False, None, 0)
CROP, PLANE = replace(SOUND, is_crop=True), replace(SOUND, planar_ambiguity_rad=0.2)


def relative_pose(inliers: int, ratio: float) -> RelativePose:
    numbers = torch.arange(inliers)
    return RelativePose(
        torch.eye(4), numbers[:, None].expand(-1, 2), numbers.float(), numbers.float(), ratio
    )


def registration(views: int = 2, **changes) -> Registration:
    """A hundred of two hundred matches agree with the first pair, the other pairs have less."""
    pairs = {(0, 1): relative_pose(100, 0.5)}
    if views == 3:
        pairs |= {(0, 2): relative_pose(9, 0.1), (1, 2): relative_pose(40, 0.4)}
    usual = Registration(
        cameras=(Camera(INTRINSICS, torch.eye(4), (16, 24)),) * views,
        points=torch.zeros(0, 3),
        observations=torch.zeros(views, 0, 2),
        parallax=0.1,
        pairs=pairs,
        seed_pair=(0, 1),
        degeneracies={(0, 1): SOUND},
        runner_up=None,
        focal=None,
        focal_spread=0.0,
    )
    return replace(usual, **changes)


def walls(*brighter: float, contrast: float = 0.5) -> list[DepthMap]:
    """The same checkered wall seen from one place, each time brighter by so much."""
    checks = (torch.arange(48)[:, None] // 6 + torch.arange(48) // 6) % 2
    image = (0.2 + contrast * checks).expand(3, -1, -1)
    camera, plain = Camera(INTRINSICS, torch.eye(4), (48, 48)), torch.ones(48, 48)
    return [DepthMap(image + added, 2 * plain, plain, camera) for added in brighter]


def network_quality(*maps: DepthMap) -> PairQuality:
    return pnp_quality(PoseMethod.pnp, 1, PnpPose(torch.eye(4), 300, 0.8), list(maps))


def test_confidence_in_the_networks_pose_falls_with_the_difference_of_colors():
    found = [network_quality(*walls(0.0, off)) for off in (0.0, 0.0625, 0.1249, 0.2)]
    assert [each.confidence for each in found] == pytest.approx([0.8, 0.4, 0.0, 0.0], abs=2e-3)
    assert [each.photometric_error for each in found] == pytest.approx([0, 0.0625, 0.1249, 0.2])
    first = found[0]
    assert (first.first, first.second, first.inliers, first.inlier_ratio) == (0, 1, 300, 0.8)
    assert first.method == PoseMethod.pnp and first.overlap > 0.99


def test_the_less_photos_show_the_less_their_agreement_means():
    half = 0.03 / structural_contrast(walls(0.0, contrast=1.0)[0].image)  # between 0.01 and 0.05
    agreeing, off = (network_quality(*walls(0.0, off, contrast=half)) for off in (0.0, 0.03))
    assert agreeing.confidence == pytest.approx(0.8, abs=1e-3)
    assert off.confidence == pytest.approx(0.8 * (1 - 0.03 / 0.0625), abs=5e-3)
    assert network_quality(*walls(0.0, 0.0, contrast=0.01)).confidence == 0
    (dull,), (rich,) = walls(0.0, contrast=0.01), walls(0.0)
    for pair in ((dull, rich), (rich, dull)):  # one that shows nothing is enough
        assert network_quality(*pair).confidence == 0


@pytest.mark.parametrize(
    ("inliers", "ratio", "percent"),
    [(15, 0.2, 13), (40, 0.4, 53), (100, 0.5, 85), (300, 0.8, 99), (9, 0.1, 6)],
)
def test_the_fitted_probability_of_a_right_pose(inliers: int, ratio: float, percent: int):
    assert 100 * match_confidence(inliers, ratio) == pytest.approx(percent, abs=1)


@pytest.mark.parametrize(("spread", "percent"), [(0.0, 85), (1e-9, 87), (0.1, 76), (0.3, 41)])
def test_the_fitted_probability_where_focal_lengths_are_not_known(spread: float, percent: int):
    assert 100 * match_confidence(100, 0.5, spread) == pytest.approx(percent, abs=1)


def test_a_margin_of_a_tenth_of_the_inliers_is_the_usual_one():
    assert match_confidence(80, 0.5) == match_confidence(80, 0.5, margin=8.0)
    assert match_confidence(80, 0.5, margin=0.0) == match_confidence(80, 0.5, margin=-3.0)
    odds = [match_confidence(80, 0.5, margin=margin) for margin in (0.0, 1.0, 3.0)]
    logits = [math.log(each / (1 - each)) for each in odds]
    assert logits[1] - logits[0] == pytest.approx(logits[2] - logits[1])  # by its logarithm


def test_a_pair_is_as_sure_as_its_matches_and_no_surer_than_its_degeneracies_leave():
    usual = match_confidence(100, 0.5)
    assert pair_confidence(0, 1, registration()) == usual
    assert pair_confidence(0, 1, registration(degeneracies={})) == usual
    assert pair_confidence(0, 1, registration(degeneracies={(0, 1): CROP})) == 0
    assert pair_confidence(0, 1, registration(degeneracies={(0, 1): PLANE})) == 0.5
    behind = registration(runner_up=RunnerUp(-2.0, 0.3))
    assert pair_confidence(0, 1, behind) == match_confidence(100, 0.5, margin=-2.0)
    guessed = registration(focal_spread=0.3)
    assert pair_confidence(0, 1, guessed) == match_confidence(100, 0.5, 0.3)
    assert pair_confidence(0, 2, registration()) == 0  # a pair without a pose


def test_the_least_confidence_is_of_the_view_whose_best_pair_is_worst():
    assert least_confidence(registration()) == match_confidence(100, 0.5)
    assert least_confidence(registration(3)) == match_confidence(40, 0.4)


def test_the_quality_of_a_registered_pair_counts_its_inliers_and_compares_colors():
    maps = [*walls(0.0, 0.1), *walls(0.3)]
    found = match_quality(0, 1, registration(3), maps)
    assert (found.first, found.second, found.inliers, found.inlier_ratio) == (0, 1, 100, 0.5)
    assert found.method == PoseMethod.matches and found.overlap > 0.99
    assert found.photometric_error == pytest.approx(0.1, abs=1e-3)
    assert found.confidence == match_confidence(100, 0.5)
    assert match_quality(1, 2, registration(3), maps).photometric_error == pytest.approx(
        0.2, abs=1e-3
    )
    without = registration(3, pairs={(0, 1): relative_pose(100, 0.5)})
    lost = match_quality(0, 2, without, maps)
    assert (lost.inliers, lost.inlier_ratio, lost.confidence) == (0, 0.0, 0.0)


@pytest.mark.parametrize(("degrees", "is_confirmed"), [(0, True), (9.5, True), (10.5, False)])
def test_poses_less_than_ten_degrees_apart_confirm_each_other(degrees, is_confirmed: bool):
    pair = PairQuality(0, 1, PoseMethod.matches, 50, 0.5, 0.05, 0.8, 0.6)
    moved = se3_exponential(torch.tensor([-1.0, 0, 0, 0, 0, 0]))
    turn = se3_exponential(torch.tensor([0, 0, 0, math.radians(degrees), 0.0, 0.0]))
    turn[:3, 3] = moved[:3, 3]
    cameras, others = (
        tuple(Camera(INTRINSICS, pose, (16, 24)) for pose in (torch.eye(4), second))
        for second in (moved, turn)
    )
    found = combine(pair, cameras, replace(pair, confidence=0.5), others)
    assert found.confidence == pytest.approx(0.8 if is_confirmed else 0.6)


def test_few_matches_are_to_blame_unless_another_pose_is_close_behind():
    half_a_radian = 0.5
    for margin, is_close in ((5.0, True), (10.0, True), (10.1, False), (-3.0, True)):
        message = low_confidence_message(100, RunnerUp(margin, half_a_radian))
        assert ("29 degrees away" in message) == is_close
        assert ("only 100 matches" in message) != is_close
    assert "only 7 matches" in low_confidence_message(7, None)


def qualities(*confidences: float) -> list[PairQuality]:
    pairs = ((0, 1), (0, 2), (1, 2))
    return [
        PairQuality(*pair, PoseMethod.matches, 10 * (number + 1), 0.5, 0.05, 0.8, confidence)
        for number, (pair, confidence) in enumerate(zip(pairs, confidences, strict=False))
    ]


def test_problems_name_the_photos_of_a_degenerate_pair_only_where_there_are_three():
    (of_two,) = registration_problems(registration(degeneracies={(0, 1): CROP}), qualities(0.9))
    assert of_two.startswith("One photo")
    degenerate = {(1, 2): PLANE, (0, 1): CROP}
    found = registration_problems(
        registration(3, degeneracies=degenerate), qualities(0.9, 0.9, 0.0)
    )
    assert [problem.split(":")[0] for problem in found] == ["Photos 1 and 2", "Photos 2 and 3"]


def test_a_view_is_doubted_if_its_best_pair_is():
    assert registration_problems(registration(3), qualities(0.3, 0.1, 0.3)) == ()
    assert len(registration_problems(registration(), qualities(0.29))) == 1
    assert registration_problems(registration(3), qualities(0.9, 0.2, 0.1)) == (
        "Photo 3 is placed by only 20 matches: its pose may be wrong.",
    )
    both = registration_problems(registration(3), qualities(0.1, 0.1, 0.2))
    assert [problem[:7] for problem in both] == ["Photo 2", "Photo 3"]
    close = registration(runner_up=RunnerUp(0.5, 0.5))
    assert "29 degrees" in registration_problems(close, qualities(0.2))[0]


def test_doubts_about_cameras_that_were_guessed_lower_confidence_and_say_so():
    known, doubtful = registration(), registration(calibration_probability=0.25)
    assert pair_confidence(0, 1, doubtful) == pytest.approx(0.25 * pair_confidence(0, 1, known))
    pair = replace(network_quality(*walls(0.0, 0.0)), confidence=0.2)
    assert "focal lengths" in registration_problems(doubtful, [pair])[0]
    assert "focal lengths" not in registration_problems(known, [pair])[0]
