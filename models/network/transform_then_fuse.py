"""Transform then fuse: Gaussians in each view's own frame, joined by poses that must be given.

What the paper compares its canonical prediction with, in the manner of pixelSplat: a distance
along the pixel's own ray, a size in pixels as seen from there, and all turned by the pose.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from models.geometry.camera import camera_rays
from models.geometry.rigid import to_wxyz
from models.geometry.spherical_harmonics import turning_matrix

SMALLEST, LARGEST = 0.05, 1.5  # standard deviations, in pixel widths plus heights


def place(
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
    turned = torch.einsum("bvij,bvhwj->bvhwi", cam2world[..., :3, :3], rays)
    origins = cam2world[:, :, None, None, :3, 3]
    return origins + turned * distance[..., None], distance


def seen_sizes(
    raw: Float[Tensor, "batch view height width 3"],
    distance: Float[Tensor, "batch view height width"],
    intrinsics: Float[Tensor, "batch view 3 3"],
) -> Float[Tensor, "batch view height width 3"]:
    """Scales of Gaussians that measure about a pixel for their own camera."""
    height, width = distance.shape[-2:]
    pixel = 1 / (intrinsics[..., 0, 0] * width) + 1 / (intrinsics[..., 1, 1] * height)
    pixels = SMALLEST + (LARGEST - SMALLEST) * raw.sigmoid()
    return pixels * (distance * pixel[..., None, None])[..., None]


def turn_quaternions(
    wxyz: Float[Tensor, "batch view height width 4"], rotation: Float[Tensor, "batch view 3 3"]
) -> Float[Tensor, "batch view height width 4"]:
    """Rotate once more what the quaternions rotate."""
    more = to_wxyz(rotation)[:, :, None, None]
    w, vector = more[..., :1], more[..., 1:].expand_as(wxyz[..., 1:])
    scalar = w * wxyz[..., :1] - (vector * wxyz[..., 1:]).sum(-1, keepdim=True)
    rest = w * wxyz[..., 1:] + wxyz[..., :1] * vector
    return torch.cat([scalar, rest + torch.linalg.cross(vector, wxyz[..., 1:])], dim=-1)


def turn_harmonics(
    harmonics: Float[Tensor, "batch view height width 3 sh"],
    rotation: Float[Tensor, "batch view 3 3"],
) -> Float[Tensor, "batch view height width 3 sh"]:
    """Let colors turn along with what has them."""
    degree = round(harmonics.shape[-1] ** 0.5) - 1
    return torch.einsum("bvij,bvhwcj->bvhwci", turning_matrix(rotation, degree), harmonics)
