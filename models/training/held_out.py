"""Worlds to measure on."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural import WorldBatch, generate

SEED = 2**31  # no run starts there


def held_out(
    textures: Float[Tensor, "texture 3 _height _width"],
    size: tuple[int, int],
    pairs: int,
    difficulty: float,
    views: int = 2,
) -> Iterator[WorldBatch]:
    """The same worlds every time, one by one, on the textures' device."""
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(pairs):
        yield generate(1, views, size, textures, generator, textures.device, difficulty)
