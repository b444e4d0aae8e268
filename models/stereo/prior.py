"""Prior from matched points: where surfaces probably are, as in ELAS (Geiger et al., ACCV 2010).

Points of known depth are triangulated. Large even triangles, such as those of a facade, say much;
those that span a gap in depth say little, and so does what lies far from any point.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

MIN_POINTS = 4  # with fewer there is no surface to speak of
NEIGHBORS = 8  # that a point is compared with
MEDIAN_TOLERANCE_STEPS = 5.0  # a point so near its neighbors' median is an inlier; ...
NEIGHBOR_TOLERANCE_STEPS, MIN_NEIGHBORS = 2.5, 3  # ... so is one so near this many of them
DECAY_DISTANCE = 0.3  # from the nearest point, in long sides, over which the weight falls to 1/e
OUTSIDE_WEIGHT = 0.5  # beyond all triangles: the nearest point alone is followed
DECAY_STEPS = 8.0  # depth range of a triangle over which the weight falls to 1/e
MIN_DISTANCE_WEIGHT = 0.3  # in an even triangle, however far its corners are
MAX_PENALTY = 1.3  # cost of contradicting a surface of weight 1; a perfect mismatch costs 2
MAX_PENALTY_STEPS = 6.0  # off the surface from where on the cost rises no more


@dataclass(frozen=True)
class SurfacePrior:
    """Expected positions, in steps of the range, and their weight in [0, 1]."""

    position: Float[Tensor, "batch height width"]
    weight: Float[Tensor, "batch height width"]


def penalty(
    prior: SurfacePrior, planes: int, planes_per_step: int = 1
) -> Float[Tensor, "batch plane height width"]:
    """Return the cost of each plane for its distance from the expected position."""
    index = torch.arange(planes, device=prior.position.device)[:, None, None] / planes_per_step
    distance = (index - prior.position[:, None]).abs() / MAX_PENALTY_STEPS
    return MAX_PENALTY * prior.weight[:, None] * distance.clamp(max=1)


def triangulated_prior(
    coordinates: Float[Tensor, "point 2"], position: Float[Tensor, " point"], size: tuple[int, int]
) -> SurfacePrior:
    """Interpolate positions (in steps) over the points' Delaunay triangulation, without outliers.

    The result, of this (height, width), is a batch of one.
    """
    height, width = size
    side = max(size)
    points = coordinates.double().cpu().numpy() * np.array([width, height]) / side
    values = position.double().cpu().numpy()
    inliers = _inliers(points, values)
    points, values = _average_per_pixel(points[inliers], values[inliers], side)
    if len(values) < MIN_POINTS:
        zero = position.new_zeros(1, height, width)
        return SurfacePrior(zero, zero)
    from scipy.spatial import cKDTree  # here: neither poses nor training need it

    y, x = np.mgrid[:height, :width] + 0.5
    pixels = np.stack([x.ravel(), y.ravel()], axis=1) / side
    distance, nearest = cKDTree(points).query(pixels)
    distance_weight = np.exp(-distance / DECAY_DISTANCE)
    surface, weight = values[nearest], OUTSIDE_WEIGHT * distance_weight
    inside, interpolated, spread = _interpolate_triangles(points * side, values, size)
    surface[inside] = interpolated
    weight[inside] = np.maximum(distance_weight[inside], MIN_DISTANCE_WEIGHT) * np.exp(
        -spread / DECAY_STEPS
    )
    maps = torch.from_numpy(np.stack([surface, weight]).reshape(2, 1, height, width))
    return SurfacePrior(*maps.to(position).unbind())


def _inliers(points: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mask of the points near the median of their neighbors, or very near some."""
    if len(values) <= NEIGHBORS:
        return np.ones(len(values), dtype=bool)
    from scipy.spatial import cKDTree

    _, index = cKDTree(points).query(points, k=NEIGHBORS + 1)
    neighbors = values[index[:, 1:]]
    near = np.abs(neighbors - values[:, None]) < NEIGHBOR_TOLERANCE_STEPS
    near_median = np.abs(np.median(neighbors, axis=1) - values) < MEDIAN_TOLERANCE_STEPS
    return near_median | (near.sum(axis=1) >= MIN_NEIGHBORS)


def _average_per_pixel(
    points: np.ndarray, values: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Average the points that share a pixel: needle-thin triangles take seconds to search."""
    pixels, group = np.unique((points * side).astype(int), axis=0, return_inverse=True)
    count = np.bincount(group, minlength=len(pixels))
    mean = [np.bincount(group, column, len(pixels)) / count for column in (*points.T, values)]
    return np.stack(mean[:2], axis=1), mean[2]


def _interpolate_triangles(
    points: np.ndarray, values: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which pixels lie in a triangle, their interpolated values, and its range of values.

    Scan conversion: the pixels of all triangles, row by row. Points are in pixels of this (height,
    width); pixels are numbered row by row.
    """
    from scipy.spatial import Delaunay, QhullError

    try:
        simplices = Delaunay(points).simplices
    except QhullError:  # all points on one line
        return np.zeros(0, dtype=int), np.zeros(0), np.zeros(0)
    corners, limits = points[simplices], values[simplices]
    triangle, row = _centers_between(corners[..., 1].min(1), corners[..., 1].max(1), size[0])
    start, end = corners[triangle], np.roll(corners, -1, axis=1)[triangle]
    y = row[:, None] + 0.5
    crosses = (start[..., 1] <= y) != (end[..., 1] <= y)
    with np.errstate(divide="ignore", invalid="ignore"):  # edges along rows cross none
        share = (y - start[..., 1]) / (end[..., 1] - start[..., 1])
        x = start[..., 0] + share * (end[..., 0] - start[..., 0])
    left, right = (np.where(crosses, x, fill) for fill in (np.inf, -np.inf))
    span, column = _centers_between(left.min(1), right.max(1), size[1])
    triangle, row = triangle[span], row[span]
    origin, (first, second) = corners[triangle, 0], (corners[:, 1:] - corners[:, :1]).swapaxes(0, 1)
    area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    x, y = column + 0.5 - origin[:, 0], row + 0.5 - origin[:, 1]
    first, second, area = first[triangle], second[triangle], area[triangle]
    of_first = (x * second[:, 1] - y * second[:, 0]) / area
    of_second = (y * first[:, 0] - x * first[:, 1]) / area
    own = limits[triangle]
    surface = own[:, 0] + of_first * (own[:, 1] - own[:, 0]) + of_second * (own[:, 2] - own[:, 0])
    surface = surface.clip(own.min(1), own.max(1))  # of needles too thin for their numbers
    return row * size[1] + column, surface, np.ptp(own, axis=1)


def _centers_between(
    first: np.ndarray, last: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return all pixels whose centers lie in intervals: each one's interval, and its number."""
    start, stop = (np.ceil(each - 0.5).clip(0, count).astype(int) for each in (first, last))
    lengths = (stop - start).clip(min=0)
    interval = np.repeat(np.arange(len(lengths)), lengths)
    before = np.cumsum(lengths) - lengths
    return interval, np.arange(len(interval)) + (start - before)[interval]
