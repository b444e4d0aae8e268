"""How well photos support the relative poses that were found, and what that is worth."""

import math
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from models.geometry.depth_map import DepthMap, photometric_agreement
from models.metrics.errors import pose_error
from models.pose.pnp import PnpPose
from models.sfm.registration import Registration

TRUSTED = 0.3  # confidence below which a result is not to be trusted
SAME_DEG = 10.0  # two ways to a pose that differ by less confirm each other
USUAL_LEAD = 0.1  # share of the inliers by which three of four right poses are ahead of others
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


def pnp_evidence(second: int, pose: PnpPose | None, views: list[DepthMap]) -> PairEvidence:
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
    first: int, second: int, registration: Registration, views: list[DepthMap]
) -> PairEvidence:
    """What supports the pose of a pair that was found by matches."""
    error, overlap = photometric_agreement(views[first], views[second])
    pose = registration.pairs.get((first, second))
    return PairEvidence(
        first=first,
        second=second,
        method="matches",
        inliers=0 if pose is None else len(pose),
        inlier_ratio=0.0 if pose is None else pose.inlier_ratio,
        photometric_error=error,
        overlap=overlap,
        confidence=pair_confidence(first, second, registration),
    )


def pair_confidence(first: int, second: int, registration: Registration) -> float:
    """What the matches of a pair are worth, and what speaks against them."""
    pose = registration.pairs.get((first, second))
    if pose is None:
        return 0.0
    doubts = registration.doubts.get((first, second))
    most = 1.0 if doubts is None else doubts.confidence
    margin = None if registration.contender is None else registration.contender.margin
    spread = registration.focal_spread
    return min(most, match_confidence(len(pose), pose.inlier_ratio, spread, margin))


def weakest_link(registration: Registration) -> float:
    """Confidence in the view that is placed worst, by the best of its pairs."""
    views = range(len(registration.world2cam))
    best = [
        max(pair_confidence(min(v, o), max(v, o), registration) for o in views if o != v)
        for v in views
    ]
    return min(best)


def back_up(
    pair: PairEvidence,
    world2cam: Float[Tensor, "view 4 4"],
    other: PairEvidence,
    other_world2cam: Float[Tensor, "view 4 4"],
) -> PairEvidence:
    """What two independent ways to the same pose are worth together; nothing more if they differ.

    Both pairs start at the first view.
    """
    error = pose_error(other_world2cam[pair.second], world2cam[pair.second])
    if error.pose_deg > SAME_DEG:
        return pair
    return replace(pair, confidence=1 - (1 - pair.confidence) * (1 - other.confidence))


def match_confidence(
    inliers: int, inlier_ratio: float, focal_spread: float = 0.0, margin: float | None = None
) -> float:
    """Probability that a pose with this support is right to 5 degrees.

    `margin` is how many matches more it explains than any other pose does (see `Contender`), None
    where nobody has looked. Logistic models: one fitted to 138 pairs of real photos with known
    focal lengths, one to the same photos when these were guessed, or estimated from matches. Those
    that stay a guess have a `focal_spread` of 0.3.
    """
    ahead = USUAL_LEAD * inliers if margin is None else max(margin, 0.0)
    odds = 1.4 * math.log(ahead + 1) + 5.4 * inlier_ratio - 4.3
    if focal_spread > 0:
        odds = 1.5 + 0.23 * odds - 7.5 * focal_spread
    return 1 / (1 + math.exp(-odds))


def best_support(view: int, pairs: tuple[PairEvidence, ...]) -> PairEvidence:
    """The evidence of the most certain pair that a view belongs to."""
    return max(
        (pair for pair in pairs if view in (pair.first, pair.second)),
        key=lambda pair: pair.confidence,
    )
