"""Contrast is of what a photo shows: neither noise nor shading counts."""

import pytest
import torch
from torch import Tensor

from models.metrics.contrast import structural_contrast

SIZE = (240, 320)


def noise(std: float) -> Tensor:
    return std * torch.randn(3, *SIZE)


def shading() -> Tensor:
    y = torch.linspace(0, 1, SIZE[0])[:, None]
    x = torch.linspace(0, 1, SIZE[1])
    return 0.3 * x + 0.2 * y - 0.3 * (x - 0.4) ** 2


@pytest.mark.parametrize("brightness", [0.1, 0.5, 0.9])
def test_neither_noise_nor_shading_nor_brightness_is_contrast(brightness):
    wall = (brightness + 0.5 * shading() + noise(0.05)).clamp(0, 1)
    assert structural_contrast(wall) < 0.01


def test_things_are_contrast_in_spite_of_noise():
    things = torch.full((3, *SIZE), 0.3)
    things[:, 60:180, 80:240] = 0.7
    assert structural_contrast(things + noise(0.05)) > 0.05
