"""Surfaces spanned by matched points: where a sweep should look when the photos alone are unclear.

Points whose depth is known from matches are joined to triangles, as in ELAS (Geiger et al., ACCV
2010). Large even triangles, such as those of a facade, say much; those that bridge a gap in depth
say little, and so does what lies far from any point.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

FEWEST = 4  # points below which there is no surface to speak of
NEIGHBORS = 8  # that a point is compared with
LIKE_MOST, LIKE_SOME, SOME = 5.0, 2.5, 3  # steps off the median; off so many single neighbors
REACH = 0.3  # distance from the nearest point, in long sides, over which trust falls to 1/e
OUTSIDE = 0.5  # trust beyond all triangles: the nearest point alone is followed
BRIDGE = 8.0  # range of a triangle, in steps, over which trust falls to 1/e
FLOOR = 0.3  # trust in an even triangle however far its corners are
PENALTY = 1.3  # cost of disagreeing with a fully trusted surface; a perfect mismatch costs 2
FAR_OFF = 6.0  # steps off the surface from where on the cost rises no more


@dataclass(frozen=True)
class SurfacePrior:
    """A guess of the position, in steps of the range, and how much to trust it, in [0, 1]."""

    position: Float[Tensor, "batch height width"]
    trust: Float[Tensor, "batch height width"]


def penalty(
    prior: SurfacePrior, planes: int, fineness: int = 1
) -> Float[Tensor, "batch plane height width"]:
    """What each plane costs for its distance from the surface; `fineness` planes are a step."""
    index = torch.arange(planes, device=prior.position.device)[:, None, None] / fineness
    off = (index - prior.position[:, None]).abs() / FAR_OFF
    return PENALTY * prior.trust[:, None] * off.clamp(max=1)


def span_surface(
    coordinates: Float[Tensor, "point 2"], position: Float[Tensor, " point"], size: tuple[int, int]
) -> SurfacePrior:
    """Interpolate between points, after dropping those that contradict their neighbors.

    Args:
        coordinates: Where the points are seen, in [0, 1].
        position: In steps of the range, fractional.
        size: (height, width) of the result, which is a batch of one.
    """
    height, width = size
    side = max(size)
    seen = coordinates.double().cpu().numpy() * np.array([width, height]) / side
    values = position.double().cpu().numpy()
    plausible = _plausible(seen, values)
    seen, values = _one_per_pixel(seen[plausible], values[plausible], side)
    if len(values) < FEWEST:
        nothing = position.new_zeros(1, height, width)
        return SurfacePrior(nothing, nothing)
    from scipy.spatial import cKDTree  # here: neither poses nor training need it

    y, x = np.mgrid[:height, :width] + 0.5
    pixels = np.stack([x.ravel(), y.ravel()], axis=1) / side
    distance, nearest = cKDTree(seen).query(pixels)
    closeness = np.exp(-distance / REACH)
    surface, trust = values[nearest], OUTSIDE * closeness
    inside, between, spread = _inside_triangles(seen, values, pixels)
    surface[inside] = between
    trust[inside] = np.maximum(closeness[inside], FLOOR) * np.exp(-spread / BRIDGE)
    maps = torch.from_numpy(np.stack([surface, trust]).reshape(2, 1, height, width))
    return SurfacePrior(*maps.to(position).unbind())


def _plausible(seen: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Which points are like their neighbors: like most of them, or very much like some."""
    if len(values) <= NEIGHBORS:
        return np.ones(len(values), dtype=bool)
    from scipy.spatial import cKDTree

    _, around = cKDTree(seen).query(seen, k=NEIGHBORS + 1)
    neighbors = values[around[:, 1:]]
    off = np.abs(neighbors - values[:, None])
    like_most = np.abs(np.median(neighbors, axis=1) - values) < LIKE_MOST
    return like_most | ((off < LIKE_SOME).sum(axis=1) >= SOME)


def _one_per_pixel(
    seen: np.ndarray, values: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means of the points that share a pixel: needle-thin triangles take seconds to search."""
    pixels, group = np.unique((seen * side).astype(int), axis=0, return_inverse=True)
    count = np.bincount(group, minlength=len(pixels))
    mean = [np.bincount(group, column, len(pixels)) / count for column in (*seen.T, values)]
    return np.stack(mean[:2], axis=1), mean[2]


def _inside_triangles(
    seen: np.ndarray, values: np.ndarray, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels inside any triangle, and there: the interpolated value, its triangle's range."""
    from scipy.spatial import ConvexHull, Delaunay, QhullError

    try:
        triangles, borders = Delaunay(seen), ConvexHull(seen).equations
    except QhullError:  # all points on one line
        return np.zeros(0, dtype=int), np.zeros(0), np.zeros(0)
    # Asked about points outside, `find_simplex` tries every triangle: a hundred times slower.
    x, y = pixels[:, :1], pixels[:, 1:]
    within = x * borders[:, 0] + y * borders[:, 1] + borders[:, 2] < 0
    inside = np.nonzero(within.all(axis=1))[0]
    found = triangles.find_simplex(pixels[inside])
    inside, found = inside[found >= 0], found[found >= 0]
    affine = triangles.transform[found]
    first_two = np.einsum("pij,pj->pi", affine[:, :2], pixels[inside] - affine[:, 2])
    weights = np.concatenate([first_two, 1 - first_two.sum(axis=1, keepdims=True)], axis=1)
    corners = values[triangles.simplices[found]]
    return inside, (weights * corners).sum(axis=1), np.ptp(corners, axis=1)
