"""Renderings of scenes that are finer than their pixels: rendered larger, then averaged.

A rasterizer evaluates a Gaussian at pixel centers. Where several of them share a pixel it shows
mostly one, whereas a photo's pixel is the average of all that falls on it.
"""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import transform_points
from models.render import render

PIXEL_SIGMA_PX = 0.5  # standard deviation of a Gaussian whose neighbors are one pixel away
MAX_SUPERSAMPLING = 4  # along each side: the cost grows with the square


def required_supersampling(gaussians: Gaussians, camera: Camera) -> int:
    """Return the factor by which half of the Gaussians in front of the camera fill a pixel each."""
    gaussians = gaussians.sample()
    depth = transform_points(gaussians.means, camera.world2cam)[:, 2]
    width = gaussians.scales.median(dim=-1).values
    sigma_px = (width / depth)[depth > 0] * camera.intrinsics_px[1, 1]
    if not len(sigma_px):
        return 1
    factor = PIXEL_SIGMA_PX / max(float(sigma_px.median()), 1e-6)
    return max(1, min(MAX_SUPERSAMPLING, math.ceil(factor - 0.05)))


def render_supersampled(
    gaussians: Gaussians, camera: Camera, factor: int
) -> Float[Tensor, "3 height width"]:
    """Render colors `factor` times larger along each side, and average them."""
    height, width = camera.size
    color = render(gaussians, camera.resized((height * factor, width * factor))).color
    return functional.avg_pool2d(color[None], factor)[0] if factor > 1 else color
