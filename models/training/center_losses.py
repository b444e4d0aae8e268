"""Losses of centers of pairs of views, against exact depth and poses."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from models.data.procedural import FAR
from models.geometry.camera import Camera, camera_rays
from models.geometry.rigid import transform_points
from models.training.losses import mean_distance

SKY_DISTANCE = 20.0  # in mean distances, of what is at least as far away
SKY_WEIGHT = 0.2
MAX_LOG = 3.0  # of the ratio of two distances
MIN_DISTANCE = 0.05  # mean distances; errors of nearer centers are relative to this
GRADIENT_STEPS = (1, 2, 4)  # in pixels that the losses look at
STRIDE = 4  # of these


@dataclass(frozen=True)
class PairBatch:
    """Two views of each of several worlds; the first camera of each is the world.

    `encoded` is what the frozen encoder says of the images, of which there are none then; it is
    empty where the encoder learns.
    """

    images: Float[Tensor, "batch 2 3 height width"] | None
    encoded: Float[Tensor, "batch 2 token channel"]
    cameras: Camera
    depth: Float[Tensor, "batch 2 height width"]


def center_losses(
    predicted: Float[Tensor, "batch 2 height width 3"], batch: PairBatch
) -> dict[str, Float[Tensor, ""]]:
    """Return means over pixels of how predicted centers differ from true ones, after one scale.

    `centers` is the distance to the true center, `distance` the difference of logarithmic
    distances, both as seen from the pixel's own camera and relative to the true distance, so that
    near things count as they show; `direction` is the part of it that moves the center in the
    image; `gradient` compares neighbors, over several steps; `scale` holds the mean at 1.
    """
    cameras = batch.cameras
    depth = batch.depth[:, :, ::STRIDE, ::STRIDE]
    rays = camera_rays(cameras.intrinsics, cameras.size)[:, :, ::STRIDE, ::STRIDE]
    seen = depth < 0.8 * FAR
    own = rays * depth[..., None]  # in each view's own camera
    points = transform_maps(own, cameras.cam2world)
    unit = mean_distance(points, seen)
    own_unit = own / unit[:, None, None, None, None]
    distance = own_unit.norm(dim=-1).clamp(min=1e-4)
    own_unit = own_unit * (SKY_DISTANCE / distance).clamp(max=1)[..., None]
    distance = distance.clamp(max=SKY_DISTANCE)
    seen_f = torch.where(seen, 1.0, SKY_WEIGHT)

    scale = mean_distance(predicted, seen)
    world2cam = cameras.world2cam.clone()
    world2cam[..., :3, 3] /= unit[:, None, None]
    found = transform_maps(predicted / scale[:, None, None, None, None], world2cam)
    found_distance = found.norm(dim=-1).clamp(min=1e-3)

    residual = (found - own_unit) / distance.clamp(min=MIN_DISTANCE)[..., None]
    error = residual.norm(dim=-1)
    capped = torch.where(error < 1, error, 1 + error.clamp(min=1).log())
    across = (found / found_distance[..., None] - normalize(own_unit, dim=-1)).norm(dim=-1)
    log = (found_distance / distance).log().abs().clamp(max=MAX_LOG)

    def mean(values: Tensor, weights: Tensor) -> Tensor:
        return (values * weights).sum() / weights.sum().clamp(min=1)

    gradient = residual.new_zeros(())
    for step in GRADIENT_STEPS:
        for axis in (2, 3):
            length = residual.shape[axis] - step
            first, second = residual.narrow(axis, 0, length), residual.narrow(axis, step, length)
            both = seen_f.narrow(axis, 0, length) * seen_f.narrow(axis, step, length)
            gradient = gradient + mean((first - second).abs().sum(-1).clamp(max=1), both)
    return {
        "centers": mean(capped, seen_f),
        "direction": mean(across, seen_f),
        "distance": mean(log, seen_f),
        "gradient": gradient / (2 * len(GRADIENT_STEPS)),
        "scale": scale.log().square().mean(),
    }


def transform_maps(
    points: Float[Tensor, "batch view height width 3"], motion: Float[Tensor, "batch view 4 4"]
) -> Float[Tensor, "batch view height width 3"]:
    """Move every view's points by a rigid motion of its own."""
    return transform_points(points.flatten(2, 3), motion).view(points.shape)
