"""Streets, reliefs and floating things, y down, lengths in meters."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from models.data.procedural.furniture import (
    as_fixed,
    as_pictures,
    car,
    clutter,
    keep_each,
    keep_scenes,
    make_shapes,
    place,
    place_meshes,
    random_rotations,
    rotation_y,
    share_appearance,
    tree,
    xyz,
)
from models.data.procedural.heightfield import flat_heightfield, sample_heightfield
from models.data.procedural.meshes import Meshes
from models.data.procedural.random import Rng
from models.data.procedural.scenes import SUN_REACH, Scenes, sample_light, sample_sun, unbounded
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


def street(rng: Rng, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Build streets: rows of buildings, facades of equal windows, trees, cars, poles."""
    center = rng.tensor([0.0, 0.5, 0.0]).expand(scenes, 1, 3)  # the top is at y = 0
    half = rng.tensor([150.0, 0.5, 150.0]).expand(scenes, 1, 3)
    ground = as_fixed(make_shapes(rng, BOX, center, half, plain=0.1, tile=(1.0, 6.0)))
    count = 10
    side = rng.tensor([-1.0, 1]).repeat(count // 2)
    gap = rng.uniform(3, 9, scenes, 1)
    half = xyz(
        rng.uniform(2, 8, scenes, count),
        rng.uniform(2, 9, scenes, count),
        rng.uniform(2.5, 8, scenes, count),
    )
    z = torch.arange(count // 2, device=rng.device).repeat_interleave(2) * 11.0
    z = z + rng.uniform(0, 9, scenes, count)
    across = rng.bernoulli(0.2, scenes, count) * rng.uniform(-6, 6, scenes, count)
    x = torch.where(across != 0, across, side * (gap + half[..., 0]))
    z = torch.where(across != 0, z + 14, z)
    axes = rotation_y(rng.normal(scenes, count) * 0.1)
    at = xyz(x, -half[..., 1], z)
    houses = make_shapes(rng, BOX, at, half, axes, plain=0.15, tile=(1.5, 7.0))
    windows = _windows(rng, scenes, gap)
    things = clutter(rng, scenes, 8, gap, torch.full_like(gap, 12), 0.1, 0.9)
    parts = [ground, houses, windows, things]
    for make, copies, probability in ((tree, 4, 0.6), (car, 3, 0.5)):
        for _ in range(copies):
            side_of = torch.where(rng.bernoulli(0.5, scenes), 1.0, -1.0)
            x = side_of * gap[:, 0] * rng.uniform(0.4, 1, scenes)
            position = xyz(x, 0, rng.uniform(4, 30, scenes))
            built = place(make(rng, scenes), position, rng.normal(scenes) * 0.15)
            parts.append(keep_scenes(rng, built, probability))
    if meshes:
        parts.append(_street_furniture(rng, scenes, meshes, gap))
    radius = rng.uniform(0.02, 0.12, scenes, 5)
    tall = rng.uniform(0.5, 3, scenes, 5)
    at = xyz(rng.uniform(-1, 1, scenes, 5) * gap, -tall, rng.uniform(3, 25, scenes, 5))
    parts.append(keep_each(rng, make_shapes(rng, CYLINDER, at, xyz(radius, tall, radius)), 0.6))
    eye = xyz(
        rng.uniform(-0.6, 0.6, scenes) * gap[:, 0],
        rng.uniform(-2.2, -1.2, scenes),
        rng.uniform(-3, 2, scenes),
    )
    target = xyz(
        rng.normal(scenes) * 4, rng.uniform(-4, 0, scenes), eye[:, 2] + rng.uniform(8, 20, scenes)
    )
    walls = unbounded(rng, scenes)
    walls[:, 1, 1] = 0
    region = torch.stack([xyz(-gap[:, 0], -6, -500), xyz(gap[:, 0], -0.5, 500)], dim=1)
    sun, reach = sample_sun(rng, scenes), torch.full((scenes,), SUN_REACH, device=rng.device)
    return Scenes(
        join(parts), sample_light(rng, sun, reach, walls), flat_heightfield(scenes, rng),
        eye, target, region,
    )  # fmt: skip


def relief(rng: Rng, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Build hills with one photo or a repeated texture on them, boulders, leaves; any scale."""
    scale = rng.log_uniform(0.5, 8, scenes)
    half = xyz(3 * scale, rng.uniform(0.15, 0.7, scenes) * scale, 3 * scale)
    center = torch.zeros_like(half)[:, None]
    hills = make_shapes(rng, TERRAIN, center, half[:, None], plain=0.05, tile=(0.5, 3.0))
    once = rng.bernoulli(0.4, scenes, 1)
    hills = replace(hills, tile=torch.where(once, 0.0, hills.tile * scale[:, None]))
    count = 40
    at = rng.uniform(-2, 2, scenes, count, 3) * scale[:, None, None]
    at = xyz(at[..., 0], rng.uniform(-0.6, 0.5, scenes, count) * half[:, 1:2], at[..., 2])
    size = rng.log_uniform(0.02, 0.4, scenes, count, 3) * scale[:, None, None]
    kind = torch.where(rng.bernoulli(0.5, scenes, count), ELLIPSOID, CARD)
    axes = random_rotations(rng, scenes, count)
    stones = make_shapes(rng, kind, at, size, axes, plain=0.1, tile=(0.2, 1.0))
    stones = replace(stones, petals=rng.integers(0, 7, scenes, count).float())
    yaw, pitch = rng.uniform(0, math.tau, scenes), rng.uniform(0.25, 1.3, scenes)
    away = rng.uniform(1.5, 3.0, scenes) * scale
    target = rng.normal(scenes, 3) * 0.2 * scale[:, None]
    eye = target + away[:, None] * xyz(
        -yaw.sin() * pitch.cos(), -pitch.sin(), -yaw.cos() * pitch.cos()
    )
    walls, region = unbounded(rng, scenes), unbounded(rng, scenes)
    region[:, 1, 1] = -half[:, 1] - 0.2 * scale
    sun, reach = sample_sun(rng, scenes), torch.full_like(scale, SUN_REACH)
    return Scenes(
        join([as_fixed(hills), keep_each(rng, stones, 0.6)]),
        sample_light(rng, sun, reach, walls),
        sample_heightfield(rng, scenes), eye, target, region,
    )  # fmt: skip


def floaters(rng: Rng, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Build shapes of all kinds and rotations before a few large pictures."""
    scale = rng.log_uniform(0.3, 10, scenes, 1)
    count = 30
    kind = rng.integers(BOX, TERRAIN, scenes, count)
    z = rng.uniform(0.6, 2.5, scenes, count)
    at = xyz(rng.normal(scenes, count) * 0.6 * z, rng.normal(scenes, count) * 0.5 * z, z)
    size = rng.log_uniform(0.02, 0.5, scenes, count, 3)
    loose = make_shapes(
        rng, kind, at * scale[..., None], size * scale[..., None],
        random_rotations(rng, scenes, count),
        plain=0.15,
    )  # fmt: skip
    if meshes:
        solid = rng.bernoulli(0.25, scenes, count)
        chosen = meshes.find(0.05, 5, triangles=700)
        mesh = chosen[rng.integers(0, len(chosen), scenes, count)]
        shape = meshes.half[mesh]
        half = shape / shape.amax(-1, keepdim=True) * loose.half.amax(-1, keepdim=True)
        loose = replace(
            loose,
            kind=torch.where(solid, MESH, loose.kind),
            mesh=mesh,
            half=torch.where(solid[..., None], half, loose.half),
        )
    once = rng.bernoulli(0.5, scenes, count)
    loose = replace(
        loose, petals=rng.integers(-1, 7, scenes, count).float(),
        tile=torch.where(once, 0.0, loose.tile * scale),
    )  # fmt: skip
    behind = xyz(
        rng.normal(scenes, 4) * 1.0, rng.normal(scenes, 4) * 0.7,
        2.6 + torch.arange(4, device=rng.device) * rng.uniform(0.1, 0.6, scenes, 1),
    )  # fmt: skip
    large = rng.uniform(0.8, 2.0, scenes, 4, 3) * rng.tensor([1.0, 1.0, 0.001])
    large[:, 3] *= 4
    axes = rotation_y(rng.normal(scenes, 4) * 0.4)
    backdrop = make_shapes(rng, BOX, behind * scale[..., None], large * scale[..., None], axes)
    walls = unbounded(rng, scenes)
    lamp = rng.normal(scenes, 3) * scale
    target = xyz(rng.normal(scenes) * 0.2, rng.normal(scenes) * 0.2, 1.8) * scale
    return Scenes(
        join([as_pictures(backdrop), keep_each(rng, loose, 0.65)]),
        sample_light(rng, lamp, scale[:, 0] * 4, walls), flat_heightfield(scenes, rng),
        torch.zeros_like(target), target, walls,
    )  # fmt: skip


def _street_furniture(rng: Rng, scenes: int, meshes: Meshes, gap: Tensor) -> Shapes:
    """Place meshes of cars, and of other things beside a street."""
    count = 6
    side = torch.where(rng.bernoulli(0.5, scenes, count), 1.0, -1.0)
    x = side * gap * rng.uniform(0.3, 0.9, scenes, count)
    at = xyz(x, 0, rng.uniform(3, 22, scenes, count))
    scale = rng.uniform(0.95, 1.05, scenes, count)
    cars = place_meshes(rng, meshes, meshes.find(2.6, 6.0, tallest=2.6), at[:, :3], scale[:, :3])
    small = meshes.find(0.5, 2.5, triangles=1_000)
    others = place_meshes(rng, meshes, small, at[:, 3:], scale[:, 3:])
    return keep_each(rng, join([cars, others]), 0.6)


def _windows(rng: Rng, scenes: int, gap: Tensor) -> Shapes:
    """Build a facade with a grid of equal windows along one side of the street."""
    columns, rows = 6, 4
    pitch, floor = rng.uniform(1.2, 3, scenes, 1), rng.uniform(2.2, 3.2, scenes, 1)
    index = torch.arange(columns * rows, device=rng.device)
    z = 3 + (index % columns) * pitch + rng.uniform(0, 10, scenes, 1)
    y = -1.5 - (index // columns) * floor
    side = torch.where(rng.bernoulli(0.5, scenes, 1), 1.0, -1.0)
    wall = xyz(side * (gap - 0.3), -6, 4 + 3 * pitch)
    half = rng.tensor([0.15, 6.0, 12.0]).expand(scenes, 1, 3)
    size = xyz(0.05, floor * 0.3, pitch * 0.3).expand(scenes, columns * rows, 3)
    panes = make_shapes(rng, BOX, xyz(side * (gap - 0.45), y, z), size)
    panes = as_pictures(share_appearance(panes))
    facade = make_shapes(rng, BOX, wall, half, plain=0.4, tile=(0.8, 4.0))
    return keep_scenes(rng, join([facade, panes]), 0.5)
