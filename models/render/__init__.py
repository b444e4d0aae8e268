"""Draw Gaussians: one function, two backends with the same answer."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from models.geometry.gaussians import Gaussians


@dataclass(frozen=True)
class Rendering:
    """One picture. `depth` is the sum of z * weight: divide by `alpha` for an expected depth."""

    color: Float[Tensor, "3 height width"]
    depth: Float[Tensor, "height width"]
    alpha: Float[Tensor, "height width"]


def render(
    gaussians: Gaussians,
    world2cam: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Rendering:
    """Draw a scene from one camera; differentiable in the camera and in every Gaussian parameter.

    Gaussians on a CUDA device are drawn by gsplat, all others by our own rasterizer.

    Args:
        gaussians: The scene; SH degrees above 3 are cut to 3, as in the original renderer.
        world2cam: The camera's pose.
        intrinsics: Normalized; any principal point.
        size: (height, width) of the picture.
        background: RGB behind everything.
    """
    if gaussians.means.is_cuda:
        from models.render.cuda import render_cuda

        return render_cuda(gaussians, world2cam, intrinsics, size, background)
    from models.render.cpu import render_cpu

    return render_cpu(gaussians, world2cam, intrinsics, size, background)
