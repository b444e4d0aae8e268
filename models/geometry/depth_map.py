"""A posed depth map: follow its points into other views, and compare what both see."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import Camera

SAME_SURFACE = 0.03  # relative depth difference up to which two views are said to see one surface


@dataclass(frozen=True)
class DepthMap:
    """The depth (z) of an image's pixels, with the image and its camera.

    `confidence`, in [0, 1], says how sure each depth is.
    """

    image: Float[Tensor, "3 height width"]
    depth: Float[Tensor, "height width"]
    confidence: Float[Tensor, "height width"]
    camera: Camera


def sample_nearest(
    maps: Float[Tensor, "channel height width"], coordinates: Float[Tensor, "point 2"]
) -> Float[Tensor, "channel point"]:
    """Values at image coordinates; outside the image, at its border."""
    grid = (coordinates * 2 - 1).clamp(-1, 1)[None, None]
    return functional.grid_sample(maps[None], grid, mode="nearest", align_corners=False)[0, :, 0]


def look_up(
    view: DepthMap, other: DepthMap, maps: Float[Tensor, "channel height width"]
) -> tuple[Float[Tensor, " point"], Bool[Tensor, " point"], Float[Tensor, "channel point"]]:
    """Follow a view's points into another view.

    Returns:
        For each pixel of the view, row by row: depth in the other camera, whether it lies inside
        the other image, and what `maps`, of the other view, say there.
    """
    points = view.camera.unproject(view.depth).flatten(0, 1)
    coordinates, z = other.camera.project(points)
    inside = (z > 0) & (coordinates > 0).all(-1) & (coordinates < 1).all(-1)
    return z, inside, sample_nearest(maps, coordinates)


def contradicted(
    view: DepthMap, other: DepthMap, margin: float = 0.0
) -> Bool[Tensor, "height width"]:
    """Where a point stands in the way of what another view sees behind it, with more confidence.

    Args:
        view: The points in question.
        other: The view that may contradict them.
        margin: By how much the other view must be more confident.
    """
    z, inside, there = look_up(view, other, torch.stack([other.depth, other.confidence]))
    in_front = z < there[0] * (1 - SAME_SURFACE)
    weaker = view.confidence.flatten() + margin < there[1]
    return (inside & in_front & weaker).unflatten(0, view.depth.shape)


def covered(view: DepthMap, other: DepthMap) -> Bool[Tensor, "height width"]:
    """Where a point lies on a surface that another view has, or stands in its way."""
    z, inside, there = look_up(view, other, other.depth[None])
    return (inside & (z < there[0] * (1 + SAME_SURFACE))).unflatten(0, view.depth.shape)


def photometric_agreement(first: DepthMap, second: DepthMap) -> tuple[float, float]:
    """How alike two views are where both see the same surface.

    Returns:
        Mean absolute color difference in [0, 1], and the share of the second view's points that
        the first one sees.
    """
    z, inside, there = look_up(second, first, torch.cat([first.depth[None], first.image]))
    seen = inside & (z < there[0] * (1 + SAME_SURFACE))
    if not seen.any():
        return 1.0, 0.0
    difference = (there[1:] - second.image.flatten(1)).abs().mean(0)
    return float(difference[seen].mean()), float(seen.float().mean())
