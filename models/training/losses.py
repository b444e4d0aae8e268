"""Losses of the network: relative errors of centers, and differences of rendered images."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.geometry.camera import Camera
from models.metrics.lpips import Lpips
from models.metrics.ssim import structure_loss, window_statistics
from models.network.noposplat import Prediction

MIN_DISTANCE = 0.05  # units; errors of nearer centers are relative to this


def mean_distance(
    points: Float[Tensor, "batch view height width 3"],
    seen: Bool[Tensor, "batch view height width"],
) -> Float[Tensor, " batch"]:
    """Return the geometric mean distance to the first camera of what the first two views see.

    Geometric, so that far things do not dominate it.
    """
    weight = seen[:, :2].float()
    logarithms = points[:, :2].norm(dim=-1).clamp(min=1e-6).log() * weight
    return (logarithms.sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1)).exp()


def relative_errors(
    prediction: Prediction,
    centers: Float[Tensor, "batch view height width 3"],
    cameras: Camera,
) -> Float[Tensor, "batch view height width"]:
    """Return distances between predicted and true centers, over the true distance.

    That is the distance from the pixel's own camera: errors count as they show in its image.
    """
    distance = (centers - cameras.center[:, :, None, None]).norm(dim=-1).clamp(min=MIN_DISTANCE)
    return (prediction.means - centers).norm(dim=-1) / distance


def center_loss(
    errors: Float[Tensor, "batch view height width"],
    seen: Bool[Tensor, "batch view height width"],
) -> Float[Tensor, ""]:
    """Return the mean of relative errors; errors beyond 1 count with their logarithm."""
    capped = torch.where(errors < 1, errors, 1 + errors.clamp(min=1).log())
    return (capped * seen).sum() / seen.sum().clamp(min=1)


def perceptual_loss(
    rendered: Float[Tensor, "image 3 height width"],
    images: Float[Tensor, "image 3 height width"],
    lpips: Lpips | None,
) -> Float[Tensor, ""]:
    """Return the mean LPIPS or, without its weights, 1 - SSIM's structure term."""
    if lpips is not None:
        return lpips(rendered, images).mean()
    losses = [
        structure_loss(one, window_statistics(other))
        for one, other in zip(rendered, images, strict=True)
    ]
    return torch.stack(losses).mean()
