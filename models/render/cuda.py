"""The renderer for CUDA devices: gsplat's, told to follow the same rules.

Read in gsplat 1.5.3, the same in both: dilation, near plane, the limits 1/255 and 0.999 of alpha
and 1e-4 of what is left of the light, pixel centers, where the perspective is linearized, and
quaternions of any length. What differs, and by how little: gsplat rounds a splat's box up to
whole tiles of pixels, which cuts nothing that counts; it sorts by depth in single precision; it
treats depths beyond 1e10 as behind the camera; and it gives no gradient to the intrinsics.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.camera import to_pixels
from models.geometry.gaussians import Gaussians
from models.render import Rendering
from models.render.constants import DILATION, HIGHEST_DEGREE, NEAR


def render_cuda(
    gaussians: Gaussians,
    world2cam: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Rendering:
    """Draw a scene from one camera: see `models.render.render`."""
    from gsplat import rasterization

    height, width = size
    device, degree = gaussians.means.device, min(gaussians.sh_degree, HIGHEST_DEGREE)
    harmonics = gaussians.harmonics[..., : (degree + 1) ** 2]
    drawn, alpha, _ = rasterization(
        means=gaussians.means.float(),
        quats=gaussians.rotations.float(),
        scales=gaussians.scales.float(),
        opacities=gaussians.opacities.float(),
        colors=harmonics.float().mT.contiguous(),
        viewmats=world2cam.to(device, torch.float32)[None],
        Ks=to_pixels(intrinsics, size).to(device, torch.float32)[None],
        width=width,
        height=height,
        near_plane=NEAR,
        eps2d=DILATION,
        sh_degree=degree,
        packed=False,
        backgrounds=torch.tensor([background], device=device, dtype=torch.float32),
        render_mode="RGB+D",
        rasterize_mode="classic",
        camera_model="pinhole",
    )
    return Rendering(
        color=drawn[0, ..., :3].permute(2, 0, 1), depth=drawn[0, ..., 3], alpha=alpha[0, ..., 0]
    )
