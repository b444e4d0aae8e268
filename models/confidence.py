"""Confidence in relative poses: how well the photos support them, and what that is worth."""

import math
from dataclasses import dataclass, replace

from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap, photometric_agreement
from models.metrics.contrast import structural_contrast
from models.metrics.errors import pose_error
from models.options import PoseMethod
from models.pose.pnp import PnpPose
from models.sfm.hypotheses import RunnerUp
from models.sfm.registration import Registration

TRUSTED_CONFIDENCE = 0.3  # below it a result is not to be trusted
TRUSTED_CALIBRATION = 0.5  # probability of guessed cameras below which they are the reason
UNKNOWN_CAMERAS = (
    "may be misplaced: focal lengths are not known, and a photo may be cut out of a larger one."
)
SAME_POSE_DEG = 10.0  # two ways to a pose that differ by less confirm each other
CONFIDENCE_WORDS = ((0.85, "sure"), (0.6, "fairly sure"), (0.0, "unsure"))
CLEAR_MARGIN = 0.1  # share of its inliers by which a pose is clearly ahead of any other
DEFAULT_MARGIN = 0.1  # share of the inliers by which three of four right poses are ahead of others
MAX_PHOTOMETRIC_ERROR = 0.125  # color difference at which a pose is wrong; right ones have 0.05
NO_CONTRAST, ENOUGH_CONTRAST = 0.01, 0.05  # between them color differences mean less and less


@dataclass(frozen=True)
class PairQuality:
    """The quality of the relative pose of two views.

    Attributes:
        first: Number of a view.
        second: Number of another.
        method: The way in which its pose was found, but for `PoseMethod.auto`.
        inliers: Matches, or centers, that agree with the pose.
        inlier_ratio: Their share of all.
        photometric_error: Mean absolute color difference, in [0, 1], where both views see.
        overlap: Share of the second view that the first one sees, in [0, 1].
        confidence: Probability that the pose is right, in [0, 1].
    """

    first: int
    second: int
    method: PoseMethod
    inliers: int
    inlier_ratio: float
    photometric_error: float
    overlap: float
    confidence: float


def pnp_quality(
    method: PoseMethod,
    second: int,
    pose: PnpPose,
    depth_maps: list[DepthMap],
    reliability: float = 1.0,
) -> PairQuality:
    """Return the quality of the network's pose of a view relative to the first.

    `reliability` is the share of such poses that are right, where that was measured.

    Photos without contrast agree under any pose: that is no evidence.
    """
    error, overlap = photometric_agreement(depth_maps[0], depth_maps[second])
    contrast = min(structural_contrast(depth_maps[view].image) for view in (0, second))
    shown = min(1.0, max(0.0, (contrast - NO_CONTRAST) / (ENOUGH_CONTRAST - NO_CONTRAST)))
    agreement = max(0.0, 1 - error / (MAX_PHOTOMETRIC_ERROR * shown)) if shown else 0.0
    confidence = pose.inlier_ratio * agreement * reliability
    inliers, ratio = pose.inliers, pose.inlier_ratio
    return PairQuality(0, second, method, inliers, ratio, error, overlap, confidence)


def match_quality(
    first: int, second: int, registration: Registration, depth_maps: list[DepthMap]
) -> PairQuality:
    """Return the quality of a registered pair."""
    agreement = photometric_agreement(depth_maps[first], depth_maps[second])
    pose = registration.pairs.get((first, second))
    inliers = (0, 0.0) if pose is None else (len(pose), pose.inlier_ratio)
    confidence = pair_confidence(first, second, registration)
    return PairQuality(first, second, PoseMethod.matches, *inliers, *agreement, confidence)


def pair_confidence(first: int, second: int, registration: Registration) -> float:
    """Return the confidence in a registered pair, at most what its degeneracies leave."""
    pose = registration.pairs.get((first, second))
    if pose is None:
        return 0.0
    degeneracy = registration.degeneracies.get((first, second))
    most = 1.0 if degeneracy is None else degeneracy.max_confidence
    margin = None if registration.runner_up is None else registration.runner_up.margin
    spread = registration.focal_spread
    confidence = match_confidence(len(pose), pose.inlier_ratio, spread, margin)
    return min(most, confidence * registration.calibration_probability)


