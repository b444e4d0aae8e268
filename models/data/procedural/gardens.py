"""Gardens, y down, lengths in meters."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from models.data.procedural import blocks
from models.data.procedural.blocks import shapes_at, vectors
from models.data.procedural.meshes import Meshes
from models.data.procedural.random import Dice
from models.data.procedural.scenes import Scenes, draw_heights, draw_light, draw_sun
from models.data.procedural.shapes import BOX, CARD, ELLIPSOID, TERRAIN, Shapes, join


def garden(dice: Dice, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Uneven ground, bushes, trees, flowers and grass close by, stones, a fence or a wall."""
    flat = torch.tensor([1.0, 0.0, 1.0], device=dice.device)
    zero = torch.zeros(scenes, 1, device=dice.device)
    half = vectors(zero + 30, dice.uniform(0.3, 1.2, scenes, 1), zero + 30)
    center = vectors(zero, 0.6 * half[..., 1], zero)
    ground = shapes_at(dice, TERRAIN, center, half, plain=0.02, tile=(0.8, 3.0))
    parts = [blocks.kept(ground)]
    for _ in range(3):
        at = vectors(
            *(dice.uniform(low, high, scenes) for low, high in ((-2, 2), (0, 0.1), (1, 5)))
        )
        parts.append(blocks.sometimes(dice, blocks.place(_bush(dice, scenes), at, zero[:, 0]), 0.8))
    for _ in range(2):
        at = vectors(dice.normal(scenes) * 5, 0.2 + zero[:, 0], dice.uniform(5, 18, scenes))
        tree = blocks.place(blocks.tree(dice, scenes), at, zero[:, 0])
        parts.append(blocks.sometimes(dice, tree, 0.7))
    count = 40
    near = vectors(
        dice.normal(scenes, count) * 1.5, zero + 0 * dice.uniform(0, 1, scenes, count),
        dice.uniform(0.8, 5, scenes, count),
    )  # fmt: skip
    blade = vectors(
        dice.log_uniform(0.008, 0.1, scenes, count), dice.uniform(0.05, 0.3, scenes, count),
        zero.expand(scenes, count) + 0.01,
    )  # fmt: skip
    lean = dice.uniform(-0.5, 0.5, scenes, count)
    axes = blocks.turned(dice.uniform(0, math.tau, scenes, count)) @ _leaning(lean)
    grass = shapes_at(dice, CARD, near - blade * (1 - flat), blade, axes, plain=0.2, tile=(0.2, 1))
    parts.append(
        replace(grass, tint=_greens(dice, scenes, count), petals=zero.expand(scenes, count))
    )
    stones = dice.log_uniform(0.05, 0.5, scenes, 10, 3)
    at = vectors(
        dice.normal(scenes, 10) * 3, zero.expand(scenes, 10), dice.uniform(1, 12, scenes, 10)
    )
    parts.append(shapes_at(dice, ELLIPSOID, at, stones, blocks.random_axes(dice, scenes, 10), 0.1))
    wall = vectors(zero + 12, dice.uniform(0.4, 2.5, scenes, 1), zero + 0.1)
    behind = vectors(zero, -wall[..., 1], dice.uniform(8, 20, scenes, 1))
    fence = shapes_at(dice, BOX, behind, wall, blocks.turned(dice.normal(scenes, 1) * 0.3), 0.2)
    parts.append(blocks.sometimes(dice, fence, 0.5))
    if meshes:
        at = vectors(
            dice.normal(scenes, 4) * 2, zero.expand(scenes, 4) + 0.05, dice.uniform(2, 8, scenes, 4)
        )
        chosen = meshes.find(0.3, 2.5, triangles=1_000)
        things = blocks.meshes_at(dice, meshes, chosen, at, dice.uniform(0.8, 1.2, scenes, 4))
        parts.append(blocks.each_sometimes(dice, things, 0.5))
    eye = vectors(dice.normal(scenes) * 0.3, dice.uniform(-1.7, -0.5, scenes), -zero[:, 0])
    look = vectors(dice.normal(scenes), dice.uniform(-0.6, 0.3, scenes), dice.uniform(1, 4, scenes))
    far = torch.full((scenes,), 500.0, device=dice.device)
    walls = torch.stack([vectors(-far, -far, -far), vectors(far, far, far)], dim=1)
    region = torch.stack([vectors(-far, -far, -far), vectors(far, -0.4 + 0 * far, far)], dim=1)
    return Scenes(
        join(parts), draw_light(dice, draw_sun(dice, scenes), far * 20, walls),
        draw_heights(dice, scenes), eye, look, region,
    )  # fmt: skip


def _bush(dice: Dice, scenes: int) -> Shapes:
    """Many leaves around a middle, or flowers among them."""
    count = 40
    spread = dice.uniform(0.25, 0.8, scenes, 1, 1)
    direction = torch.nn.functional.normalize(dice.normal(scenes, count, 3), dim=-1)
    at = direction * dice.uniform(0.3, 1, scenes, count, 1) * spread
    at = at - torch.tensor([0.0, 0.9, 0.0], device=dice.device) * spread
    size = dice.log_uniform(0.06, 0.2, scenes, 1, 1) * dice.uniform(0.6, 1.4, scenes, count, 3)
    size = size * torch.tensor([0.5, 1.0, 1.0], device=dice.device)
    leaves = shapes_at(
        dice, CARD, at, size, blocks.random_axes(dice, scenes, count), plain=0.3, tile=(0.1, 0.6)
    )
    flower = dice.chance(0.25, scenes, count) & dice.chance(0.5, scenes, 1)
    color = dice.uniform(0.4, 1.8, scenes, 1, 3)
    return replace(
        leaves,
        tint=torch.where(flower[..., None], color, _greens(dice, scenes, count)),
        petals=torch.where(flower, dice.integer(3, 8, scenes, count).float(), 0.0),
        texture=leaves.texture[:, :1].expand(-1, count),
    )


def _greens(dice: Dice, scenes: int, count: int) -> Tensor:
    """Colors of leaves: alike in a scene, darker and lighter."""
    base = torch.tensor([0.8, 1.1, 0.55], device=dice.device) * dice.log_uniform(
        0.75, 1.3, scenes, 1, 3
    )
    return base * dice.log_uniform(0.35, 1.5, scenes, count, 1)


def _leaning(angle: Tensor) -> Tensor:
    """Axes turned about x."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([one, zero, zero, zero, c, -s, zero, s, c], dim=-1).unflatten(-1, (3, 3))
