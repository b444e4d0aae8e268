"""Contrast of what an image shows, free of noise, of shading and of its brightness."""

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.views import resize

CELLS = 32  # along each side: their means keep hardly any noise


def structural_contrast(image: Float[Tensor, "3 height width"]) -> float:
    """Return the mean absolute difference of an image's cells from the best quadratic surface.

    Near zero for walls, fog, the inside of a pocket, whatever their noise and their shading, and
    above 0.05 for what people photograph; channels are in [0, 1].
    """
    cells = resize(image, (CELLS, CELLS)).flatten(1).T
    line = torch.linspace(-1, 1, CELLS, device=image.device)
    y, x = (axis.flatten() for axis in torch.meshgrid(line, line, indexing="ij"))
    surfaces = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], dim=1)
    basis = torch.linalg.qr(surfaces).Q
    return float((cells - basis @ (basis.T @ cells)).abs().mean())
