"""Which pixels show what another view of the same scene shows too."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.data.procedural.shapes import FAR
from models.geometry.camera import project, unproject
from models.geometry.rigid import invert

_TOLERANCE = 1.03  # of depth, for what lies on a slope


def seen_from(
    depth: Float[Tensor, "height width"],
    cam2world: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    other_depth: Float[Tensor, "other_height other_width"],
    other_cam2world: Float[Tensor, "4 4"],
    other_intrinsics: Float[Tensor, "3 3"],
) -> Bool[Tensor, "height width"]:
    """The pixels of a view whose points another view shows, unoccluded; never the sky.

    Args:
        depth: Exact, of the view's pixels.
        cam2world: Where the view is.
        intrinsics: Of the view.
        other_depth: Exact, of the other view's pixels.
        other_cam2world: Where that is.
        other_intrinsics: Of it.
    """
    points = unproject(depth, cam2world, intrinsics).flatten(0, 1)
    at, z = project(points, invert(other_cam2world), other_intrinsics)
    found = torch.nn.functional.grid_sample(
        other_depth[None, None], 2 * at[None, None] - 1, mode="nearest", align_corners=False
    ).flatten()
    inside = (at > 0).all(-1) & (at < 1).all(-1) & (z > 0)
    return (inside & (z < _TOLERANCE * found)).view(depth.shape) & (depth < FAR)


def share_seen(seen: Bool[Tensor, "height width"], depth: Float[Tensor, "height width"]) -> float:
    """How much of what a view shows, the sky aside, is seen."""
    return float(seen.sum() / (depth < FAR).sum().clamp_min(1))
