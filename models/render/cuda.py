"""The renderer for CUDA devices: gsplat's, told to follow the same rules.

Read in gsplat 1.5.3, the same in both: dilation, near plane, the limits 1/255 and 0.999 of alpha
and 1e-4 of what is left of the light, pixel centers, where the perspective is linearized, and
quaternions of any length. What differs, and by how little: gsplat rounds a splat's box up to
whole tiles of pixels, which cuts nothing that counts; it sorts by depth in single precision; it
treats depths beyond 1e10 as behind the camera; and it gives no gradient to the intrinsics.
"""

import torch

from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.render import Rendering
from models.render.constants import DILATION_PX2, MAX_SH_DEGREE, MIN_DEPTH


def render_cuda(
    gaussians: Gaussians, camera: Camera, background: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Rendering:
    """Render a scene with gsplat: see `models.render.render`."""
    from gsplat import rasterization

    height, width = camera.size
    device, degree = gaussians.means.device, min(gaussians.sh_degree, MAX_SH_DEGREE)
    harmonics = gaussians.harmonics[..., : (degree + 1) ** 2]
    color_depth, alpha, _ = rasterization(
        means=gaussians.means.float(),
        quats=gaussians.rotations.float(),
        scales=gaussians.scales.float(),
        opacities=gaussians.opacities.float(),
        colors=harmonics.float().mT.contiguous(),
        viewmats=camera.world2cam.to(device, torch.float32)[None],
        Ks=camera.intrinsics_px.to(device, torch.float32)[None],
        width=width,
        height=height,
        near_plane=MIN_DEPTH,
        eps2d=DILATION_PX2,
        sh_degree=degree,
        packed=False,
        backgrounds=torch.tensor([background], device=device, dtype=torch.float32),
        render_mode="RGB+D",
        rasterize_mode="classic",
        camera_model="pinhole",
    )
    color, depth = color_depth[0].split([3, 1], dim=-1)
    return Rendering(color.permute(2, 0, 1), depth[..., 0], alpha[0, ..., 0])
