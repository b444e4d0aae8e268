"""Depth maps in colors: near is bright and warm, far is dark and blue."""

import torch
from jaxtyping import Float
from torch import Tensor

RAMP = (  # RGB from far to near, evenly spaced, ever lighter
    (0.02, 0.03, 0.12),
    (0.16, 0.10, 0.42),
    (0.50, 0.16, 0.50),
    (0.83, 0.30, 0.36),
    (0.97, 0.60, 0.24),
    (0.99, 0.95, 0.65),
)


MIN_FAR_TO_NEAR = 1.2  # what is flatter is shown in nearly one color


def depth_range(depth: Float[Tensor, " point"]) -> tuple[float, float]:
    """Return the nearest and farthest positive depth but for 2 % at either end."""
    positive = depth[depth > 0].sort().values
    if len(positive) == 0:
        return 1.0, 2.0
    last = len(positive) - 1
    near, far = positive[round(0.02 * last)].item(), positive[round(0.98 * last)].item()
    return near, max(far, MIN_FAR_TO_NEAR * near)


def color_depth(
    depth: Float[Tensor, "height width"], near: float, far: float
) -> Float[Tensor, "3 height width"]:
    """Color a depth map by inverse depth; black where there is none (zero or less)."""
    inverse = (1 / depth.clamp(min=1e-9) - 1 / far) / (1 / near - 1 / far)
    position = inverse.clamp(0, 1) * (len(RAMP) - 1)
    ramp = torch.tensor(RAMP, device=depth.device, dtype=depth.dtype)
    below = position.floor().long().clamp(max=len(RAMP) - 2)
    weight = (position - below)[..., None]
    color = (1 - weight) * ramp[below] + weight * ramp[below + 1]
    return (color * (depth > 0)[..., None]).permute(2, 0, 1)
