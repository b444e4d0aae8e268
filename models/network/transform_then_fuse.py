"""Transform then fuse: Gaussians in each view's own frame, joined by known poses.

The baseline of the paper's ablation of the canonical space (Ye et al., ICLR 2025), as in
pixelSplat (Charatan et al., CVPR 2024): centers on the pixels' own rays, scales in pixels.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from models.geometry.camera import camera_rays
from models.geometry.rigid import to_wxyz
from models.geometry.spherical_harmonics import turning_matrix

MIN_SCALE_PX, MAX_SCALE_PX = 0.05, 1.5  # standard deviations, in pixel widths plus heights


def place_centers(
    raw_centers: Float[Tensor, "batch view height width 3"],
    cam2world: Float[Tensor, "batch view 4 4"],
    intrinsics: Float[Tensor, "batch view 3 3"],
) -> tuple[Float[Tensor, "batch view height width 3"], Float[Tensor, "batch view height width"]]:
    """Put centers on the pixels' own rays, as far away as the published activation says.

    Returns:
        Centers in the first view's frame, and distances from their own camera.
    """
    size = (raw_centers.shape[2], raw_centers.shape[3])
    rays = normalize(camera_rays(intrinsics, size), dim=-1)
    distance = raw_centers.norm(dim=-1).clamp(min=1e-8).expm1()
    directions = torch.einsum("bvij,bvhwj->bvhwi", cam2world[..., :3, :3], rays)
    origins = cam2world[:, :, None, None, :3, 3]
    return origins + directions * distance[..., None], distance


def pixel_sized_scales(
    raw: Float[Tensor, "batch view height width 3"],
    distance: Float[Tensor, "batch view height width"],
    intrinsics: Float[Tensor, "batch view 3 3"],
) -> Float[Tensor, "batch view height width 3"]:
    """Return scales of Gaussians that measure about a pixel for their own camera."""
    height, width = distance.shape[-2:]
    pixel = 1 / (intrinsics[..., 0, 0] * width) + 1 / (intrinsics[..., 1, 1] * height)
    pixels = MIN_SCALE_PX + (MAX_SCALE_PX - MIN_SCALE_PX) * raw.sigmoid()
    return pixels * (distance * pixel[..., None, None])[..., None]


def rotate_quaternions(
    wxyz: Float[Tensor, "batch view height width 4"], rotation: Float[Tensor, "batch view 3 3"]
) -> Float[Tensor, "batch view height width 4"]:
    """Return the quaternions of `rotation` after the given ones: their Hamilton product."""
    left = to_wxyz(rotation)[:, :, None, None]
    w, vector = left[..., :1], left[..., 1:].expand_as(wxyz[..., 1:])
    scalar = w * wxyz[..., :1] - (vector * wxyz[..., 1:]).sum(-1, keepdim=True)
    rest = w * wxyz[..., 1:] + wxyz[..., :1] * vector
    return torch.cat([scalar, rest + torch.linalg.cross(vector, wxyz[..., 1:])], dim=-1)


def rotate_harmonics(
    harmonics: Float[Tensor, "batch view height width 3 sh"],
    rotation: Float[Tensor, "batch view 3 3"],
) -> Float[Tensor, "batch view height width 3 sh"]:
    """Rotate colors, given as spherical harmonics, along with their Gaussians."""
    degree = round(harmonics.shape[-1] ** 0.5) - 1
    return torch.einsum("bvij,bvhwcj->bvhwci", turning_matrix(rotation, degree), harmonics)
