"""Spherical harmonics against their formulas, and the laws of rotation."""

import math

import pytest
import torch

from models.geometry.camera import camera_rays
from models.geometry.gaussians import SH_DEGREE_0
from models.geometry.rigid import se3_exponential
from models.geometry.spherical_harmonics import (
    ray_features,
    ray_width,
    real_harmonics,
    turning_matrix,
)


def directions(count: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 3, dtype=torch.float64), dim=-1)


def test_the_first_two_degrees_are_those_of_the_3dgs_paper():
    x, y, z = directions(20).unbind(-1)
    one = torch.ones_like(x)
    expected = [
        SH_DEGREE_0 * one,
        -0.4886025119029199 * y,
        0.4886025119029199 * z,
        -0.4886025119029199 * x,
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (3 * z * z - 1),
        -1.0925484305920792 * x * z,
        0.5462742152960396 * (x * x - y * y),
    ]
    found = real_harmonics(torch.stack([x, y, z], dim=-1), 2)
    torch.testing.assert_close(found, torch.stack(expected, dim=-1))


def test_harmonics_are_orthonormal_on_the_sphere():
    # Gauss-Legendre in z and even steps around it are exact for products of two up to degree 5.
    z = torch.tensor([-0.9324695142031521, -0.6612093864662645, -0.2386191860831969])
    weight = torch.tensor([0.1713244923791704, 0.3607615730481386, 0.4679139345726910])
    z, weight = torch.cat([z, -z.flip(0)]).double(), torch.cat([weight, weight.flip(0)]).double()
    azimuth = torch.arange(12).double() * (2 * math.pi / 12)
    around = (1 - z.square()).sqrt()[:, None]
    grid = [around * azimuth.cos(), around * azimuth.sin(), z[:, None].expand(6, 12)]
    values = real_harmonics(torch.stack(grid, dim=-1), 5)
    area = (2 * math.pi / 12) * weight[:, None, None]
    inner = (area * values).flatten(0, 1).T @ values.flatten(0, 1)
    torch.testing.assert_close(inner, torch.eye(36).double(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("degree", [0, 1, 3, 4])
def test_turned_coefficients_describe_the_turned_function(degree: int):
    rotation = se3_exponential(torch.tensor([0, 0, 0, 0.4, -0.9, 1.3]).double())[:3, :3]
    coefficients = torch.randn((degree + 1) ** 2, dtype=torch.float64)
    seen = directions(30)
    before = real_harmonics(seen, degree) @ coefficients
    turned = turning_matrix(rotation, degree) @ coefficients
    after = real_harmonics(seen @ rotation.T, degree) @ turned
    torch.testing.assert_close(after, before)


def test_rays_are_embedded_by_their_unit_directions():
    intrinsics = torch.tensor([[0.9, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]]).double()
    intrinsics = intrinsics.expand(1, 2, 3, 3)
    rays = torch.nn.functional.normalize(camera_rays(intrinsics, (2, 3)), dim=-1)
    torch.testing.assert_close(ray_features(intrinsics, (2, 3), 0), rays)
    for degree in (0, 1, 4):
        embedded = ray_features(intrinsics, (2, 3), degree)
        assert embedded.shape == (1, 2, 2, 3, ray_width(degree))
    torch.testing.assert_close(embedded, real_harmonics(rays, 4))
