"""Check cameras that come from files: numbers, sizes, calibration matrices and rigid motions."""

import sys
from reprlib import repr as shortened
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.camera import Camera

MAX_SIDE_PX = 1 << 16
MIN_FOCAL, MAX_FOCAL = 1e-2, 1e3  # of an image's side: 179 and 0.06 degrees
MAX_DISTANCE = 1e9  # in any unit, squares stay exact enough in float32
_MAX_NUMBER = sys.float_info.max
_RIGID_TOLERANCE = 1e-3  # on the entries of R Rᵀ: files carry six decimals
_BOTTOM_TOLERANCE = 1e-6


def parse_number(value: Any) -> float:
    """Return a finite number that a file states. Raises ValueError."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -_MAX_NUMBER <= value <= _MAX_NUMBER:
        raise ValueError(f"{shortened(value)} is not a finite number")
    return float(value)


def parse_matrix(rows: Any, height: int, width: int) -> Float[Tensor, "height width"]:
    """Return a finite matrix that a file states, in double precision. Raises ValueError."""
    shape_fits = isinstance(rows, list) and len(rows) == height
    if not shape_fits or not all(isinstance(row, list) and len(row) == width for row in rows):
        raise ValueError(f"this is not a {height}x{width} matrix: {shortened(rows)}")
    numbers = [[parse_number(value) for value in row] for row in rows]
    return torch.tensor(numbers, dtype=torch.float64)


def parse_size(width: Any, height: Any) -> tuple[int, int]:
    """Return (height, width) of an image that a file states. Raises ValueError."""
    sides = parse_number(height), parse_number(width)
    if not all(side.is_integer() and 1 <= side <= MAX_SIDE_PX for side in sides):
        raise ValueError(f"its size is {sides[1]:g} x {sides[0]:g} pixels")
    return int(sides[0]), int(sides[1])


def check_camera(camera: Camera) -> None:
    """Raise ValueError, with the reason, if this is no pinhole camera at a rigid pose."""
    for reason in find_bad_cameras(camera.intrinsics[None], camera.world2cam[None]).values():
        raise ValueError(reason)


def find_bad_cameras(
    intrinsics: Float[Tensor, "frame 3 3"], world2cam: Float[Tensor, "frame 4 4"]
) -> dict[int, str]:
    """Find cameras, of normalized intrinsics, that are invalid, and return why, by number."""
    rotation = world2cam[:, :3, :3]
    off = (rotation @ rotation.mT - torch.eye(3).to(rotation)).abs().flatten(1).amax(1)
    bottom = (world2cam[:, 3] - world2cam.new_tensor([0, 0, 0, 1])).abs() <= _BOTTOM_TOLERANCE
    finite = world2cam.isfinite().flatten(1).all(1)
    near = world2cam[:, :3, 3].abs().amax(1) <= MAX_DISTANCE
    rigid = (off <= _RIGID_TOLERANCE) & (torch.linalg.det(rotation) > 0) & bottom.all(1)
    focal = intrinsics.diagonal(dim1=1, dim2=2)[:, :2]
    lens = (intrinsics.abs() <= MAX_FOCAL).flatten(1).all(1) & (focal >= MIN_FOCAL).all(1)
    lens &= (intrinsics[:, 2] == intrinsics.new_tensor([0, 0, 1])).all(1)
    lens &= intrinsics[:, 1, 0] == 0
    faults = (
        (finite, "its pose is not finite"),
        (rigid, "its pose is not a rigid motion"),
        (near, "it is too far away to compute with"),
        (lens, "its intrinsics are not a pinhole camera's"),
    )
    bad: dict[int, str] = {}
    for good, why in faults:
        for frame in (~good).nonzero()[:, 0].tolist():
            bad.setdefault(frame, why)
    return bad
