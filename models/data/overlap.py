"""Which pixels show what another view of the same scene shows too."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.data.procedural.shapes import FAR
from models.geometry.camera import Camera

_TOLERANCE = 1.03  # of depth, for what lies on a slope


def seen_from(
    depth: Float[Tensor, "height width"],
    camera: Camera,
    other_depth: Float[Tensor, "other_height other_width"],
    other: Camera,
) -> Bool[Tensor, "height width"]:
    """Find the pixels of a view whose points another view shows, unoccluded; never the sky."""
    points = camera.unproject(depth).flatten(0, 1)
    coordinates, z = other.project(points)
    grid = 2 * coordinates[None, None] - 1
    there = torch.nn.functional.grid_sample(
        other_depth[None, None], grid, mode="nearest", align_corners=False
    ).flatten()
    inside = (coordinates > 0).all(-1) & (coordinates < 1).all(-1) & (z > 0)
    return (inside & (z < _TOLERANCE * there)).view(depth.shape) & (depth < FAR)


def share_seen(seen: Bool[Tensor, "height width"], depth: Float[Tensor, "height width"]) -> float:
    """How much of what a view shows, the sky aside, is seen."""
    return float(seen.sum() / (depth < FAR).sum().clamp_min(1))
