"""Depth maps of posed images, and where two of them see the same surface."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.sampling import sample_nearest

DEPTH_TOLERANCE = 0.03  # relative difference up to which two views see the same surface


@dataclass(frozen=True)
class DepthMap:
    """The depth (z) of an image's pixels and its confidence in [0, 1], with image and camera.

    The mask is true where the image shows the scene; None is everywhere.
    """

    image: Float[Tensor, "3 height width"]
    depth: Float[Tensor, "height width"]
    confidence: Float[Tensor, "height width"]
    camera: Camera
    mask: Bool[Tensor, "height width"] | None = None


def look_up(
    view: DepthMap, other: DepthMap, maps: Float[Tensor, "channel height width"]
) -> tuple[Float[Tensor, " point"], Bool[Tensor, " point"], Float[Tensor, "channel point"]]:
    """Project a view's points into another view, and sample the other view's maps there.

    Returns:
        For each pixel of the view, row by row: depth in the other camera, whether it lies inside
        the other image, and the nearest values of `maps`.
    """
    points = view.camera.unproject(view.depth).flatten(0, 1)
    coordinates, z = other.camera.project(points)
    inside = (z > 0) & (coordinates > 0).all(-1) & (coordinates < 1).all(-1)
    return z, inside, sample_nearest(maps, coordinates)


def contradicted(
    view: DepthMap, other: DepthMap, margin: float = 0.0
) -> Bool[Tensor, "height width"]:
    """Find a view's points that would hide what another, by `margin` more confident, sees."""
    points = view.camera.unproject(view.depth).flatten(0, 1)
    hidden = hides(points, view.confidence.flatten() + margin, other)
    return hidden.unflatten(0, view.depth.shape)


def hides(
    points: Float[Tensor, "point 3"], confidence: Float[Tensor, " point"], view: DepthMap
) -> Bool[Tensor, " point"]:
    """Find points that would hide what a more confident view sees behind them."""
    coordinates, z = view.camera.project(points)
    inside = (z > 0) & (coordinates > 0).all(-1) & (coordinates < 1).all(-1)
    surest = view.confidence if view.mask is None else view.confidence.where(view.mask, 0)
    there = sample_nearest(torch.stack([view.depth, surest]), coordinates)
    in_front = z < there[0] * (1 - DEPTH_TOLERANCE)
    return inside & in_front & (confidence < there[1])


def covered(view: DepthMap, other: DepthMap) -> Bool[Tensor, "height width"]:
    """Find points on a surface that another view sees, or in front of it."""
    depth = other.depth if other.mask is None else other.depth.where(other.mask, 0)
    z, inside, there = look_up(view, other, depth[None])
    return (inside & (z < there[0] * (1 + DEPTH_TOLERANCE))).unflatten(0, view.depth.shape)


def photometric_agreement(first: DepthMap, second: DepthMap) -> tuple[float, float]:
    """Compare the colors of two views where both see the same surface.

    Returns:
        Mean absolute color difference in [0, 1], and the share of the second view's points that
        the first one sees.
    """
    z, inside, there = look_up(second, first, torch.cat([first.depth[None], first.image]))
    seen = inside & (z < there[0] * (1 + DEPTH_TOLERANCE))
    if not seen.any():
        return 1.0, 0.0
    difference = (there[1:] - second.image.flatten(1)).abs().mean(0)
    return float(difference[seen].mean()), float(seen.float().mean())
