"""Select the views to reconstruct from: sharp, with much in common, and with parallax."""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from models.features.sift import SiftMatcher
from models.geometry.views import View
from models.sfm.two_view import TwoView

MATCHING_SIDE_PX = 320  # long side of the images that are matched
MAX_KEYPOINTS = 400
MAX_CANDIDATES = 24  # views that are matched, each with each
MIN_INLIERS = 15
HALF_CERTAIN_INLIERS = 25
BEST_PARALLAX_RAD = math.radians(6)  # a step to the side, a tenth of the distance
PARALLAX_OCTAVES = 1.0  # standard deviation of the preference for it
GOOD_SCORE = 0.3  # of a pair after which nothing closer in time is searched
MIN_THIRD_SCORE = 0.5  # of a third view, by the score of the best pair
REFERENCE_SHARPNESS = 0.75  # quantile: sharper views are no better
RANSAC = {"min_iterations": 100, "max_iterations": 1000, "success_prob": 0.999}


@dataclass(frozen=True)
class ViewPair:
    """The two-view geometry of a pair, as far as selection needs it."""

    first: int
    second: int
    inliers: int
    overlap: float  # share of the textured area that both views show
    parallax: float  # median angle between the rays of the inliers, in radians
    score: float  # 0 to 1


@dataclass(frozen=True)
class Selection:
    """The selected views and the reasons."""

    views: tuple[int, ...]  # two or three, in order
    sharpness: tuple[float, ...]  # of all views; 1 is as sharp as the sharpest quarter
    pairs: tuple[ViewPair, ...]  # those that share a scene, best first


def select_views(views: list[View]) -> Selection:
    """Select the best pair of views, and a third one where it shares as much with both.

    The sharpest of every few consecutive views are candidates. Where the best pair of these has
    little in common, views around the best match are candidates too: a camera may move fast. Where
    no two views share a scene, the sharpest two are returned, and there are no pairs.

    Args:
        views: Two or more, in the order in which they were taken; a long side of about 512 pixels
            is enough. Their poses are ignored.
    """
    raw = torch.tensor([laplacian_energy(view.image) for view in views])
    reference = float(raw.quantile(REFERENCE_SHARPNESS)) or 1.0
    sharpness = (raw / reference).clamp(max=1)
    candidates = [
        int(group[sharpness[group].argmax()])
        for group in torch.arange(len(views)).tensor_split(min(len(views), MAX_CANDIDATES))
    ]
    pairs = _match_all(views, candidates, sharpness)
    if len(views) > MAX_CANDIDATES and (not pairs or pairs[0].score < GOOD_SCORE):
        most = max(pairs, key=lambda pair: pair.inliers, default=None)
        middle = (most.first + most.second) // 2 if most else len(views) // 2
        begin = min(max(0, middle - MAX_CANDIDATES // 2), len(views) - MAX_CANDIDATES)
        nearby = _match_all(views, list(range(begin, begin + MAX_CANDIDATES)), sharpness)
        seen = {(pair.first, pair.second) for pair in nearby}
        pairs = nearby + [pair for pair in pairs if (pair.first, pair.second) not in seen]
        pairs.sort(key=lambda pair: -pair.score)
    if pairs:
        chosen = _with_third(pairs)
    else:
        chosen = tuple(sorted(raw.argsort(descending=True)[:2].tolist()))
    return Selection(chosen, tuple(sharpness.tolist()), tuple(pairs))


def laplacian_energy(image: Float[Tensor, "3 height width"]) -> float:
    """Return the variance of the Laplacian by that of the intensity: higher is sharper."""
    gray = image.mean(0)
    laplacian = (
        gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * gray[1:-1, 1:-1]
    )
    return float(laplacian.var() / gray.var().clamp(min=1e-6))


def _match_all(
    views: list[View], candidates: list[int], sharpness: Float[Tensor, " view"]
) -> list[ViewPair]:
    """Match candidates each with each; return the pairs that share a scene, best first."""
    matcher = SiftMatcher(MAX_KEYPOINTS)
    cameras, features = {}, {}
    for number in candidates:
        view = views[number]
        scale = min(1.0, MATCHING_SIDE_PX / max(view.camera.size))
        height, width = (max(1, round(side * scale)) for side in view.camera.size)
        small = view.resized((height, width))
        cameras[number], features[number] = small.camera, matcher.detect(small.image)
    pairs = []
    for first, second in combinations(candidates, 2):
        both = features[first], features[second]
        matches = matcher.match(*both)
        if len(matches) < MIN_INLIERS:
            continue
        coordinates = both[0].coordinates, both[1].coordinates
        geometry = TwoView((cameras[first], cameras[second]), coordinates, matches)
        pose = geometry.find_inliers(geometry.ransac(0, options=RANSAC)[0])
        if len(pose) < MIN_INLIERS:
            continue
        overlap = min(
            1.0,
            *(
                _spread(each.coordinates[pose.inliers[:, side]]) / _spread(each.coordinates)
                for side, each in enumerate(both)
            ),
        )
        parallax = float(pose.parallax.median())
        blur = float(sharpness[[first, second]].min())
        score = blur * overlap * _preference(parallax) * _certainty(len(pose))
        pairs.append(ViewPair(first, second, len(pose), overlap, parallax, score))
    return sorted(pairs, key=lambda pair: -pair.score)


def _spread(coordinates: Float[Tensor, "point 2"]) -> float:
    """Return the area of the rectangle over which evenly spread points vary as much."""
    return float((12 * coordinates.var(0)).clamp(1e-4, 1).sqrt().prod())


def _preference(parallax: float) -> float:
    """Score parallax in [0, 1]: too little tells no depth, too much shows other surfaces."""
    octaves = math.log2(max(parallax, 1e-4) / BEST_PARALLAX_RAD)
    return math.exp(-0.5 * (octaves / PARALLAX_OCTAVES) ** 2)


def _certainty(inliers: int) -> float:
    return inliers / (inliers + HALF_CERTAIN_INLIERS)


def _with_third(pairs: list[ViewPair]) -> tuple[int, ...]:
    """Return the views of the best pair, and a third one if its pairs with both are good enough."""
    scores = {frozenset((pair.first, pair.second)): pair.score for pair in pairs}
    best = (pairs[0].first, pairs[0].second)
    thirds = {
        view: min(scores.get(frozenset((view, other)), 0.0) for other in best)
        for view in {view for pair in scores for view in pair} - set(best)
    }
    third = max(thirds, key=lambda view: (thirds[view], -view), default=None)
    if third is None or thirds[third] < MIN_THIRD_SCORE * pairs[0].score:
        return best
    return tuple(sorted((*best, third)))
