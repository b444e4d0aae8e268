"""Five kinds of worlds, y down, lengths in meters: where things are, and where a person stands."""

import math
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural import blocks
from models.data.procedural.blocks import shapes_at, vectors
from models.data.procedural.dice import Dice
from models.data.procedural.shading import Light
from models.data.procedural.shapes import (
    BOX,
    CARD,
    CYLINDER,
    ELLIPSOID,
    TERRAIN,
    Shapes,
    join,
    stack,
)

HEIGHTS = 48  # samples along each side of a terrain


@dataclass(frozen=True)
class Scenes:
    """Worlds of any kinds side by side."""

    shapes: Shapes
    light: Light
    heights: Float[Tensor, "scene n n"]
    eye: Float[Tensor, "scene 3"]
    target: Float[Tensor, "scene 3"]
    region: Float[Tensor, "scene 2 3"]  # low and high corner of where cameras may be


def build(dice: Dice, kinds: list[int]) -> Scenes:
    """`kinds[i]` scenes of the i-th kind: rooms, streets, table tops, reliefs, floaters."""
    builders = (room, street, table_top, relief, floaters)
    parts = [make(dice, count) for make, count in zip(builders, kinds, strict=True) if count]
    light = Light(*(
        torch.cat([getattr(part.light, field.name) for part in parts]) for field in fields(Light)
    ))  # fmt: skip
    others = [
        torch.cat([getattr(part, name) for part in parts])
        for name in ("heights", "eye", "target", "region")
    ]
    return Scenes(stack([part.shapes for part in parts]), light, *others)


def room(dice: Dice, scenes: int) -> Scenes:
    """A box room with furniture along its walls and in the middle, pictures, thin things."""
    half, walls, shell = _shell(dice, scenes)
    width, depth = half[:, 0], half[:, 2]
    parts = [shell, _pictures(dice, scenes, half)]
    makers = (
        [blocks.table] * 2 + [blocks.chair] * 3 + [blocks.shelf] * 2 + [blocks.sofa] + [cabinet] * 3
    )
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
        join(parts), _light(dice, lamp, dice.uniform(1.5, 4, scenes), walls), _flat(scenes, dice),
        stand * dice.uniform(0.4, 1, scenes, 1), look, region,
    )  # fmt: skip


def street(dice: Dice, scenes: int) -> Scenes:
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
    sun = torch.nn.functional.normalize(dice.normal(scenes, 3), dim=-1) * 300
    sun = torch.cat([sun[:, :1], -sun[:, 1:2].abs() - 100, sun[:, 2:]], dim=-1)
    return Scenes(
        join(parts),
        _light(dice, sun, inf * 20, walls),
        _flat(scenes, dice),
        eye,
        look,
        region,
    )


def table_top(dice: Dice, scenes: int) -> Scenes:
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
    objects = join(
        [
            blocks.each_sometimes(dice, things, 0.6),
            blocks.each_sometimes(dice, low, 0.5),
        ]
    )
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
        join(parts), _light(dice, lamp, dice.uniform(1.5, 4, scenes), walls), _flat(scenes, dice),
        eye, target, region,
    )  # fmt: skip


def relief(dice: Dice, scenes: int) -> Scenes:
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
    sun = torch.nn.functional.normalize(dice.normal(scenes, 3), dim=-1) * 300
    sun = torch.cat([sun[:, :1], -sun[:, 1:2].abs() - 100, sun[:, 2:]], dim=-1)
    return Scenes(
        join([blocks.kept(hills), blocks.each_sometimes(dice, stones, 0.6)]),
        _light(dice, sun, far * 20, walls),
        _heights(dice, scenes), eye, target, region,
    )  # fmt: skip


def floaters(dice: Dice, scenes: int) -> Scenes:
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
        _light(dice, lamp, scale[:, 0] * 4, walls), _flat(scenes, dice),
        vectors(zero, zero, zero), target, walls,
    )  # fmt: skip


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
    shell = blocks.kept(shapes_at(dice, BOX, center, extent, plain=0.5, tile=(0.5, 3.0)))
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
    return blocks.each_sometimes(dice, panels, 0.6)


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


def _light(dice: Dice, position: Tensor, reach: Tensor, walls: Tensor) -> Light:
    scenes = position.shape[0]
    warm = dice.normal(scenes, 1) * torch.tensor([0.12, 0.0, -0.12], device=dice.device)
    ambient = dice.uniform(0.25, 0.65, scenes, 1)
    return Light(
        position=position,
        color=(1.25 - ambient) * (1 + warm) * dice.uniform(0.8, 1.3, scenes, 1),
        ambient=ambient * (1 - 0.5 * warm),
        reach=reach,
        walls=walls,
    )


def _flat(scenes: int, dice: Dice) -> Tensor:
    return torch.zeros(scenes, HEIGHTS, HEIGHTS, device=dice.device)


def _heights(dice: Dice, scenes: int) -> Tensor:
    """Smooth hills with smaller ones on them, in [-1, 1]."""
    rough = dice.uniform(0.25, 0.6, scenes, 1, 1, 1)
    hills = torch.zeros(scenes, 1, HEIGHTS, HEIGHTS, device=dice.device)
    for power, octave in enumerate((4, 8, 16)):
        noise = dice.uniform(-1, 1, scenes, 1, octave, octave)
        layer = torch.nn.functional.interpolate(noise, (HEIGHTS, HEIGHTS), mode="bicubic")
        hills = hills + rough**power * layer
    return (hills / (1 + rough + rough**2)).clamp(-1, 1)[:, 0]
