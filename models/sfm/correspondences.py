"""Matches of all pairs of photos, and the relative poses that they give."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from models.features.matcher import NO_TENTATIVE_MATCHES, Features, Matcher, TentativeMatches
from models.features.relative_roll import upright_rotations
from models.geometry.camera import Camera
from models.geometry.sampling import sample_nearest
from models.geometry.views import View
from models.sfm.overlays import find_overlay, stands_still
from models.sfm.two_view import ENOUGH_INLIERS, RelativePose, TwoView, estimate_relative_pose

MASK_MARGIN_PX = 2  # from the edge of a cut-out, which is none of the scene's


@dataclass(frozen=True)
class Correspondences:
    """Keypoints of photos and their matches, by pair (first, second) with first < second."""

    cameras: tuple[Camera, ...]  # on the CPU; their poses are ignored
    keypoints: list[Float[Tensor, "_keypoint 2"]]  # coordinates in each photo, in [0, 1]
    matches: dict[tuple[int, int], Int[Tensor, "_match 2"]]  # keypoint numbers in both photos
    poses: dict[tuple[int, int], RelativePose]  # lacks pairs with too few inliers
    tentative: dict[tuple[int, int], TentativeMatches]  # of the last matcher applied to a pair

    def two_view(self, pair: tuple[int, int]) -> TwoView:
        """Return a pair's cameras, keypoints and matches."""
        first, second = pair
        return TwoView(
            (self.cameras[first], self.cameras[second]),
            (self.keypoints[first], self.keypoints[second]),
            self.matches[pair],
            self.tentative.get(pair, NO_TENTATIVE_MATCHES),
        )


def find_correspondences(
    views: list[View], matchers: Sequence[Matcher], seed: int = 0
) -> Correspondences:
    """Match all pairs of views, and estimate their relative poses.

    A later matcher is applied only to pairs whose pose has fewer than `ENOUGH_INLIERS`, to images
    rotated upright according to earlier ones, the fastest first; a pose is estimated from the
    matches of all, but for those on an overlay (see `find_overlay`). The views' poses are ignored;
    the seed is RANSAC's.
    """
    numbers = range(len(views))
    pairs = list(combinations(numbers, 2))
    found = Correspondences(
        cameras=tuple(view.camera.to(torch.device("cpu")) for view in views),
        keypoints=[torch.zeros(0, 2) for _ in views],
        matches={pair: torch.zeros(0, 2, dtype=torch.long) for pair in pairs},
        poses={},
        tentative={},
    )
    rotations = dict.fromkeys(numbers, 0.0)
    for matcher in matchers:
        unsure = [pair for pair in pairs if len(found.poses.get(pair, ())) < ENOUGH_INLIERS]
        features = {
            view: _within_mask(matcher.detect(views[view].image, rotations[view]), views[view])
            for view in sorted({view for pair in unsure for view in pair})
        }
        matches = {}
        for pair in unsure:
            both = features[pair[0]], features[pair[1]]
            matches[pair], tentative = matcher.match(*both), matcher.match_softly(*both)
            offset = torch.tensor([len(found.keypoints[view]) for view in pair])
            found.matches[pair] = torch.cat([found.matches[pair], matches[pair] + offset])
            found.tentative[pair] = replace(tentative, matches=tentative.matches + offset)
        for view, those in features.items():
            found.keypoints[view] = torch.cat([found.keypoints[view], those.coordinates])
        if len(matches) == len(pairs):
            rotations = upright_rotations(features, matches)
        for pair in unsure:
            found = _without_overlay(found, pair, seed)
            pose = estimate_relative_pose(found.two_view(pair), seed)
            if pose is not None:
                found.poses[pair] = pose
    return found


def _within_mask(features: Features, view: View) -> Features:
    """Leave out keypoints on or beside pixels that do not show the scene."""
    if view.mask is None:
        return features
    size = 2 * MASK_MARGIN_PX + 1
    outside = functional.max_pool2d((~view.mask).float()[None], size, 1, MASK_MARGIN_PX)
    return features.select(sample_nearest(outside.cpu(), features.coordinates)[0] == 0)


def _without_overlay(found: Correspondences, pair: tuple[int, int], seed: int) -> Correspondences:
    """Leave out a pair's matches and tentative matches on an overlay."""
    both = found.two_view(pair)
    overlay = find_overlay(both, seed)
    if overlay is None:
        return found
    tentative = found.tentative[pair]
    kept = ~stands_still(both.with_matches(tentative.matches))
    rest = TentativeMatches(tentative.matches[kept], tentative.probabilities[kept])
    return replace(
        found,
        matches=found.matches | {pair: found.matches[pair][~overlay]},
        tentative=found.tentative | {pair: rest},
    )
