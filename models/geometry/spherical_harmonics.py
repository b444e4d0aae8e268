"""Real spherical harmonics of any degree in 3DGS's order and signs, and embeddings of rays."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from models.geometry.camera import camera_rays


def real_harmonics(
    directions: Float[Tensor, "*batch 3"], degree: int
) -> Float[Tensor, "*batch sh"]:
    """Evaluate all functions up to a degree along unit vectors.

    That of degree l and order m is at l (l + 1) + m.
    """
    x, y, z = directions.unbind(-1)
    values: list[Tensor] = [z] * (degree + 1) ** 2
    cosine, sine = torch.ones_like(z), torch.zeros_like(z)  # of m times the azimuth, scaled
    first = torch.ones_like(z)  # the Legendre function of degree m and order m, scaled alike
    for m in range(degree + 1):
        before, legendre = torch.zeros_like(z), first
        for l in range(m, degree + 1):  # noqa: E741 # as in every book
            share = math.factorial(l - m) / math.factorial(l + m)
            norm = math.sqrt((2 * l + 1) / (4 * math.pi) * share * (2 if m else 1))
            values[l * (l + 1) + m] = norm * legendre * cosine
            if m:
                values[l * (l + 1) - m] = norm * legendre * sine
            after = ((2 * l + 1) * z * legendre - (l + m) * before) / (l - m + 1)
            before, legendre = legendre, after
        first = -(2 * m + 1) * first
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
    return torch.stack(values, dim=-1)


def turning_matrix(
    rotation: Float[Tensor, "*batch 3 3"], degree: int
) -> Float[Tensor, "*batch sh sh"]:
    """Return the matrix that turns coefficients along with the function that they describe.

    A least-squares fit to samples: exact, as a rotation mixes functions of one degree only.
    """
    count = 2 * (degree + 1) ** 2
    index = torch.arange(count, device=rotation.device, dtype=rotation.dtype)
    height = 1 - (2 * index + 1) / count
    azimuth = index * (math.pi * (3 - math.sqrt(5)))
    around = (1 - height.square()).sqrt()
    samples = torch.stack([around * azimuth.cos(), around * azimuth.sin(), height], dim=-1)
    return torch.linalg.pinv(real_harmonics(samples, degree)) @ real_harmonics(
        samples @ rotation, degree
    )


def ray_features(
    intrinsics: Float[Tensor, "batch view 3 3"], size: tuple[int, int], degree: int
) -> Float[Tensor, "batch view height width feature"]:
    """Embed every pixel's ray for a network: harmonics of its direction in camera axes.

    Degree 0, whose only function is constant, stands for the unit vector itself.
    """
    rays = normalize(camera_rays(intrinsics, size), dim=-1)
    return real_harmonics(rays, degree) if degree else rays


def ray_width(degree: int) -> int:
    """Return the length of an embedding from `ray_features`."""
    return (degree + 1) ** 2 if degree else 3
