"""Streets, reliefs and things afloat, y down, lengths in meters."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from models.data.procedural import blocks
from models.data.procedural.blocks import shapes_at, vectors
from models.data.procedural.meshes import Meshes
from models.data.procedural.random import Dice
from models.data.procedural.scenes import Scenes, draw_heights, draw_light, draw_sun, flat_ground
from models.data.procedural.shapes import (
    BOX,
    CARD,
    CYLINDER,
    ELLIPSOID,
    MESH,
    TERRAIN,
    Shapes,
    join,
)


def street(dice: Dice, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Ground, rows of buildings whose windows repeat, trees, cars, poles, fences."""
    ground = _ground(dice, scenes, 150.0)
    count = 10
    side = torch.tensor([-1.0, 1], device=dice.device).repeat(count // 2)
    gap = dice.uniform(3, 9, scenes, 1)
    half = vectors(
        dice.uniform(2, 8, scenes, count),
        dice.uniform(2, 9, scenes, count),
        dice.uniform(2.5, 8, scenes, count),
    )
    z = torch.arange(count // 2, device=dice.device).repeat_interleave(2) * 11.0 + dice.uniform(
        0, 9, scenes, count
    )
    across = dice.chance(0.2, scenes, count) * dice.uniform(-6, 6, scenes, count)
    x = torch.where(across != 0, across, side * (gap + half[..., 0]))
    z = torch.where(across != 0, z + 14, z)
    axes = blocks.turned(dice.normal(scenes, count) * 0.1)
    houses = shapes_at(
        dice, BOX, vectors(x, -half[..., 1], z), half, axes, plain=0.15, tile=(1.5, 7.0)
    )
    windows, doors = (
        _windows(dice, scenes, gap),
        blocks.clutter(dice, scenes, 8, gap, 12 + 0 * gap, 0.1, 0.9),
    )
    parts = [ground, houses, windows, doors]
    for make, copies, chance in ((blocks.tree, 4, 0.6), (blocks.car, 3, 0.5)):
        for _ in range(copies):
            position = vectors(
                torch.where(dice.chance(0.5, scenes), 1.0, -1.0)
                * gap[:, 0]
                * dice.uniform(0.4, 1, scenes),
                torch.zeros(scenes, device=dice.device),
                dice.uniform(4, 30, scenes),
            )
            built = blocks.place(make(dice, scenes), position, dice.normal(scenes) * 0.15)
            parts.append(blocks.sometimes(dice, built, chance))
    if meshes:
        parts.append(_street_furniture(dice, scenes, meshes, gap))
    thin = dice.uniform(0.02, 0.12, scenes, 5)
    tall = dice.uniform(0.5, 3, scenes, 5)
    at = vectors(dice.uniform(-1, 1, scenes, 5) * gap, -tall, dice.uniform(3, 25, scenes, 5))
    parts.append(
        blocks.each_sometimes(dice, shapes_at(dice, CYLINDER, at, vectors(thin, tall, thin)), 0.6)
    )
    eye = vectors(
        dice.uniform(-0.6, 0.6, scenes) * gap[:, 0],
        dice.uniform(-2.2, -1.2, scenes),
        dice.uniform(-3, 2, scenes),
    )
    look = vectors(
        dice.normal(scenes) * 4,
        dice.uniform(-4, 0, scenes),
        eye[:, 2] + dice.uniform(8, 20, scenes),
    )
    inf = torch.full((scenes,), 500.0, device=dice.device)
    walls = torch.stack([vectors(-inf, -inf, -inf), vectors(inf, 0 * inf, inf)], dim=1)
    region = torch.stack(
        [
            vectors(-gap[:, 0], 0 * inf - 6, -inf),
            vectors(gap[:, 0], 0 * inf - 0.5, inf),
        ],
        dim=1,
    )
    sun = draw_sun(dice, scenes)
    return Scenes(
        join(parts),
        draw_light(dice, sun, inf * 20, walls),
        flat_ground(scenes, dice),
        eye,
        look,
        region,
    )


def relief(dice: Dice, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Hills with a photo or a ground texture on them, boulders, leaves; any scale."""
    scale = dice.log_uniform(0.5, 8, scenes)
    half = vectors(3 * scale, dice.uniform(0.15, 0.7, scenes) * scale, 3 * scale)
    zero = torch.zeros_like(scale)[:, None]
    hills = shapes_at(
        dice,
        TERRAIN,
        vectors(zero, zero, zero),
        half[:, None],
        plain=0.05,
        tile=(0.5, 3.0),
    )
    hills = replace(
        hills,
        tile=torch.where(dice.chance(0.4, scenes, 1), 0.0, hills.tile * scale[:, None]),
    )
    count = 40
    at = dice.uniform(-2, 2, scenes, count, 3) * scale[:, None, None]
    at = vectors(at[..., 0], dice.uniform(-0.6, 0.5, scenes, count) * half[:, 1:2], at[..., 2])
    size = dice.log_uniform(0.02, 0.4, scenes, count, 3) * scale[:, None, None]
    kind = torch.where(dice.chance(0.5, scenes, count), ELLIPSOID, CARD)
    stones = shapes_at(
        dice,
        kind,
        at,
        size,
        blocks.random_axes(dice, scenes, count),
        plain=0.1,
        tile=(0.2, 1.0),
    )
    stones = replace(stones, petals=dice.integer(0, 7, scenes, count).float())
    yaw, pitch = dice.uniform(0, math.tau, scenes), dice.uniform(0.25, 1.3, scenes)
    away = dice.uniform(1.5, 3.0, scenes) * scale
    target = dice.normal(scenes, 3) * 0.2 * scale[:, None]
    eye = target + away[:, None] * vectors(
        -yaw.sin() * pitch.cos(), -pitch.sin(), -yaw.cos() * pitch.cos()
    )
    far = torch.full((scenes,), 500.0, device=dice.device)
    walls = torch.stack([vectors(-far, -far, -far), vectors(far, far, far)], dim=1)
    region = torch.stack(
        [vectors(-far, -far, -far), vectors(far, -half[:, 1] - 0.2 * scale, far)], dim=1
    )
    sun = draw_sun(dice, scenes)
    return Scenes(
        join([blocks.kept(hills), blocks.each_sometimes(dice, stones, 0.6)]),
        draw_light(dice, sun, far * 20, walls),
        draw_heights(dice, scenes), eye, target, region,
    )  # fmt: skip


def floaters(dice: Dice, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Anything at any angle before a few large pictures."""
    scale = dice.log_uniform(0.3, 10, scenes, 1)
    count = 30
    kind = dice.integer(BOX, TERRAIN, scenes, count)
    z = dice.uniform(0.6, 2.5, scenes, count)
    at = vectors(dice.normal(scenes, count) * 0.6 * z, dice.normal(scenes, count) * 0.5 * z, z)
    size = dice.log_uniform(0.02, 0.5, scenes, count, 3)
    loose = shapes_at(
        dice, kind, at * scale[..., None], size * scale[..., None],
        blocks.random_axes(dice, scenes, count),
        plain=0.15,
    )  # fmt: skip
    if meshes:
        solid = dice.chance(0.25, scenes, count)
        chosen = meshes.find(0.05, 5, triangles=700)
        mesh = chosen[dice.integer(0, len(chosen), scenes, count)]
        shape = meshes.half[mesh]
        half = shape / shape.amax(-1, keepdim=True) * loose.half.amax(-1, keepdim=True)
        loose = replace(
            loose,
            kind=torch.where(solid, MESH, loose.kind),
            mesh=mesh,
            half=torch.where(solid[..., None], half, loose.half),
        )
    once = dice.chance(0.5, scenes, count)
    loose = replace(
        loose, petals=dice.integer(-1, 7, scenes, count).float(),
        tile=torch.where(once, 0.0, loose.tile * scale),
    )  # fmt: skip
    behind = vectors(
        dice.normal(scenes, 4) * 1.0, dice.normal(scenes, 4) * 0.7,
        2.6 + torch.arange(4, device=dice.device) * dice.uniform(0.1, 0.6, scenes, 1),
    )  # fmt: skip
    large = dice.uniform(0.8, 2.0, scenes, 4, 3) * torch.tensor(
        [1.0, 1.0, 0.001], device=dice.device
    )
    large[:, 3] *= 4
    axes = blocks.turned(dice.normal(scenes, 4) * 0.4)
    backdrop = shapes_at(dice, BOX, behind * scale[..., None], large * scale[..., None], axes)
    zero = torch.zeros_like(scale[:, 0])
    far = zero + 500
    walls = torch.stack([vectors(-far, -far, -far), vectors(far, far, far)], dim=1)
    lamp = dice.normal(scenes, 3) * scale
    target = vectors(dice.normal(scenes) * 0.2, dice.normal(scenes) * 0.2, zero + 1.8) * scale
    return Scenes(
        join([blocks.pictured(backdrop), blocks.each_sometimes(dice, loose, 0.65)]),
        draw_light(dice, lamp, scale[:, 0] * 4, walls), flat_ground(scenes, dice),
        vectors(zero, zero, zero), target, walls,
    )  # fmt: skip


def _street_furniture(dice: Dice, scenes: int, meshes: Meshes, gap: Tensor) -> Shapes:
    """Cars, and what else stands beside a street."""
    count = 6
    side = torch.where(dice.chance(0.5, scenes, count), 1.0, -1.0)
    x = side * gap * dice.uniform(0.3, 0.9, scenes, count)
    at = vectors(x, 0 * x, dice.uniform(3, 22, scenes, count))
    scale = dice.uniform(0.95, 1.05, scenes, count)
    cars = blocks.meshes_at(
        dice, meshes, meshes.find(2.6, 6.0, tallest=2.6), at[:, :3], scale[:, :3]
    )
    others = blocks.meshes_at(
        dice, meshes, meshes.find(0.5, 2.5, triangles=1_000), at[:, 3:], scale[:, 3:]
    )
    return blocks.each_sometimes(dice, join([cars, others]), 0.6)


def _ground(dice: Dice, scenes: int, reach: float | int) -> Shapes:
    zero = torch.zeros(scenes, 1, device=dice.device)
    center = vectors(zero, zero + 0.5, zero)
    half = vectors(zero + reach, zero + 0.5, zero + reach)
    return blocks.kept(shapes_at(dice, BOX, center, half, plain=0.1, tile=(1.0, 6.0)))


def _windows(dice: Dice, scenes: int, gap: Tensor) -> Shapes:
    """A grid of equal windows along one side of the street."""
    columns, rows = 6, 4
    pitch, floor = dice.uniform(1.2, 3, scenes, 1), dice.uniform(2.2, 3.2, scenes, 1)
    index = torch.arange(columns * rows, device=dice.device)
    z = 3 + (index % columns) * pitch + dice.uniform(0, 10, scenes, 1)
    y = -1.5 - (index // columns) * floor
    side = torch.where(dice.chance(0.5, scenes, 1), 1.0, -1.0)
    wall = vectors(side * (gap - 0.3), -6 + 0 * gap, 4 + 3 * pitch)
    half = vectors(0.15 + 0 * pitch, 6 + 0 * pitch, 12 + 0 * pitch)
    size = vectors(0.05 + 0 * pitch, floor * 0.3, pitch * 0.3).expand(scenes, columns * rows, 3)
    panes = shapes_at(dice, BOX, vectors(side * (gap - 0.45), y, z), size)
    panes = blocks.pictured(blocks.alike(panes))
    facade = shapes_at(dice, BOX, wall, half, plain=0.4, tile=(0.8, 4.0))
    return blocks.sometimes(dice, join([facade, panes]), 0.5)