def least_confidence(registration: Registration) -> float:
    """Return the confidence in the view that is placed worst, by the best of its pairs."""
    views = range(len(registration.cameras))
    return min(
        max(pair_confidence(min(v, o), max(v, o), registration) for o in views if o != v)
        for v in views
    )


def combine(
    pair: PairQuality,
    cameras: tuple[Camera, ...],
    other: PairQuality,
    other_cameras: tuple[Camera, ...],
) -> PairQuality:
    """Raise the confidence in a pose that another method confirms (the two as independent).

    Both pairs start at the first view.
    """
    second = pair.second
    error = pose_error(other_cameras[second].world2cam, cameras[second].world2cam)
    if error.pose_deg > SAME_POSE_DEG:
        return pair
    return replace(pair, confidence=1 - (1 - pair.confidence) * (1 - other.confidence))


def match_confidence(
    inliers: int, inlier_ratio: float, focal_spread: float = 0.0, margin: float | None = None
) -> float:
    """Return the probability that a pose with these inliers is right to 5 degrees.

    Logistic models: one fitted to 138 pairs of real photos with known focal lengths, one to the
    same photos when these were guessed, or estimated from matches.

    Args:
        inliers: Matches that agree with the pose.
        inlier_ratio: Their share of all matches.
        focal_spread: Standard deviation of the logarithm of the focal lengths: 0 where they are
            known, 0.3 where they stay a guess.
        margin: How many matches more the pose explains than any other does (see `RunnerUp`), None
            where no others were tried.
    """
    ahead = DEFAULT_MARGIN * inliers if margin is None else max(margin, 0.0)
    odds = 1.4 * math.log(ahead + 1) + 5.4 * inlier_ratio - 4.3
    if focal_spread > 0:
        odds = 1.5 + 0.23 * odds - 7.5 * focal_spread
    return 1 / (1 + math.exp(-odds))


def describe_confidence(confidence: float, problems: tuple[str, ...] = ()) -> str:
    """Describe the probability that poses are right, which any problem overrules, in words."""
    if problems or confidence < TRUSTED_CONFIDENCE:
        return "not to be trusted"
    return next(words for least, words in CONFIDENCE_WORDS if confidence >= least)


def low_confidence_message(inliers: int, runner_up: RunnerUp | None) -> str:
    """Explain why a view's pose is not to be trusted, in words that follow its name."""
    if runner_up is None or runner_up.margin > CLEAR_MARGIN * inliers:
        return f"is placed by only {inliers} matches: its pose may be wrong."
    degrees = math.degrees(runner_up.angle_rad)
    return (
        f"may be misplaced: a pose {degrees:.0f} degrees away explains the matches about as well."
    )


def registration_problems(registration: Registration, pairs: list[PairQuality]) -> tuple[str, ...]:
    """Explain what speaks against registered poses: degenerate pairs, views placed by few matches.

    Of three photos, the two that a degeneracy concerns are named.
    """
    problems = []
    for (first, second), degeneracy in sorted(registration.degeneracies.items()):
        which = f"Photos {first + 1} and {second + 1}: " if len(registration.cameras) > 2 else ""
        problems += [which + message for message in degeneracy.messages]
    for view in range(1, len(registration.cameras)):
        of_view = [pair for pair in pairs if view in (pair.first, pair.second)]
        best = max(of_view, key=lambda pair: pair.confidence)
        if best.confidence < TRUSTED_CONFIDENCE:
            message = low_confidence_message(best.inliers, registration.runner_up)
            if registration.calibration_probability < TRUSTED_CALIBRATION:
                message = UNKNOWN_CAMERAS
            problems.append(f"Photo {view + 1} {message}")
    return tuple(problems)
