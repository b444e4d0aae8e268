"""Worlds used more than once look different each time: mirrored, and in other colors."""

from dataclasses import replace

import torch

from models.data.procedural import WorldBatch

_LEFT_RIGHT, _UP_DOWN, _COLORS = 0.5, 0.3, 0.5  # how often each happens


def vary(worlds: WorldBatch, generator: torch.Generator) -> WorldBatch:
    """Mirror a batch and permute its color channels, or not, at random."""
    left_right, up_down, colors = torch.rand(
        3, generator=generator, device=generator.device
    ).tolist()
    order = torch.randperm(3, generator=generator, device=generator.device)
    if left_right < _LEFT_RIGHT:
        worlds = mirror(worlds, axis=0)
    if up_down < _UP_DOWN:
        worlds = mirror(worlds, axis=1)
    if colors < _COLORS:
        worlds = replace(worlds, images=worlds.images[:, :, order.to(worlds.images.device)])
    return worlds


def mirror(worlds: WorldBatch, axis: int) -> WorldBatch:
    """The world in a mirror: everything negated along x (axis 0) or y (axis 1) of all cameras."""
    flipped = -1 - axis  # images are ... height, width
    intrinsics = worlds.intrinsics.clone()
    intrinsics[..., axis, 2] = 1 - intrinsics[..., axis, 2]
    signs = torch.ones(4, device=intrinsics.device)
    signs[axis] = -1
    return WorldBatch(
        images=worlds.images.flip(flipped),
        intrinsics=intrinsics,
        cam2world=signs[:, None] * worlds.cam2world * signs,
        depth=worlds.depth.flip(flipped),
    )
