"""Rigid motions (SE(3)) as 4x4 matrices, and rotations as matrices and quaternions."""

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


def rigid_motion(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Return the matrices of rigid motions: rotate, then translate."""
    transform = rotation.new_zeros(*rotation.shape[:-2], 4, 4)
    transform[..., :3, :3] = rotation
    transform[..., :3, 3] = translation
    transform[..., 3, 3] = 1
    return transform


def transform_points(
    points: Float[Tensor, "*batch point 3"], transform: Float[Tensor, "*batch 4 4"]
) -> Float[Tensor, "*batch point 3"]:
    """Apply rigid motions to points."""
    return points @ transform[..., :3, :3].mT + transform[..., None, :3, 3]


def cross_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the matrix [v]x with [v]x w = v x w."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -z, y, z, zero, -x, -y, x, zero]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def se3_exponential(twist: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 4 4"]:
    """Return the rigid motion of a twist (rho, for translation, then the rotation vector theta).

    Differentiable at zero. A camera is perturbed on the left: exp(twist) @ world2cam.
    """
    rho, theta = twist[..., :3], twist[..., 3:]
    generator = torch.zeros(*twist.shape[:-1], 4, 4, device=twist.device, dtype=twist.dtype)
    generator[..., :3, :3] = cross_matrix(theta)
    generator[..., :3, 3] = rho
    return torch.linalg.matrix_exp(generator)


def twist_gradient(
    world2cam: Float[Tensor, "*batch 4 4"], matrix_gradient: Float[Tensor, "*batch 4 4"]
) -> Float[Tensor, "*batch 6"]:
    """Return a loss's gradient by a twist to the left of a camera, at zero.

    `matrix_gradient` is its gradient by the entries of `world2cam`. Of exp(twist) @ world2cam,
    only the generator counts to first order.
    """
    generator_gradient = matrix_gradient @ world2cam.mT
    rotation = _antisymmetric_part(generator_gradient)
    return torch.cat([generator_gradient[..., :3, 3], rotation], dim=-1)


def rotation_angle(
    first: Float[Tensor, "*batch 3 3"], second: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch"]:
    """Return the angle between two rotations, accurate near zero and near pi."""
    relative = first.mT @ second
    trace = relative.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.atan2(_antisymmetric_part(relative).norm(dim=-1), trace - 1)


def _antisymmetric_part(matrix: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch 3"]:
    """Return the vector v of M - M^T = [v]x, of the upper left 3x3."""
    skew = matrix - matrix.mT
    return torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)


def look_at(
    position: Float[Tensor, "*batch 3"], target: Float[Tensor, "*batch 3"], down: Float[Tensor, "3"]
) -> Float[Tensor, "*batch 4 4"]:
    """Return the `cam2world` of a camera at `position` that looks at `target`, y axis near `down`.

    Meaningless where the optical axis is parallel to `down`.
    """
    forward = torch.nn.functional.normalize(target - position, dim=-1)
    right = torch.nn.functional.normalize(
        torch.linalg.cross(down.expand_as(forward), forward), dim=-1
    )
    axes = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=-1)
    return rigid_motion(axes, position)


def to_wxyz(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Return the unit quaternions of rotations, w >= 0; accurate for every angle.

    Of the four ways to compute it, each takes the one that divides by the largest component
    (Shepperd, "Quaternion from rotation matrix", 1978).
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rotation.unbind(-2))
    rows = [
        [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
    ]
    candidates = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    largest = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    wxyz = torch.nn.functional.normalize(candidates.gather(-2, index)[..., 0, :], dim=-1)
    return torch.where(wxyz[..., :1] < 0, -wxyz, wxyz)


def from_wxyz(wxyz: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the rotations of quaternions, which need not be unit."""
    w, x, y, z = torch.nn.functional.normalize(wxyz, dim=-1).unbind(-1)
    vector = torch.stack([x, y, z], dim=-1)
    cross = cross_matrix(vector)
    identity = torch.eye(3, device=wxyz.device, dtype=wxyz.dtype)
    return identity + 2 * w[..., None, None] * cross + 2 * cross @ cross


def nearest_rotation(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Return the rotations nearest to matrices in the Frobenius norm (orthogonal Procrustes)."""
    left, _, right = torch.linalg.svd(matrix)
    sign = torch.ones_like(matrix[..., 0])
    sign[..., 2] = torch.linalg.det(left @ right)
    return left * sign[..., None, :] @ right


def turn_up_to(axis: str) -> Float[Tensor, "4 4"]:
    """Return the turn that takes -y, up in our world, to x, y, z, -x, -y or -z.

    About x where it can be; else about z.
    """
    cosine, sine, about_z = {
        "-y": (1.0, 0.0, False),
        "y": (-1.0, 0.0, False),
        "z": (0.0, -1.0, False),
        "-z": (0.0, 1.0, False),
        "x": (0.0, 1.0, True),
        "-x": (0.0, -1.0, True),
    }[axis]
    turn = torch.eye(4)
    first, second = (0, 1) if about_z else (1, 2)
    turn[first, first] = turn[second, second] = cosine
    turn[first, second], turn[second, first] = -sine, sine
    return turn
