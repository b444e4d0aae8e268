"""What training minimizes: errors of centers, and of pictures drawn from them."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.data.procedural import FAR, WorldBatch
from models.metrics.ssim import structure_loss, window_statistics
from models.network.noposplat import Prediction
from models.render import render

_NEAREST = 0.05  # of the mean distance: nearer points weigh as much as this
_UNIT_SCALE_WEIGHT = 0.01
_STRUCTURE_WEIGHT = 0.05


def true_centers(
    worlds: WorldBatch,
) -> tuple[Float[Tensor, "batch view height width 3"], Bool[Tensor, "batch view height width"]]:
    """What every pixel sees, in the first view's frame, and where that is not the sky."""
    return worlds.cameras.unproject(worlds.depth), worlds.depth < FAR


def mean_distance(
    points: Float[Tensor, "batch view height width 3"],
    seen: Bool[Tensor, "batch view height width"],
) -> Float[Tensor, " batch"]:
    """Geometric mean of the distances to the first camera: far things do not dominate it."""
    weight = seen.float()
    logarithms = points.norm(dim=-1).clamp(min=1e-6).log() * weight
    return (logarithms.sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1)).exp()


def center_loss(prediction: Prediction, worlds: WorldBatch) -> Float[Tensor, ""]:
    """Distance between predicted and true centers, both of mean distance 1, over true depth.

    Depth is that from the pixel's own camera, so that errors count as they show in its picture.
    The predicted mean distance is held near 1, where Gaussians of pixel size are made.
    """
    target, seen = true_centers(worlds)
    true_scale = mean_distance(target, seen)[:, None, None, None]
    scale = mean_distance(prediction.means, seen)
    centers = prediction.means / scale[:, None, None, None, None]
    error = (centers - target / true_scale[..., None]).norm(dim=-1)
    relative = error / (worlds.depth / true_scale).clamp(min=_NEAREST)
    capped = torch.where(relative < 1, relative, 1 + relative.clamp(min=1).log())
    mean = (capped * seen).sum() / seen.sum().clamp(min=1)
    return mean + _UNIT_SCALE_WEIGHT * scale.log().square().mean()


def render_loss(
    prediction: Prediction, worlds: WorldBatch, photos: Float[Tensor, "batch view 3 height width"]
) -> Float[Tensor, ""]:
    """Difference between `photos`' last view, which the network did not see, and a drawing of it.

    Pixels that show what lies outside all other views do not count.

    Args:
        prediction: From all views but the last.
        worlds: Where all views are.
        photos: Of all views, exposed like each other.
    """
    target, seen = true_centers(worlds)
    true_scale = mean_distance(target[:, :-1], seen[:, :-1])
    ratio = mean_distance(prediction.means, seen[:, :-1]) / true_scale
    losses = []
    for index, photo in enumerate(photos[:, -1]):
        camera = worlds.cameras[index, -1]
        world2cam = camera.world2cam.clone()
        world2cam[:3, 3] *= ratio[index].detach()
        color = render(prediction.scene(index), replace(camera, world2cam=world2cam)).color
        counts = _in_sight(target[index, -1], worlds, index)
        squares = (color - photo).square().mean(0)[counts].sum() / counts.sum().clamp(min=1)
        structure = structure_loss(color * counts, window_statistics(photo * counts))
        losses.append(squares + _STRUCTURE_WEIGHT * structure)
    return torch.stack(losses).mean()


def _in_sight(
    points: Float[Tensor, "height width 3"], worlds: WorldBatch, index: int
) -> Bool[Tensor, "height width"]:
    """Which points lie inside the image of any view but the last."""
    cameras = worlds.cameras[index, :-1]
    flat = points.flatten(0, 1).expand(len(cameras.world2cam), -1, -1)
    at, depth = cameras.project(flat)
    inside = ((at > 0) & (at < 1)).all(-1) & (depth > 0)
    return inside.any(0).view(points.shape[:2])
