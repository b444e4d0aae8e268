"""Rooms and table tops, y down, lengths in meters."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from models.data.procedural.furniture import (
    as_fixed,
    as_pictures,
    cabinet,
    chair,
    clutter,
    keep_each,
    keep_scenes,
    make_shapes,
    place,
    place_meshes,
    random_rotations,
    rotation_y,
    shelf,
    sofa,
    table,
    xyz,
)
from models.data.procedural.heightfield import flat_heightfield
from models.data.procedural.meshes import Meshes
from models.data.procedural.random import Rng
from models.data.procedural.scenes import Scenes, sample_light
from models.data.procedural.shapes import BOX, CYLINDER, Shapes, join


def room(rng: Rng, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Build rooms with furniture along the walls and in the middle, pictures and thin poles."""
    half, walls, shell = _room_shell(rng, scenes)
    width, depth = half[:, 0], half[:, 2]
    parts = [shell, _pictures(rng, scenes, half)]
    makers = [table] * 2 + [chair] * 3 + [shelf] * 2 + [sofa] + [cabinet] * 3
    if meshes:  # in place of some of that
        makers = [table] * 2 + [chair, shelf, sofa] + [cabinet] * 2
        parts.append(_mesh_furniture(rng, scenes, meshes, half))
    for index, make in enumerate(makers):
        quarter = rng.integers(0, 4, scenes)
        along = rng.uniform(-0.8, 0.8, scenes)
        at_wall = xyz(along * width, 0, depth - 0.3)
        sideways = xyz(width - 0.3, 0, along * depth)
        position = torch.where((quarter % 2 == 0)[:, None], at_wall, sideways)
        position = torch.where((quarter >= 2)[:, None], -position, position)
        yaw = quarter * (math.pi / 2) + rng.normal(scenes) * 0.05
        if make in (table, chair) and index % 2:
            position = xyz(along * width, 0, rng.uniform(-0.6, 0.6, scenes) * depth)
            yaw = rng.uniform(0, math.tau, scenes)
        parts.append(keep_scenes(rng, place(make(rng, scenes), position, yaw), 0.6))
    radius = rng.uniform(0.008, 0.03, scenes, 4)
    poles_at = xyz(
        rng.uniform(-0.9, 0.9, scenes, 4) * width[:, None],
        rng.uniform(-1.4, -0.5, scenes, 4),
        rng.uniform(-0.9, 0.9, scenes, 4) * depth[:, None],
    )
    poles_half = xyz(radius, rng.uniform(0.3, 1.2, scenes, 4), radius)
    tilt = rng.bernoulli(0.4, scenes, 4)[..., None, None]
    axes = torch.where(tilt, random_rotations(rng, scenes, 4), torch.eye(3, device=rng.device))
    parts.append(keep_each(rng, make_shapes(rng, CYLINDER, poles_at, poles_half, axes), 0.4))
    yaw = rng.uniform(0, math.tau, scenes)
    stand = xyz(
        -yaw.sin() * (width - 0.5), rng.uniform(-1.7, -1.0, scenes), -yaw.cos() * (depth - 0.5)
    )
    target = xyz(
        yaw.sin() * width * 0.7 + rng.normal(scenes) * 0.4,
        rng.uniform(-1.5, -0.4, scenes),
        yaw.cos() * depth * 0.7 + rng.normal(scenes) * 0.4,
    )
    lamp = xyz(
        rng.uniform(-0.5, 0.5, scenes) * width,
        walls[:, 0, 1] + 0.3,
        rng.uniform(-0.5, 0.5, scenes) * depth,
    )
    region = torch.stack([walls[:, 0] + 0.3, walls[:, 1] - 0.3], dim=1)
    return Scenes(
        join(parts), sample_light(rng, lamp, rng.uniform(1.5, 4, scenes), walls),
        flat_heightfield(scenes, rng), stand * rng.uniform(0.4, 1, scenes, 1), target, region,
    )  # fmt: skip


