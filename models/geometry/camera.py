"""Pinhole geometry and rigid motions."""

import torch
from jaxtyping import Float
from torch import Tensor


def invert(transform: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Invert rigid motions exactly (transpose, no linear solve)."""
    rotation = transform[..., :3, :3].mT
    inverse = transform.clone()
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ transform[..., :3, 3:])[..., 0]
    return inverse


def transform_points(
    points: Float[Tensor, "*batch point 3"], transform: Float[Tensor, "*batch 4 4"]
) -> Float[Tensor, "*batch point 3"]:
    """Apply rigid motions to points."""
    return points @ transform[..., :3, :3].mT + transform[..., None, :3, 3]


def project(
    points: Float[Tensor, "*batch point 3"],
    world2cam: Float[Tensor, "*batch 4 4"],
    intrinsics: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch point 2"], Float[Tensor, "*batch point"]]:
    """Project world points into images.

    Returns:
        Coordinates (x, y), in [0, 1] inside the image, and depth z. Where z <= 0 the coordinates
        mean nothing.
    """
    in_camera = transform_points(points, world2cam)
    on_image = in_camera @ intrinsics.mT
    depth = in_camera[..., 2]
    return on_image[..., :2] / on_image[..., 2:], depth


def pixel_grid(
    size: tuple[int, int], like: Float[Tensor, "..."]
) -> Float[Tensor, "height width 2"]:
    """Coordinates (x, y) of every pixel's center, on the device and in the type of `like`."""
    height, width = size
    y = (torch.arange(height, device=like.device, dtype=like.dtype) + 0.5) / height
    x = (torch.arange(width, device=like.device, dtype=like.dtype) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def camera_rays(
    intrinsics: Float[Tensor, "*batch 3 3"], size: tuple[int, int]
) -> Float[Tensor, "*batch height width 3"]:
    """Rays through every pixel's center in camera axes, with z = 1: point = ray * depth."""
    grid = pixel_grid(size, intrinsics)
    homogeneous = torch.cat([grid, torch.ones_like(grid[..., :1])], dim=-1)
    return torch.einsum("...ij,hwj->...hwi", torch.linalg.inv(intrinsics), homogeneous)


def unproject(
    depth: Float[Tensor, "*batch height width"],
    cam2world: Float[Tensor, "*batch 4 4"],
    intrinsics: Float[Tensor, "*batch 3 3"],
) -> Float[Tensor, "*batch height width 3"]:
    """World points of a depth map's pixels; depth is z, not distance."""
    size = (depth.shape[-2], depth.shape[-1])
    points = camera_rays(intrinsics, size) * depth[..., None]
    return (
        torch.einsum("...ij,...hwj->...hwi", cam2world[..., :3, :3], points)
        + (cam2world[..., None, None, :3, 3])
    )


def to_pixels(
    intrinsics: Float[Tensor, "*batch 3 3"], size: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Turn normalized intrinsics into pixels of an image of this (height, width)."""
    height, width = size
    scale = torch.tensor([width, height, 1], device=intrinsics.device, dtype=intrinsics.dtype)
    return intrinsics * scale[:, None]


def from_pixels(
    intrinsics_px: Float[Tensor, "*batch 3 3"], size: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Normalize intrinsics given in pixels of an image of this (height, width)."""
    height, width = size
    scale = torch.tensor([width, height, 1], device=intrinsics_px.device, dtype=intrinsics_px.dtype)
    return intrinsics_px / scale[:, None]


def cross_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The matrix [v]x with [v]x w = v x w."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def se3_exponential(twist: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 4 4"]:
    """The rigid motion of a twist (translation part rho first, then rotation vector theta).

    Differentiable at zero. A camera is perturbed on the left: exp(twist) @ world2cam.
    """
    rho, theta = twist[..., :3], twist[..., 3:]
    generator = torch.zeros(*twist.shape[:-1], 4, 4, device=twist.device, dtype=twist.dtype)
    generator[..., :3, :3] = cross_matrix(theta)
    generator[..., :3, 3] = rho
    return torch.linalg.matrix_exp(generator)


def twist_gradient(
    world2cam: Float[Tensor, "*batch 4 4"], by_matrix: Float[Tensor, "*batch 4 4"]
) -> Float[Tensor, "*batch 6"]:
    """What a loss changes by with a twist to the left of a camera, at zero.

    `by_matrix` is what it changes by with the numbers of `world2cam`. Of exp(twist) @ world2cam,
    only the generator counts to first order.
    """
    by_generator = by_matrix @ world2cam.mT
    skew = by_generator - by_generator.mT
    turn = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
    return torch.cat([by_generator[..., :3, 3], turn], dim=-1)


def rotation_angle(
    first: Float[Tensor, "*batch 3 3"], second: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """The angle between two rotations, accurate near zero and near pi."""
    relative = first.mT @ second
    skew = torch.stack(
        [
            relative[..., 2, 1] - relative[..., 1, 2],
            relative[..., 0, 2] - relative[..., 2, 0],
            relative[..., 1, 0] - relative[..., 0, 1],
        ],
        dim=-1,
    )
    trace = relative.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(skew.norm(dim=-1), trace - 1)


def look_at(
    eye: Float[Tensor, "*batch 3"], target: Float[Tensor, "*batch 3"], down: Float[Tensor, "3"]
) -> Float[Tensor, "*batch 4 4"]:
    """The `cam2world` of a camera at `eye` that looks at `target`, its y axis near `down`.

    Meaningless where the line of sight is parallel to `down`.
    """
    forward = torch.nn.functional.normalize(target - eye, dim=-1)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(down.expand_as(forward), forward), dim=-1
    )
    cam2world = torch.zeros(*eye.shape[:-1], 4, 4, device=eye.device, dtype=eye.dtype)
    cam2world[..., :3, 0] = right
    cam2world[..., :3, 1] = torch.linalg.cross(forward, right)
    cam2world[..., :3, 2] = forward
    cam2world[..., :3, 3] = eye
    cam2world[..., 3, 3] = 1
    return cam2world


def to_wxyz(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """The unit quaternion of a rotation, w >= 0; accurate for every angle.

    The quaternion is the eigenvector, to the largest eigenvalue, of a symmetric matrix that is
    linear in the rotation: no case distinctions, and a slightly wrong rotation gets the nearest.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rotation.unbind(-2))
    rows = [
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ]
    symmetric = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    wxyz = torch.linalg.eigh(symmetric).eigenvectors[..., -1]
    return torch.where(wxyz[..., :1] < 0, -wxyz, wxyz)


def from_wxyz(wxyz: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotation of a quaternion, which need not be unit."""
    w, x, y, z = torch.nn.functional.normalize(wxyz, dim=-1).unbind(-1)
    vector = torch.stack([x, y, z], dim=-1)
    cross = cross_matrix(vector)
    identity = torch.eye(3, device=wxyz.device, dtype=wxyz.dtype)
    return identity + 2 * w[..., None, None] * cross + 2 * cross @ cross
