"""How well photos support the relative poses that were found, and what that is worth."""

import math
from dataclasses import dataclass

from models.fusion import PosedDepth, photometric_agreement
from models.pose import PnpPose
from models.refine import Registration

TRUSTED = 0.3  # confidence below which a result is not to be trusted
HOPELESS = 0.125  # mean color difference at which a pose is wrong; right ones have about 0.05


@dataclass(frozen=True)
class PairEvidence:
    """How well the photos support the relative pose of one pair of views.

    `method` is "matches": from what the photos have in common; "pnp": from the network's centers;
    or "pnp+photometric": from there until the scene looked most like the photo.
    """

    first: int
    second: int
    method: str
    inliers: int
    inlier_ratio: float
    photometric_error: float  # mean absolute color difference in [0, 1] where both views see
    overlap: float  # share of the second view that the first one sees, in [0, 1]
    confidence: float  # in [0, 1]


def pnp_evidence(second: int, pose: PnpPose | None, views: list[PosedDepth]) -> PairEvidence:
    """What supports the network's pose of a further view."""
    error, overlap = photometric_agreement(views[0], views[second])
    ratio = 0.0 if pose is None else pose.inlier_ratio
    return PairEvidence(
        first=0,
        second=second,
        method="pnp",
        inliers=0 if pose is None else pose.inliers,
        inlier_ratio=ratio,
        photometric_error=error,
        overlap=overlap,
        confidence=ratio * max(0.0, 1 - error / HOPELESS),
    )


def match_evidence(
    first: int, second: int, registration: Registration, views: list[PosedDepth]
) -> PairEvidence:
    """What supports the pose of a pair that was found by matches."""
    error, overlap = photometric_agreement(views[first], views[second])
    pose = registration.pairs.get((first, second))
    inliers = 0 if pose is None else len(pose)
    ratio = 0.0 if pose is None else pose.inlier_ratio
    most = registration.doubts.confidence if (first, second) == registration.base else 1.0
    return PairEvidence(
        first=first,
        second=second,
        method="matches",
        inliers=inliers,
        inlier_ratio=ratio,
        photometric_error=error,
        overlap=overlap,
        confidence=min(most, match_confidence(inliers, ratio)),
    )


def match_confidence(inliers: int, inlier_ratio: float) -> float:
    """Probability that a pose with this support is right to 5 degrees.

    A logistic model fitted to 138 pairs of real photos with known poses.
    """
    return 1 / (1 + math.exp(6.63 - 1.51 * math.log(inliers + 1) - 2.11 * inlier_ratio))


def best_support(view: int, pairs: tuple[PairEvidence, ...]) -> PairEvidence:
    """The evidence of the most certain pair that a view belongs to."""
    return max(
        (pair for pair in pairs if view in (pair.first, pair.second)),
        key=lambda pair: pair.confidence,
    )
