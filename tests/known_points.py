"""Flat and deep scenes of points, and poses that differ by known angles."""

import torch
from torch import Generator, Tensor

from models.geometry.rigid import se3_exponential


def a_flat_scene(count: int = 300, generator: Generator | None = None) -> Tensor:
    """Return points on a tilted wall, two units away."""
    wall = torch.rand(count, 3, generator=generator) * torch.tensor([2.4, 1.6, 0.0])
    tilt = se3_exponential(torch.tensor([0, 0, 0, 0.3, 0.5, 0.0]))[:3, :3]
    return (wall - torch.tensor([1.2, 0.8, 0.0])) @ tilt.T + torch.tensor([0.0, 0.0, 2.0])


def a_deep_scene(count: int = 300, generator: Generator | None = None) -> Tensor:
    """Return points anywhere between 1.5 and 4.5 units away."""
    box = torch.rand(count, 3, generator=generator) * torch.tensor([3, 2, 3])
    return box + torch.tensor([-1.5, -1, 1.5])


def unit(pose: Tensor) -> Tensor:
    """Return a pose with a translation of unit length."""
    pose = pose.clone()
    pose[:3, 3] /= pose[:3, 3].norm()
    return pose


def rotated(pose: Tensor, angles: Tensor) -> Tensor:
    """Return a pose with its rotation, but not its translation, turned by a rotation vector."""
    pose = pose.clone()
    pose[:3, :3] = se3_exponential(torch.cat([torch.zeros(3), angles]))[:3, :3] @ pose[:3, :3]
    return pose