def table_top(rng: Rng, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Build tables with objects close to the camera, and a room behind."""
    half, walls, shell = _room_shell(rng, scenes)
    high = rng.uniform(0.7, 0.9, scenes, 1)
    size = rng.uniform(0.4, 1.0, scenes, 2)
    lift = xyz(0, -high, 0)
    board_half = xyz(size[:, :1], 0.02, size[:, 1:])
    table_board = make_shapes(rng, BOX, lift, board_half, tile=(0.3, 1.5))
    reach = rng.uniform(0.15, 0.35, scenes, 1)
    things = clutter(rng, scenes, 16, reach, reach, 0.015, 0.12)
    flat = things.half * rng.tensor([1.0, 0.3, 1.0])
    low = clutter(rng, scenes, 6, reach, reach, 0.03, 0.1)
    low = replace(
        low,
        half=flat[:, :6],
        center=low.center * rng.tensor([1.0, 0, 1]) - xyz(0, flat[:, :6, 1], 0),
    )
    kinds = [keep_each(rng, things, 0.3 if meshes else 0.6), keep_each(rng, low, 0.5)]
    if meshes:
        at = rng.uniform(-1, 1, scenes, 8, 3) * reach[:, None]
        at = at * rng.tensor([1.0, 0.0, 1.0])
        scale = rng.log_uniform(0.7, 1.4, scenes, 8)
        small = place_meshes(rng, meshes, meshes.find(0.05, 0.4, triangles=700), at, scale)
        kinds.append(keep_each(rng, small, 0.6))
    objects = join(kinds)
    objects = replace(objects, center=objects.center + lift - rng.tensor([0.0, 0.02, 0.0]))
    back = place(shelf(rng, scenes), xyz(0, 0, half[:, 2]), torch.zeros_like(half[:, 0]))
    parts = [shell, table_board, objects, _pictures(rng, scenes, half), keep_scenes(rng, back, 0.5)]
    yaw, pitch = rng.uniform(-0.8, 0.8, scenes), rng.uniform(0.15, 1.2, scenes)
    away = rng.log_uniform(0.35, 1.1, scenes)
    target = lift[:, 0] + rng.normal(scenes, 3) * 0.04
    eye = target + away[:, None] * xyz(
        -yaw.sin() * pitch.cos(), -pitch.sin(), -yaw.cos() * pitch.cos()
    )
    lamp = xyz(rng.normal(scenes), walls[:, 0, 1] + 0.3, rng.normal(scenes))
    region = torch.stack([walls[:, 0] + 0.3, walls[:, 1] - 0.3], dim=1)
    region[:, 1, 1] = -high[:, 0] - 0.08
    return Scenes(
        join(parts), sample_light(rng, lamp, rng.uniform(1.5, 4, scenes), walls),
        flat_heightfield(scenes, rng), eye, target, region,
    )  # fmt: skip


def _mesh_furniture(rng: Rng, scenes: int, meshes: Meshes, half: Tensor) -> Shapes:
    """Place meshes on the floor of a room, most of them near its walls."""
    count = 9
    at = rng.uniform(-1, 1, scenes, count, 3)
    at = at.sign() * at.abs().sqrt() * (half[:, None] - 0.3) * rng.tensor([1.0, 0, 1])
    chosen = meshes.find(0.4, 2.6, tallest=2.2, triangles=1_500)
    standing = place_meshes(rng, meshes, chosen, at, rng.uniform(0.9, 1.1, scenes, count))
    return keep_each(rng, standing, 0.6)


def _room_shell(rng: Rng, scenes: int) -> tuple[Tensor, Tensor, Shapes]:
    """Return half extents of rooms, their corners, and floor, ceiling and four walls."""
    half = xyz(
        rng.uniform(1.4, 3.6, scenes), rng.uniform(1.1, 1.6, scenes), rng.uniform(1.4, 3.6, scenes)
    )
    middle = half * rng.tensor([0.0, -1, 0])
    outward = rng.tensor([[0.0, 1, 0], [0, -1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1]])
    center = middle[:, None] + outward * (half[:, None] + 0.1)
    extent = torch.where(outward != 0, 0.1, half[:, None] + 0.2)
    shell = as_fixed(make_shapes(rng, BOX, center, extent, plain=0.6, tile=(0.5, 3.0)))
    white = rng.uniform(0.9, 1.7, scenes, 1, 1)
    paint = rng.tensor([0.0, 1, 1, 1, 1, 1])[:, None] > 0
    shell = replace(
        shell,
        tint=torch.where(paint, white * rng.log_uniform(0.85, 1.15, scenes, 6, 3), shell.tint),
    )
    same_walls = rng.bernoulli(0.6, scenes, 1)
    first = {name: getattr(shell, name)[:, 2:3] for name in ("texture", "tile", "tint", "contrast")}
    is_wall = torch.arange(6, device=rng.device) >= 2
    for name, value in first.items():
        old = getattr(shell, name)
        where = (same_walls & is_wall).reshape(scenes, 6, *[1] * (old.ndim - 2))
        shell = replace(shell, **{name: torch.where(where, value, old)})
    return half, torch.stack([middle - half, middle + half], dim=1), shell


def _pictures(rng: Rng, scenes: int, half: Tensor) -> Shapes:
    """Build framed pictures, doors and windows on the walls of a room."""
    count = 8
    width, height = rng.uniform(0.15, 0.7, scenes, count), rng.uniform(0.15, 0.6, scenes, count)
    quarter = torch.arange(count, device=rng.device) % 4
    along, up = rng.uniform(-0.75, 0.75, scenes, count), -rng.uniform(0.9, 1.8, scenes, count)
    flip = torch.where(quarter < 2, 1.0, -1.0)
    at_end = xyz(along * half[:, :1], up, flip * half[:, 2:])
    at_side = xyz(flip * half[:, :1], up, along * half[:, 2:])
    turn = quarter % 2 == 0
    position = torch.where(turn[:, None], at_end, at_side)
    axes = rotation_y(torch.where(turn, 0.0, math.pi / 2).expand(scenes, count))
    size = xyz(width, height, rng.uniform(0.01, 0.05, scenes, count))
    panels = as_pictures(make_shapes(rng, BOX, position, size, axes))
    panels = replace(panels, opening=rng.bernoulli(0.3, scenes, count))  # windows
    frames = make_shapes(rng, BOX, position, size * rng.tensor([1.12, 1.12, 0.7]), axes, 0.8)
    shown = rng.bernoulli(0.6, scenes, count)
    return join([replace(part, present=shown) for part in (panels, frames)])
