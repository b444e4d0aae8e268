"""Polish a scene: a few steps of gradient descent toward its photos, through the renderer."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.depth_map import DepthMap
from models.geometry.gaussians import Gaussians
from models.render import render

STEPS = 40
LEARNING_RATES = (0.004, 0.01, 0.001, 0.0001)  # color, logit, logarithms of scale and of distance
ADAM_BETAS = 0.8, 0.95
STAY_WEIGHT = 1e-3  # of the mean squared changes of colors, logits and logarithms of scales
MIN_OPACITY = 1e-4  # and 1 less it, whose logits are finite


def polish(gaussians: Gaussians, views: list[DepthMap], steps: int = STEPS) -> Gaussians:
    """Change colors, opacities, sizes and distances a little until the scene looks like its photos.

    Adam on the mean squared difference of colors; distances are from the world's origin, the first
    camera.
    """
    logits = gaussians.opacities.logit(MIN_OPACITY)
    shapes = gaussians.harmonics, logits, logits[:, None], logits[:, None]
    changes = [torch.zeros_like(like, requires_grad=True) for like in shapes]
    groups = [
        {"params": [change], "lr": rate}
        for change, rate in zip(changes, LEARNING_RATES, strict=True)
    ]
    optimizer = torch.optim.Adam(groups, betas=ADAM_BETAS)

    def changed() -> Gaussians:
        color, opacity, scale, distance = changes
        return replace(
            gaussians,
            means=gaussians.means * distance.exp(),
            scales=gaussians.scales * scale.exp(),
            harmonics=gaussians.harmonics + color,
            opacities=(logits + opacity).sigmoid(),
        )

    with torch.enable_grad():
        for _ in range(steps):
            scene = changed()
            losses = [_difference(scene, view) for view in views]
            losses += [STAY_WEIGHT * change.square().mean() for change in changes[:3]]
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()
    with torch.no_grad():
        return changed()


def _difference(gaussians: Gaussians, view: DepthMap) -> Float[Tensor, ""]:
    """Return the mean squared difference of a rendering and the photo, where it shows the scene."""
    difference = (render(gaussians, view.camera).color - view.image).square()
    return (difference if view.mask is None else difference * view.mask).mean()
