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
    inside, interpolated, spread = _interpolate_triangles(points, values, pixels)
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
    points: np.ndarray, values: np.ndarray, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which pixels lie in a triangle, their interpolated values, and its range of values."""
    from scipy.spatial import ConvexHull, Delaunay, QhullError

    try:
        triangles, borders = Delaunay(points), ConvexHull(points).equations
    except QhullError:  # all points on one line
        return np.zeros(0, dtype=int), np.zeros(0), np.zeros(0)
    # For points outside, `find_simplex` tries every triangle: a hundred times slower.
    x, y = pixels[:, :1], pixels[:, 1:]
    in_hull = x * borders[:, 0] + y * borders[:, 1] + borders[:, 2] < 0
    inside = np.nonzero(in_hull.all(axis=1))[0]
    found = triangles.find_simplex(pixels[inside])
    inside, found = inside[found >= 0], found[found >= 0]
    affine = triangles.transform[found]
    first_two = np.einsum("pij,pj->pi", affine[:, :2], pixels[inside] - affine[:, 2])
    barycentric = np.concatenate([first_two, 1 - first_two.sum(axis=1, keepdims=True)], axis=1)
    corners = values[triangles.simplices[found]]
    return inside, (barycentric * corners).sum(axis=1), np.ptp(corners, axis=1)
