"""Fixtures of training: textures that worlds are made of."""

import pytest
import torch

from models.data.textures import noise_textures


@pytest.fixture(scope="session")
def textures() -> torch.Tensor:
    return noise_textures(6, 16, torch.Generator().manual_seed(0))
