"""Random scenes for tests of renderers."""

import torch
from torch import Tensor

from models.geometry.gaussians import Gaussians


def random_gaussians(
    count: int,
    sh_degree: int,
    seed: int = 0,
    spread: tuple[float, float, float] = (1.0, 1.0, 1.0),
    log_scale: float = -3.2,
    opacity_spread: float = 1,
) -> Gaussians:
    """Gaussians around (0, 0, 2), with quaternions of any length."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians(
        means=normal(count, 3) * torch.tensor(spread) + torch.tensor([0.0, 0.0, 2.0]),
        scales=torch.exp(normal(count, 3) * 0.6 + log_scale),
        rotations=normal(count, 4),
        harmonics=normal(count, 3, (sh_degree + 1) ** 2) * 0.3,
        opacities=torch.sigmoid(opacity_spread * normal(count)),
    )
