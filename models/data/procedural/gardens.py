"""Gardens, y down, lengths in meters."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from models.data.procedural.furniture import (
    as_fixed,
    keep_each,
    keep_scenes,
    make_shapes,
    place,
    place_meshes,
    random_rotations,
    rotation_y,
    tree,
    xyz,
)
from models.data.procedural.heightfield import sample_heightfield
from models.data.procedural.meshes import Meshes
from models.data.procedural.random import Rng
from models.data.procedural.scenes import SUN_REACH, Scenes, sample_light, sample_sun, unbounded
from models.data.procedural.shapes import BOX, CARD, ELLIPSOID, TERRAIN, Shapes, join


def garden(rng: Rng, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Build uneven ground with bushes, trees, grass and flowers close by, stones and a wall."""
    flat = rng.tensor([1.0, 0.0, 1.0])
    zero = torch.zeros(scenes, device=rng.device)
    half = xyz(30, rng.uniform(0.3, 1.2, scenes, 1), 30)
    center = xyz(0, 0.6 * half[..., 1], 0)
    ground = make_shapes(rng, TERRAIN, center, half, plain=0.02, tile=(0.8, 3.0))
    parts = [as_fixed(ground)]
    for _ in range(3):
        at = xyz(*(rng.uniform(low, high, scenes) for low, high in ((-2, 2), (0, 0.1), (1, 5))))
        parts.append(keep_scenes(rng, place(_bush(rng, scenes), at, zero), 0.8))
    for _ in range(2):
        at = xyz(rng.normal(scenes) * 5, 0.2, rng.uniform(5, 18, scenes))
        parts.append(keep_scenes(rng, place(tree(rng, scenes), at, zero), 0.7))
    count = 40
    near = xyz(
        rng.normal(scenes, count) * 1.5, 0 * rng.uniform(0, 1, scenes, count),
        rng.uniform(0.8, 5, scenes, count),
    )  # fmt: skip
    blade = xyz(
        rng.log_uniform(0.008, 0.1, scenes, count), rng.uniform(0.05, 0.3, scenes, count),
        0.01,
    )  # fmt: skip
    lean = rng.uniform(-0.5, 0.5, scenes, count)
    axes = rotation_y(rng.uniform(0, math.tau, scenes, count)) @ _rotation_x(lean)
    grass = make_shapes(rng, CARD, near - blade * (1 - flat), blade, axes, plain=0.2, tile=(0.2, 1))
    parts.append(replace(grass, tint=_greens(rng, scenes, count)))
    stones = rng.log_uniform(0.05, 0.5, scenes, 10, 3)
    at = xyz(rng.normal(scenes, 10) * 3, 0, rng.uniform(1, 12, scenes, 10))
    parts.append(make_shapes(rng, ELLIPSOID, at, stones, random_rotations(rng, scenes, 10), 0.1))
    wall = xyz(12, rng.uniform(0.4, 2.5, scenes, 1), 0.1)
    behind = xyz(0, -wall[..., 1], rng.uniform(8, 20, scenes, 1))
    fence = make_shapes(rng, BOX, behind, wall, rotation_y(rng.normal(scenes, 1) * 0.3), 0.2)
    parts.append(keep_scenes(rng, fence, 0.5))
    if meshes:
        at = xyz(rng.normal(scenes, 4) * 2, 0.05, rng.uniform(2, 8, scenes, 4))
        chosen = meshes.find(0.3, 2.5, triangles=1_000)
        things = place_meshes(rng, meshes, chosen, at, rng.uniform(0.8, 1.2, scenes, 4))
        parts.append(keep_each(rng, things, 0.5))
    eye = xyz(rng.normal(scenes) * 0.3, rng.uniform(-1.7, -0.5, scenes), 0)
    target = xyz(rng.normal(scenes), rng.uniform(-0.6, 0.3, scenes), rng.uniform(1, 4, scenes))
    walls, region = unbounded(rng, scenes), unbounded(rng, scenes)
    region[:, 1, 1] = -0.4
    return Scenes(
        join(parts), sample_light(rng, sample_sun(rng, scenes), zero + SUN_REACH, walls),
        sample_heightfield(rng, scenes), eye, target, region,
    )  # fmt: skip


def _bush(rng: Rng, scenes: int) -> Shapes:
    """Build leaves around a center, some of them flowers."""
    count = 40
    spread = rng.uniform(0.25, 0.8, scenes, 1, 1)
    direction = torch.nn.functional.normalize(rng.normal(scenes, count, 3), dim=-1)
    at = direction * rng.uniform(0.3, 1, scenes, count, 1) * spread
    at = at - rng.tensor([0.0, 0.9, 0.0]) * spread
    size = rng.log_uniform(0.06, 0.2, scenes, 1, 1) * rng.uniform(0.6, 1.4, scenes, count, 3)
    size = size * rng.tensor([0.5, 1.0, 1.0])
    axes = random_rotations(rng, scenes, count)
    leaves = make_shapes(rng, CARD, at, size, axes, plain=0.3, tile=(0.1, 0.6))
    flower = rng.bernoulli(0.25, scenes, count) & rng.bernoulli(0.5, scenes, 1)
    color = rng.uniform(0.4, 1.8, scenes, 1, 3)
    return replace(
        leaves,
        tint=torch.where(flower[..., None], color, _greens(rng, scenes, count)),
        petals=torch.where(flower, rng.integers(3, 8, scenes, count).float(), 0.0),
        texture=leaves.texture[:, :1].expand(-1, count),
    )


def _greens(rng: Rng, scenes: int, count: int) -> Tensor:
    """Sample colors of leaves: one hue per scene, of varying brightness."""
    hue = rng.tensor([0.8, 1.1, 0.55]) * rng.log_uniform(0.75, 1.3, scenes, 1, 3)
    return hue * rng.log_uniform(0.35, 1.5, scenes, count, 1)


def _rotation_x(angle: Tensor) -> Tensor:
    """Return rotations about x."""
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([one, zero, zero, zero, c, -s, zero, s, c], dim=-1).unflatten(-1, (3, 3))
