"""Choose among relative poses that explain the matches of two images almost equally well.

Inliers alone do not decide: on a surface that is almost flat, or seen under little parallax, a
hundred matches agree with poses that are tens of degrees apart. Affine matches and tentative
matches speak for one of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import attrgetter

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.rigid import se3_exponential
from models.sfm.affine_matches import (
    NEIGHBOR_PX,
    AffineMatches,
    affine_neighbors,
    refine_affine_matches,
    with_affine_neighbors,
)
from models.sfm.degeneracy import poses_from_homography
from models.sfm.two_view import (
    MAX_EPIPOLAR_ERROR_PX,
    MIN_MATCHES,
    SCORE_SCALES_PX,
    RelativePose,
    TwoView,
    pose_angle,
)

SHORT_RANSAC: dict[str, int | float] = {"min_iterations": 100, "max_iterations": 100}
SHORT_RUNS = 16  # for each of the larger inlier thresholds
MAX_PROPOSED_POSES = 3  # of the short runs: ten find nothing better
MIN_SCORE_RATIO = 0.5  # of the best pose's score: poses below are not considered
DISTINCT_POSE_RAD = math.radians(2)  # by which hypotheses differ at least
AFFINE_POSES = 2  # that initialize affine matches; a third adds few of them
AFFINE_SCALES = (0.03, 0.06, 0.12, 0.25)  # largest errors of affinities; those of inliers are 0.04
AFFINE_WEIGHT = 2.0  # beside the weight of the match: its neighbors have two directions
LIKELIHOOD_WEIGHT = 0.3  # inliers per unit of log-likelihood: tentative matches are correlated

TENTATIVE_STD_PX = 2.0  # of a right tentative match's distance from its epipolar line
STRAY_RATIO = 0.05  # share of right tentative matches that are farther off
STRAY_RANGE_PX = 300.0  # over which the distances of wrong ones are uniform

RUNNER_UP_RAD = math.radians(5)  # a pose that differs by more is another answer
STEPS_RAD = tuple(sign * step * RUNNER_UP_RAD for step in (1.1, 2, 4, 8) for sign in (-1, 1))
STEP_DIRECTIONS = 2  # a flat scene leaves two ways to turn and move undetermined
MAX_SCORED_MATCHES = 400  # keep the search below a tenth of a second
CAUCHY_SCALE_PX = 0.5


@dataclass(frozen=True)
class RunnerUp:
    """The best pose that differs by more than `RUNNER_UP_RAD` from the one that was selected."""

    margin: float  # how much lower its score is, in inliers; negative if it is higher
    angle_rad: float  # between the two poses


@dataclass(frozen=True)
class Hypothesis:
    """A relative pose and its score, in inliers."""

    first2second: Float[Tensor, "4 4"]
    score: float


def select_pose(
    images: tuple[Float[Tensor, "3 _height _width"], Float[Tensor, "3 _height2 _width2"]],
    pair: TwoView,
    pose: RelativePose,
) -> tuple[TwoView, RelativePose, RunnerUp]:
    """Select the pose of the highest `pose_score` among all that explain the matches well.

    Begins at the pose with most inliers and its alternatives. Returns the pair with its matches
    refined in the second image, the pose, and its runner-up.
    """

    def score(poses: Float[Tensor, "pose 4 4"]) -> Float[Tensor, " pose"]:
        return pair.scores(poses).sum(-1) + LIKELIHOOD_WEIGHT * log_likelihood(pair, poses)

    planar = poses_from_homography(pair.with_matches(pose.inliers))
    proposed = propose_poses(pair)
    scores = score(torch.stack(proposed)).tolist()
    best = _distinct(list(map(Hypothesis, proposed, scores)))[:MAX_PROPOSED_POSES]
    initial = [pose.first2second, *pose.alternatives, *planar, *best]
    rough = _distinct(search_hypotheses(pair, initial, score))
    affine = refine_affine_matches(images, pair, rough[:AFFINE_POSES])
    second = pair.keypoints[1].clone()
    second[pair.matches[:, 1]] = affine.second
    refined = replace(pair, keypoints=(pair.keypoints[0], second))
    hypotheses = search_hypotheses(
        with_affine_neighbors(refined, affine),
        rough,
        lambda poses: pose_score(refined, affine, poses),
    )
    for hypothesis in sorted(hypotheses, key=attrgetter("score"), reverse=True):
        selected = refined.find_inliers(hypothesis.first2second)
        if len(selected) >= MIN_MATCHES:
            return refined, selected, _runner_up(hypotheses, hypothesis.first2second)
    kept = Hypothesis(pose.first2second, float(pose_score(refined, affine, pose.first2second)))
    return pair, pose, _runner_up([*hypotheses, kept], pose.first2second)


def pose_score(
    pair: TwoView, affine: AffineMatches, poses: Float[Tensor, "*pose 4 4"]
) -> Float[Tensor, "*pose"]:
    """Score relative poses by matches, affine matches and tentative matches, in inliers.

    The score of the matches, plus `AFFINE_WEIGHT` times that of their affine neighborhoods, plus
    the weighted log-likelihood of the tentative matches.
    """
    matches = pair.scores(poses)
    errors_px = affine_neighbors(pair, affine).sampson_px(poses)
    right, left, below, above = errors_px.unflatten(-1, (-1, 4)).unbind(-1)
    squares = ((right - left).square() + (below - above).square()) / (2 * NEIGHBOR_PX) ** 2
    costs = [(squares / scale**2).clamp(max=1) for scale in AFFINE_SCALES]
    neighborhoods = torch.stack([1 - cost for cost in costs]).mean(0)
    affine_score = (matches[..., affine.is_refined] * neighborhoods).sum(-1)
    score = matches.sum(-1) + AFFINE_WEIGHT * affine_score
    return score + (1 + AFFINE_WEIGHT) * LIKELIHOOD_WEIGHT * log_likelihood(pair, poses)


def log_likelihood(pair: TwoView, poses: Float[Tensor, "*pose 4 4"]) -> Float[Tensor, "*pose"]:
    """Return the log-likelihood ratio of the tentative matches: under each pose, and under none.

    A keypoint of the first image is one of its tentative matches or none of them; the right one
    lies near its epipolar line and in front of the camera, any other anywhere. Most keypoints are
    only similar to some degree, but a right pose brings more of them into agreement than a wrong
    one, all over the images.
    """
    tentative = pair.with_matches(pair.tentative.matches)
    errors_px = tentative.sampson_px(poses).float()
    depth, _ = tentative.triangulate(poses)
    peak = (1 - STRAY_RATIO) * STRAY_RANGE_PX / (TENTATIVE_STD_PX * math.sqrt(2 * math.pi))
    gaussian = (-(errors_px / TENTATIVE_STD_PX).square() / 2).exp()
    ratio = STRAY_RATIO + peak * gaussian * (depth > 0)
    keypoints, index = tentative.matches[:, 0].unique(return_inverse=True)
    likelihood = torch.ones(*poses.shape[:-2], len(keypoints))
    probabilities = pair.tentative.probabilities
    return likelihood.index_add_(-1, index, probabilities * (ratio - 1)).log().sum(-1)


def find_runner_up(pair: TwoView, pose: RelativePose) -> RunnerUp:
    """Search for the runner-up of a pose by the scores of the matches alone."""
    planar = poses_from_homography(pair.with_matches(pose.inliers))
    count = len(pair.matches)
    step = torch.linspace(0, count - 1, min(count, MAX_SCORED_MATCHES)).round().long()
    sampled = pair.with_matches(pair.matches[step])
    hypotheses = search_hypotheses(
        sampled,
        [pose.first2second, *pose.alternatives, *planar],
        lambda poses: sampled.scores(poses).sum(-1) * count / len(step),
    )
    return _runner_up(hypotheses, pose.first2second)


def propose_poses(pair: TwoView) -> list[Float[Tensor, "4 4"]]:
    """Run many short RANSACs: each pose that explains the matches well is found by some of them."""
    return [
        pair.ransac(seed, scale * MAX_EPIPOLAR_ERROR_PX, SHORT_RANSAC)[0]
        for scale in SCORE_SCALES_PX[1:]
        for seed in range(1, 1 + SHORT_RUNS)
    ]


def search_hypotheses(
    pair: TwoView,
    initial: list[Float[Tensor, "4 4"]],
    score: Callable[[Float[Tensor, "pose 4 4"]], Float[Tensor, " pose"]],
) -> list[Hypothesis]:
    """Refine initial poses, then poses some steps away from the best of them, and score all."""

    def with_refined(poses: list[Float[Tensor, "4 4"]]) -> list[Hypothesis]:
        poses = [*poses, *(pair.refine_pose(pose) for pose in poses)]
        poses = [pose for pose in poses if pose.isfinite().all()]
        return list(map(Hypothesis, poses, score(torch.stack(poses)).tolist()))

    hypotheses = with_refined(initial)
    best = max(hypotheses, key=attrgetter("score"))
    return hypotheses + with_refined(_poses_around(pair, best.first2second))


def _distinct(hypotheses: list[Hypothesis]) -> list[Float[Tensor, "4 4"]]:
    """Return the poses that differ, best first, of at least `MIN_SCORE_RATIO` of the best score."""
    ranked = sorted(hypotheses, key=attrgetter("score"), reverse=True)
    kept: list[Tensor] = []
    for hypothesis in ranked:
        if kept and hypothesis.score < MIN_SCORE_RATIO * ranked[0].score:
            break
        if all(pose_angle(hypothesis.first2second, pose) > DISTINCT_POSE_RAD for pose in kept):
            kept.append(hypothesis.first2second)
    return kept


def _runner_up(hypotheses: list[Hypothesis], first2second: Float[Tensor, "4 4"]) -> RunnerUp:
    """Compare the best hypothesis far from a pose with the best one near it."""
    angles = [pose_angle(first2second, each.first2second) for each in hypotheses]
    ranked = sorted(zip(hypotheses, angles, strict=True), key=lambda pair: -pair[0].score)
    near = next(each for each, angle in ranked if angle <= RUNNER_UP_RAD)
    beyond = (each for each in ranked if each[1] > RUNNER_UP_RAD)
    far, angle = next(beyond, (near, math.pi))  # matches that tell nothing: all on one line, say
    return RunnerUp(near.score - far.score, angle)


def _poses_around(pair: TwoView, pose: Float[Tensor, "4 4"]) -> list[Float[Tensor, "4 4"]]:
    """Return poses some steps away, in the directions in which the errors change least."""
    delta = 1e-6
    jacobian = torch.stack(
        [
            pair.sampson_px(_perturb(pose, step)) - pair.sampson_px(_perturb(pose, -step))
            for step in delta * torch.eye(5, dtype=torch.float64)
        ],
        dim=1,
    ) / (2 * delta)
    jacobian = jacobian.nan_to_num(0.0, 0.0, 0.0)  # errors that are infinite do not change
    weights = 1 / (1 + (pair.sampson_px(pose) / CAUCHY_SCALE_PX).square())
    information = jacobian.T @ (weights[:, None] * jacobian)
    weakest = torch.linalg.eigh(information).eigenvectors[:, :STEP_DIRECTIONS].T
    return [
        _perturb(pose, step * direction / max(direction[:2].norm(), direction[2:].norm())).float()
        for direction in weakest
        for step in STEPS_RAD
    ]


def _perturb(pose: Float[Tensor, "4 4"], step: Float[Tensor, "5"]) -> Float[Tensor, "4 4"]:
    """Tilt the direction of the translation by two angles, and rotate by three."""
    pose = pose.double()
    across = torch.linalg.svd(pose[:3, 3:]).U[:, 1:]
    moved = se3_exponential(torch.cat([torch.zeros(3).double(), step[2:]])) @ pose
    moved[:3, 3] = functional.normalize(pose[:3, 3] + across @ step[:2], dim=0)
    return moved
