"""Pictures of scenes that are finer than their pixels: drawn larger, then averaged.

A rasterizer evaluates a Gaussian at pixel centers. Where several of them share a pixel it shows
mostly one, whereas a photo's pixel is the average of all that falls on it.
"""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.gaussians import Gaussians
from models.geometry.rigid import transform_points
from models.render import render

SIGMA_PX = 0.5  # standard deviation of a Gaussian whose neighbors are one pixel away
MOST = 4  # times larger, at the most: the cost grows with the square


def detail_needed(
    gaussians: Gaussians,
    world2cam: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
) -> int:
    """So many times larger the picture must be for half of the Gaussians to fill a pixel each.

    Args:
        gaussians: The scene; what lies behind the camera does not count.
        world2cam: The camera's pose.
        intrinsics: Normalized.
        size: (height, width) of the picture.
    """
    depth = transform_points(gaussians.means, world2cam)[:, 2]
    width = gaussians.scales.median(dim=-1).values
    on_image = (width / depth)[depth > 0] * intrinsics[1, 1] * size[0]
    if not len(on_image):
        return 1
    wanted = SIGMA_PX / max(float(on_image.median()), 1e-6)
    return max(1, min(MOST, math.ceil(wanted - 0.05)))


def draw_averaged(
    gaussians: Gaussians,
    world2cam: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
    detail: int,
) -> Float[Tensor, "3 height width"]:
    """Draw colors `detail` times larger along each side, and average."""
    larger = (size[0] * detail, size[1] * detail)
    color = render(gaussians, world2cam, intrinsics, larger).color
    return functional.avg_pool2d(color[None], detail)[0] if detail > 1 else color
