"""Worlds to measure on."""

from collections.abc import Iterator

import torch

from models.data.procedural import Textures, WorldBatch, generate

SEED = 2**31  # no run starts there


def held_out(
    textures: Textures,
    size: tuple[int, int],
    pairs: int,
    difficulty: float,
    views: int = 2,
) -> Iterator[WorldBatch]:
    """The same worlds every time, one by one, on the textures' device."""
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(pairs):
        yield generate(1, views, size, textures, generator, textures.device, difficulty)
