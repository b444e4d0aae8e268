"""Render Gaussians: one function, two backends with the same answer."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians


@dataclass(frozen=True)
class Rendering:
    """A rendered view. `depth` is the sum of z * weight: over `alpha`, it is the expected depth."""

    color: Float[Tensor, "3 height width"]
    depth: Float[Tensor, "height width"]
    alpha: Float[Tensor, "height width"]


def render(
    gaussians: Gaussians, camera: Camera, background: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Rendering:
    """Render a scene by 3D Gaussian splatting (Kerbl et al., 2023).

    Differentiable in the camera's pose and in every Gaussian parameter, on CPUs in the intrinsics
    too. gsplat renders Gaussians on a CUDA device, our own rasterizer all others.

    Args:
        gaussians: The scene; SH degrees above 3 are cut to 3, as in the original renderer.
        camera: One camera, with any principal point; its size is the rendering's.
        background: RGB behind everything.
    """
    if gaussians.means.is_cuda:
        from models.render.cuda import render_cuda

        return render_cuda(gaussians, camera, background)
    from models.render.cpu import render_cpu

    return render_cpu(gaussians, camera, background)
