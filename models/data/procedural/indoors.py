"""Rooms and table tops, y down, lengths in meters."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from models.data.procedural import blocks
from models.data.procedural.blocks import shapes_at, vectors
from models.data.procedural.meshes import Meshes
from models.data.procedural.random import Dice
from models.data.procedural.scenes import Scenes, draw_light, flat_ground
from models.data.procedural.shapes import BOX, CYLINDER, Shapes, join


def room(dice: Dice, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """A box room with furniture along its walls and in the middle, pictures, thin things."""
    half, walls, shell = _shell(dice, scenes)
    width, depth = half[:, 0], half[:, 2]
    parts = [shell, _pictures(dice, scenes, half)]
    makers = (
        [blocks.table] * 2 + [blocks.chair] * 3 + [blocks.shelf] * 2 + [blocks.sofa] + [cabinet] * 3
    )
    if meshes:  # in place of some of that
        makers = [blocks.table] * 2 + [blocks.chair, blocks.shelf, blocks.sofa] + [cabinet] * 2
        parts.append(_furniture(dice, scenes, meshes, half))
    for index, make in enumerate(makers):
        quarter = dice.integer(0, 4, scenes)
        along = dice.uniform(-0.8, 0.8, scenes)
        at_wall = vectors(along * width, 0 * width, depth - 0.3)
        sideways = vectors(width - 0.3, 0 * width, along * depth)
        position = torch.where((quarter % 2 == 0)[:, None], at_wall, sideways)
        position = torch.where((quarter >= 2)[:, None], -position, position)
        yaw = quarter * (math.pi / 2) + dice.normal(scenes) * 0.05
        if make in (blocks.table, blocks.chair) and index % 2:
            position = vectors(along * width, 0 * width, dice.uniform(-0.6, 0.6, scenes) * depth)
            yaw = dice.uniform(0, math.tau, scenes)
        parts.append(blocks.sometimes(dice, blocks.place(make(dice, scenes), position, yaw), 0.6))
    thin = dice.uniform(0.008, 0.03, scenes, 4)
    poles_at = vectors(
        dice.uniform(-0.9, 0.9, scenes, 4) * width[:, None],
        dice.uniform(-1.4, -0.5, scenes, 4),
        dice.uniform(-0.9, 0.9, scenes, 4) * depth[:, None],
    )
    poles_half = vectors(thin, dice.uniform(0.3, 1.2, scenes, 4), thin)
    tilt = dice.chance(0.4, scenes, 4)[..., None, None]
    axes = torch.where(tilt, blocks.random_axes(dice, scenes, 4), torch.eye(3, device=dice.device))
    parts.append(
        blocks.each_sometimes(dice, shapes_at(dice, CYLINDER, poles_at, poles_half, axes), 0.4)
    )
    yaw = dice.uniform(0, math.tau, scenes)
    stand = vectors(
        -yaw.sin() * (width - 0.5),
        dice.uniform(-1.7, -1.0, scenes),
        -yaw.cos() * (depth - 0.5),
    )
    look = vectors(
        yaw.sin() * width * 0.7 + dice.normal(scenes) * 0.4,
        dice.uniform(-1.5, -0.4, scenes),
        yaw.cos() * depth * 0.7 + dice.normal(scenes) * 0.4,
    )
    lamp = vectors(
        dice.uniform(-0.5, 0.5, scenes) * width,
        walls[:, 0, 1] + 0.3,
        dice.uniform(-0.5, 0.5, scenes) * depth,
    )
    margin = torch.tensor([0.3, 0.3, 0.3], device=dice.device)
    region = torch.stack([walls[:, 0] + margin, walls[:, 1] - margin], dim=1)
    return Scenes(
        join(parts), draw_light(dice, lamp, dice.uniform(1.5, 4, scenes), walls),
        flat_ground(scenes, dice), stand * dice.uniform(0.4, 1, scenes, 1), look, region,
    )  # fmt: skip


def table_top(dice: Dice, scenes: int, meshes: Meshes | None = None) -> Scenes:
    """Objects close to the camera on a table, a room behind."""
    half, walls, shell = _shell(dice, scenes)
    high = dice.uniform(0.7, 0.9, scenes, 1)
    size = dice.uniform(0.4, 1.0, scenes, 2)
    lift = vectors(0 * high, -high, 0 * high)
    board = shapes_at(
        dice,
        BOX,
        lift + 0 * half[:, None],
        vectors(size[:, :1], 0.02 + 0 * high, size[:, 1:]),
        tile=(0.3, 1.5),
    )
    reach = dice.uniform(0.15, 0.35, scenes, 1)
    things = blocks.clutter(dice, scenes, 16, reach, reach, 0.015, 0.12)
    flat = things.half * torch.tensor([1.0, 0.3, 1.0], device=dice.device)
    low = blocks.clutter(dice, scenes, 6, reach, reach, 0.03, 0.1)
    low = replace(
        low,
        half=flat[:, :6],
        center=low.center * torch.tensor([1.0, 0, 1], device=dice.device)
        - vectors(0 * flat[:, :6, 0], flat[:, :6, 1], 0 * flat[:, :6, 0]),
    )
    kinds = [
        blocks.each_sometimes(dice, things, 0.3 if meshes else 0.6),
        blocks.each_sometimes(dice, low, 0.5),
    ]
    if meshes:
        at = dice.uniform(-1, 1, scenes, 8, 3) * reach[:, None]
        at = at * torch.tensor([1.0, 0.0, 1.0], device=dice.device)
        scale = dice.log_uniform(0.7, 1.4, scenes, 8)
        small = blocks.meshes_at(dice, meshes, meshes.find(0.05, 0.4, triangles=700), at, scale)
        kinds.append(blocks.each_sometimes(dice, small, 0.6))
    objects = join(kinds)
    objects = replace(
        objects,
        center=objects.center + lift - vectors(0 * high, 0.02 + 0 * high, 0 * high),
    )
    back = blocks.place(
        blocks.shelf(dice, scenes),
        vectors(half[:, 0] * 0, 0 * half[:, 0], half[:, 2]),
        0 * half[:, 0],
    )
    parts = [
        shell,
        board,
        objects,
        _pictures(dice, scenes, half),
        blocks.sometimes(dice, back, 0.5),
    ]
    yaw, pitch = dice.uniform(-0.8, 0.8, scenes), dice.uniform(0.15, 1.2, scenes)
    away = dice.log_uniform(0.35, 1.1, scenes)
    target = lift[:, 0] + dice.normal(scenes, 3) * 0.04
    eye = target + away[:, None] * vectors(
        -yaw.sin() * pitch.cos(), -pitch.sin(), -yaw.cos() * pitch.cos()
    )
    lamp = vectors(dice.normal(scenes), walls[:, 0, 1] + 0.3, dice.normal(scenes))
    region = torch.stack([walls[:, 0] + 0.3, walls[:, 1] - 0.3], dim=1)
    region[:, 1, 1] = -high[:, 0] - 0.08
    return Scenes(
        join(parts), draw_light(dice, lamp, dice.uniform(1.5, 4, scenes), walls),
        flat_ground(scenes, dice), eye, target, region,
    )  # fmt: skip


def _furniture(dice: Dice, scenes: int, meshes: Meshes, half: Tensor) -> Shapes:
    """Things that stand on the floor of a room, most of them near its walls."""
    count = 9
    at = dice.uniform(-1, 1, scenes, count, 3)
    at = at.sign() * at.abs().sqrt() * (half[:, None] - 0.3) * torch.tensor(
        [1.0, 0.0, 1.0], device=dice.device
    )  # fmt: skip
    chosen = meshes.find(0.4, 2.6, tallest=2.2, triangles=1_500)
    standing = blocks.meshes_at(dice, meshes, chosen, at, dice.uniform(0.9, 1.1, scenes, count))
    return blocks.each_sometimes(dice, standing, 0.6)


def cabinet(dice: Dice, scenes: int) -> Shapes:
    """A box with doors, and things on top."""
    half = vectors(
        dice.uniform(0.2, 0.6, scenes, 1),
        dice.uniform(0.2, 1.0, scenes, 1),
        dice.uniform(0.2, 0.35, scenes, 1),
    )
    center = half * torch.tensor([0.0, -1, 0], device=dice.device)
    body = shapes_at(dice, BOX, center, half, plain=0.5)
    side = torch.tensor([-0.5, 0.5], device=dice.device)
    door_at = center + vectors(side * half[..., 0], 0 * side, -half[..., 2].expand(-1, 2))
    doors = shapes_at(
        dice,
        BOX,
        door_at,
        half * torch.tensor([0.46, 0.9, 0.03], device=dice.device).expand(1, 2, 3),
    )
    things = blocks.clutter(dice, scenes, 3, half[:, :, 0] * 0.8, half[:, :, 2] * 0.8, 0.04, 0.2)
    things = replace(things, center=things.center + 2 * center)
    return join([body, blocks.alike(blocks.sometimes(dice, doors, 0.6)), things])


def _shell(dice: Dice, scenes: int) -> tuple[Tensor, Tensor, Shapes]:
    """Half extent of a room, its corners, and floor, ceiling and four walls."""
    half = vectors(
        dice.uniform(1.4, 3.6, scenes),
        dice.uniform(1.1, 1.6, scenes),
        dice.uniform(1.4, 3.6, scenes),
    )
    middle = half * torch.tensor([0.0, -1, 0], device=dice.device)
    outward = torch.tensor(
        [[0.0, 1, 0], [0, -1, 0], [1, 0, 0], [-1, 0, 0], [0, 0, 1], [0, 0, -1]],
        device=dice.device,
    )
    center = middle[:, None] + outward * (half[:, None] + 0.1)
    extent = torch.where(outward != 0, 0.1, half[:, None] + 0.2)
    shell = blocks.kept(shapes_at(dice, BOX, center, extent, plain=0.6, tile=(0.5, 3.0)))
    white = dice.uniform(0.9, 1.7, scenes, 1, 1)
    paint = torch.tensor([0.0, 1, 1, 1, 1, 1], device=dice.device)[:, None] > 0
    shell = replace(
        shell,
        tint=torch.where(paint, white * dice.log_uniform(0.85, 1.15, scenes, 6, 3), shell.tint),
    )
    same_walls = dice.chance(0.6, scenes, 1)
    first = {name: getattr(shell, name)[:, 2:3] for name in ("texture", "tile", "tint", "contrast")}
    is_wall = torch.arange(6, device=dice.device) >= 2
    for name, value in first.items():
        old = getattr(shell, name)
        where = (same_walls & is_wall).reshape(scenes, 6, *[1] * (old.ndim - 2))
        shell = replace(shell, **{name: torch.where(where, value, old)})
    return half, torch.stack([middle - half, middle + half], dim=1), shell


def _pictures(dice: Dice, scenes: int, half: Tensor) -> Shapes:
    """Framed photos, doors and windows on the walls of a room."""
    count = 8
    width, height = (
        dice.uniform(0.15, 0.7, scenes, count),
        dice.uniform(0.15, 0.6, scenes, count),
    )
    quarter = torch.arange(count, device=dice.device) % 4
    along, up = (
        dice.uniform(-0.75, 0.75, scenes, count),
        -dice.uniform(0.9, 1.8, scenes, count),
    )
    flip = torch.where(quarter < 2, 1.0, -1.0)
    at_end = vectors(along * half[:, :1], up, flip * half[:, 2:])
    at_side = vectors(flip * half[:, :1], up, along * half[:, 2:])
    turn = quarter % 2 == 0
    position = torch.where(turn[:, None], at_end, at_side)
    axes = blocks.turned(torch.where(turn, 0.0, math.pi / 2).expand(scenes, count))
    size = vectors(width, height, dice.uniform(0.01, 0.05, scenes, count))
    panels = blocks.pictured(shapes_at(dice, BOX, position, size, axes))
    panels = blocks.opened(dice, panels, 0.3)
    frames = replace(
        shapes_at(dice, BOX, position, size * torch.tensor([1.12, 1.12, 0.7]).to(size), axes, 0.8),
        present=panels.present,
    )
    shown = dice.chance(0.6, scenes, count)
    return join([replace(part, present=shown) for part in (panels, frames)])
