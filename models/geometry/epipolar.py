"""Epipolar geometry of two views (Hartley and Zisserman, chapter 9)."""

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.rigid import cross_matrix


def fundamental_matrix(
    first2second: Float[Tensor, "*motion 4 4"],
    first_intrinsics: Float[Tensor, "3 3"],
    second_intrinsics: Float[Tensor, "3 3"],
) -> Float[Tensor, "*motion 3 3"]:
    """Return F with (x2, y2, 1) F (x1, y1, 1)ᵀ = 0, for coordinates as the intrinsics have them."""
    essential = cross_matrix(first2second[..., :3, 3]) @ first2second[..., :3, :3]
    return torch.linalg.inv(second_intrinsics).T @ essential @ torch.linalg.inv(first_intrinsics)


def epipolar_segments(
    coordinates: Float[Tensor, "point 2"], fundamental: Float[Tensor, "3 3"]
) -> Float[Tensor, "point 2 2"]:
    """Clip every point's epipolar line to the second image; NaN where it misses the image."""
    homogeneous = torch.cat([coordinates, torch.ones_like(coordinates[:, :1])], dim=1)
    a, b, c = (homogeneous @ fundamental.T).T
    zero, one = torch.zeros_like(a), torch.ones_like(a)
    x = torch.stack([zero, one, -c / a, -(b + c) / a], dim=1)
    y = torch.stack([-c / b, -(a + c) / b, zero, one], dim=1)
    crossings = torch.stack([x, y], dim=-1)  # with the left, right, upper and lower border
    inside = ((crossings >= 0) & (crossings <= 1)).all(-1)
    along = b[:, None] * crossings[..., 0] - a[:, None] * crossings[..., 1]
    first = along.where(inside, torch.inf).argmin(1)
    last = along.where(inside, -torch.inf).argmax(1)
    number = torch.arange(len(coordinates), device=coordinates.device)
    ends = torch.stack([crossings[number, first], crossings[number, last]], dim=1)
    return ends.where(inside.any(1)[:, None, None], torch.nan)
