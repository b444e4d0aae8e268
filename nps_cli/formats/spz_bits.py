"""Attributes of .spz files as bytes, both ways: numbers and rotations in few bits."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.spherical_harmonics import turning_matrix

ROTATION_STEPS = 511  # from 0 to 1 / sqrt(2), the largest second-largest component
SH_BITS = 5, 4, 4  # kept of coefficients of degree 1, 2, 3
FLIP_YZ = torch.tensor([1.0, -1.0, -1.0])  # half a turn about x


def flip_signs(degree: int) -> Float[Tensor, "coefficient 1"]:
    """Return the signs that the flip of axes gives to the harmonics of degree 1 and more."""
    return turning_matrix(torch.diag(FLIP_YZ), degree).diagonal()[1:, None].round()


def to_bytes(values: Tensor) -> np.ndarray:
    """Round to bytes, clipped to 0 and 255."""
    return values.detach().round().clamp(0, 255).byte().cpu().numpy()


def to_floats(values: np.ndarray) -> Tensor:
    """Return bytes as float32."""
    return torch.from_numpy(values.astype(np.float32))


def pack_harmonics(rest: Float[Tensor, "gaussian coefficient 3"]) -> np.ndarray:
    """Return bytes with only their leading `SH_BITS` set, so that gzip removes the others."""
    bits = [bits for degree, bits in enumerate(SH_BITS, start=1) for _ in range(2 * degree + 1)]
    step = 2.0 ** (8 - torch.tensor(bits[: rest.shape[1]], device=rest.device))[:, None]
    return to_bytes(((rest * 128 + 128) / step).round() * step)


def pack_rotations(rotations: Float[Tensor, "gaussian 4"]) -> np.ndarray:
    """Pack quaternions "smallest three": 2 bits for the largest component, 10 for each other."""
    wxyz = torch.nn.functional.normalize(rotations.detach().cpu().double(), dim=-1)
    xyzw = wxyz[:, [1, 2, 3, 0]] * torch.cat([FLIP_YZ, torch.ones(1)]).double()
    largest = xyzw.abs().argmax(dim=1)
    xyzw = xyzw * xyzw.gather(1, largest[:, None]).sign()
    steps = (xyzw.abs() * math.sqrt(2) * ROTATION_STEPS).round().long()
    fields = steps | ((xyzw < 0).long() << 9)
    packed = largest
    for component in range(4):
        shifted = (packed << 10) | fields[:, component]
        packed = torch.where(largest == component, packed, shifted)
    return packed.numpy().astype("<u4").view(np.uint8)


def unpack_rotations(packed: np.ndarray) -> Float[Tensor, "gaussian 4"]:
    """Unpack "smallest three", of version 3 and later, to wxyz in our axes."""
    bits = torch.from_numpy(np.ascontiguousarray(packed).view("<u4")[:, 0].astype(np.int64))
    largest = bits >> 30
    xyzw = torch.zeros(len(bits), 4)
    for component in reversed(range(4)):
        here = largest != component
        value = (bits & 511) / (math.sqrt(2) * ROTATION_STEPS)
        signed = torch.where((bits >> 9) & 1 == 1, -value, value)
        xyzw[:, component] = torch.where(here, signed, xyzw[:, component])
        bits = torch.where(here, bits >> 10, bits)
    rest = (1 - xyzw.square().sum(dim=1)).clamp(min=0).sqrt()
    return _from_opengl_xyzw(xyzw.scatter(1, largest[:, None], rest[:, None]))


def unpack_rotations_v2(packed: np.ndarray) -> Float[Tensor, "gaussian 4"]:
    """Unpack version 2: a byte for x, y and z each; w is not negative."""
    xyz = to_floats(packed) / 127.5 - 1
    rest = (1 - xyz.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt()
    return _from_opengl_xyzw(torch.cat([xyz, rest], dim=1))


def _from_opengl_xyzw(xyzw: Float[Tensor, "gaussian 4"]) -> Float[Tensor, "gaussian 4"]:
    """Return unit quaternions in our axes, wxyz."""
    xyzw = torch.cat([xyzw[:, :3] * FLIP_YZ, xyzw[:, 3:]], dim=1)
    return torch.nn.functional.normalize(xyzw[:, [3, 0, 1, 2]], dim=-1)


def pack_positions(means: Float[Tensor, "gaussian 3"], fraction: int) -> np.ndarray:
    """Return fixed-point numbers of 24 bits, `fraction` of them behind the point."""
    fixed_point = (means * FLIP_YZ.to(means) * 2**fraction).round().int()
    words = fixed_point.contiguous().cpu().numpy().astype("<i4").view(np.uint8)
    return words.reshape(-1, 4)[:, :3]


def unpack_positions(packed: np.ndarray, fraction: int) -> Float[Tensor, "gaussian 3"]:
    """Unpack positions from nine bytes a Gaussian."""
    padded = np.zeros((len(packed), 3, 4), np.uint8)
    padded[:, :, 1:] = packed.reshape(-1, 3, 3)
    fixed_point = torch.from_numpy(padded.view("<i4")[:, :, 0].astype(np.float32)) / 2**8
    return fixed_point / 2**fraction * FLIP_YZ


def unpack_half_positions(packed: np.ndarray) -> Float[Tensor, "gaussian 3"]:
    """Unpack positions of version 1: three half-precision numbers a Gaussian."""
    halves = np.ascontiguousarray(packed).view("<f2").astype(np.float32)
    return torch.from_numpy(halves) * FLIP_YZ
