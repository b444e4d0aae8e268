"""What worlds are built of: single shapes, and furniture made of several."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural.meshes import Meshes
from models.data.procedural.random import Dice
from models.data.procedural.shapes import BOX, CARD, CYLINDER, ELLIPSOID, MESH, Shapes, join

TEXTURES_PER_SCENE = 20
MATERIALS_PER_SCENE = 12  # the first of them, which are even all over


def shapes_at(
    dice: Dice,
    kind: int | Tensor,
    center: Float[Tensor, "scene shape 3"],
    half: Float[Tensor, "scene shape 3"],
    axes: Float[Tensor, "scene shape 3 3"] | None = None,
    plain: float | int = 0.3,
    tile: tuple[float | int, float | int] = (0.3, 2.0),
) -> Shapes:
    """Shapes with random looks; `plain` is the share that has paint instead of a texture."""
    scenes, count = center.shape[:2]
    shape = (scenes, count)
    if axes is None:
        axes = torch.eye(3, device=center.device).expand(*shape, 3, 3)
    if isinstance(kind, int):
        kind = torch.full(shape, kind, device=center.device)
    contrast = dice.uniform(0.6, 1.2, *shape)
    faint = dice.uniform(0.0, 0.15, *shape)
    brightness = dice.log_uniform(0.5, 1.3, *shape, 1)
    return Shapes(
        kind=kind,
        present=torch.ones(shape, dtype=torch.bool, device=center.device),
        fixed=torch.zeros(shape, dtype=torch.bool, device=center.device),
        center=center,
        axes=axes,
        half=half,
        petals=torch.zeros(shape, device=center.device),
        texture=dice.integer(0, MATERIALS_PER_SCENE, *shape),
        tile=dice.log_uniform(*tile, *shape),
        offset=dice.uniform(0, 2, *shape, 2),
        tint=brightness * dice.log_uniform(0.8, 1.25, *shape, 3),
        contrast=torch.where(dice.chance(plain, *shape), faint, contrast),
        gloss=dice.uniform(0, 0.5, *shape) * dice.chance(0.3, *shape),
        mesh=torch.zeros(shape, dtype=torch.long, device=center.device),
        opening=torch.zeros(shape, dtype=torch.bool, device=center.device),
    )


def vectors(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Stack three coordinates."""
    return torch.stack(torch.broadcast_tensors(x, y, z), dim=-1)


def turned(yaw: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Axes turned about the vertical; zero leaves them as they are."""
    c, s, zero, one = yaw.cos(), yaw.sin(), torch.zeros_like(yaw), torch.ones_like(yaw)
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], dim=-1).unflatten(-1, (3, 3))


def random_axes(dice: Dice, *shape: int) -> Float[Tensor, "*batch 3 3"]:
    """Uniform rotations."""
    quaternion = torch.nn.functional.normalize(dice.normal(*shape, 4), dim=-1)
    w, x, y, z = quaternion.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def place(
    parts: Shapes, position: Float[Tensor, "scene 3"], yaw: Float[Tensor, " scene"]
) -> Shapes:
    """Turn a composition about the vertical, then move it."""
    turn = turned(yaw)[:, None]
    center = (turn @ parts.center[..., None])[..., 0] + position[:, None]
    return _with(parts, center=center, axes=turn @ parts.axes)


def sometimes(dice: Dice, parts: Shapes, probability: float | int) -> Shapes:
    """The composition as a whole, in this share of the scenes."""
    there = dice.chance(probability, parts.kind.shape[0], 1)
    return _with(parts, present=parts.present & there)


def each_sometimes(dice: Dice, parts: Shapes, probability: float | int) -> Shapes:
    """Every shape on its own, with this probability."""
    return _with(parts, present=parts.present & dice.chance(probability, *parts.kind.shape))


def alike(parts: Shapes) -> Shapes:
    """All parts look as the first one."""
    same = {
        name: getattr(parts, name)[:, :1].expand_as(getattr(parts, name))
        for name in ("texture", "tile", "tint", "contrast", "gloss")
    }
    return _with(parts, **same)


def pictured(parts: Shapes) -> Shapes:
    """Each part carries one texture once, and any one, as a picture does."""
    pictures = TEXTURES_PER_SCENE - MATERIALS_PER_SCENE
    return _with(
        parts,
        texture=MATERIALS_PER_SCENE + parts.texture % pictures,
        tile=torch.zeros_like(parts.tile),
        offset=torch.zeros_like(parts.offset),
        contrast=torch.ones_like(parts.contrast),
    )


def opened(dice: Dice, parts: Shapes, probability: float | int) -> Shapes:
    """Each part is a hole through which the sky is seen, with this probability."""
    return _with(parts, opening=dice.chance(probability, *parts.kind.shape))


def meshes_at(
    dice: Dice,
    meshes: Meshes,
    chosen: Tensor,
    floor: Float[Tensor, "scene shape 3"],
    scale: Float[Tensor, "scene shape"],
) -> Shapes:
    """Meshes that stand on points, turned at random; half of them with colors of their own.

    Args:
        dice: The randomness.
        meshes: All there are.
        chosen: Numbers of those to choose from, at least one.
        floor: Where they stand.
        scale: How many times as large they are as they came.
    """
    shape = (floor.shape[0], floor.shape[1])
    mesh = chosen[dice.integer(0, len(chosen), *shape)]
    half = meshes.half[mesh] * scale[..., None] * dice.uniform(0.85, 1.2, *shape, 3)
    center = floor - half * torch.tensor([0.0, 1.0, 0.0], device=dice.device)
    axes = turned(dice.uniform(0, math.tau, *shape))
    parts = shapes_at(dice, MESH, center, half, axes, plain=0.4, tile=(0.1, 1.0))
    return _with(parts, mesh=mesh, petals=dice.chance(0.5, *shape).float())


def kept(parts: Shapes) -> Shapes:
    """Never removed for being near a camera."""
    return _with(parts, fixed=torch.ones_like(parts.fixed))


def _with(parts: Shapes, **changes: Tensor) -> Shapes:
    return Shapes(**{**vars(parts), **changes})


def table(dice: Dice, scenes: int) -> Shapes:
    """A board on four legs, things on it."""
    width, depth = dice.uniform(0.35, 0.9, scenes, 1), dice.uniform(0.3, 0.5, scenes, 1)
    height = dice.uniform(0.4, 0.8, scenes, 1)
    sign_x = torch.tensor([-1.0, 1, -1, 1], device=dice.device)
    sign_z = torch.tensor([-1.0, -1, 1, 1], device=dice.device)
    thick = dice.uniform(0.015, 0.04, scenes, 1)
    top = shapes_at(dice, BOX, vectors(0 * width, -height, 0 * width), vectors(width, thick, depth))
    legs_at = vectors(sign_x * (width - 0.05), -height / 2, sign_z * (depth - 0.05))
    legs = shapes_at(dice, BOX, legs_at, vectors(thick, height / 2, thick).expand_as(legs_at))
    things = clutter(dice, scenes, 6, width * 0.85, depth * 0.8, 0.03, 0.14)
    things = _with(things, center=things.center - vectors(0 * height, height + thick, 0 * height))
    return join([alike(join([top, legs])), each_sometimes(dice, things, 0.7)])


def clutter(
    dice: Dice,
    scenes: int,
    count: int,
    width: Tensor,
    depth: Tensor,
    small: float,
    large: float,
) -> Shapes:
    """Small things of all kinds that stand on y = 0 within +-width, +-depth."""
    half = dice.log_uniform(small, large, scenes, count, 3)
    where = vectors(
        dice.uniform(-1, 1, scenes, count) * width,
        -half[..., 1],
        dice.uniform(-1, 1, scenes, count) * depth,
    )
    kind = dice.integer(BOX, CARD, scenes, count)
    round_half = torch.where((kind == CYLINDER)[..., None], half[..., [0, 1, 0]], half)
    axes = turned(dice.uniform(0, math.tau, scenes, count))
    things = shapes_at(dice, kind, where, round_half, axes, plain=0.2, tile=(0.05, 0.4))
    once = dice.chance(0.5, scenes, count)
    return _with(things, tile=torch.where(once, 0.0, things.tile))


def chair(dice: Dice, scenes: int) -> Shapes:
    """Seat, back and four legs."""
    side = dice.uniform(0.18, 0.3, scenes, 1)
    seat = dice.uniform(0.38, 0.5, scenes, 1)
    back = dice.uniform(0.2, 0.45, scenes, 1)
    thin = dice.uniform(0.012, 0.03, scenes, 1)
    sign_x = torch.tensor([0.0, 0, -1, 1, -1, 1], device=dice.device)
    sign_z = torch.tensor([0.0, 1, -1, -1, 1, 1], device=dice.device)
    y = torch.cat([-seat, -seat - back, *[-seat / 2] * 4], dim=1)
    half_x = torch.cat([side, side, *[thin] * 4], dim=1)
    half_y = torch.cat([thin * 1.5, back, *[seat / 2] * 4], dim=1)
    half_z = torch.cat([side, thin, *[thin] * 4], dim=1)
    center = vectors(sign_x * (side - thin), y, sign_z * (side - thin))
    return alike(shapes_at(dice, BOX, center, vectors(half_x, half_y, half_z)))


def shelf(dice: Dice, scenes: int) -> Shapes:
    """Boards between two sides, full of small things; its back is at z = 0."""
    width, height = dice.uniform(0.3, 0.7, scenes, 1), dice.uniform(0.6, 1.1, scenes, 1)
    depth, thin = dice.uniform(0.1, 0.2, scenes, 1), dice.uniform(0.01, 0.02, scenes, 1)
    level = torch.linspace(0.02, 0.98, 5, device=dice.device) * 2 * height
    boards_at = vectors(0 * level, -level, (-depth).expand_as(level))
    boards_half = vectors(width, thin, depth).expand_as(boards_at)
    side = torch.tensor([-1.0, 1], device=dice.device) * width
    sides_at = vectors(side, -height, -depth)
    sides_half = vectors(thin, height, depth).expand_as(sides_at)
    frame = shapes_at(
        dice,
        BOX,
        torch.cat([boards_at, sides_at], 1),
        torch.cat([boards_half, sides_half], 1),
    )
    things = clutter(dice, scenes, 20, width * 0.9, depth * 0.6, 0.02, 0.11)
    board = level[:, dice.integer(0, 4, 20)] + thin
    standing = vectors(things.center[..., 0], things.center[..., 1] - board, -depth)
    return join([alike(frame), each_sometimes(dice, _with(things, center=standing), 0.8)])


def sofa(dice: Dice, scenes: int) -> Shapes:
    """Seat, back and two arms, soft plain colors."""
    width, depth = dice.uniform(0.5, 1.1, scenes, 1), dice.uniform(0.35, 0.5, scenes, 1)
    x = torch.tensor([0.0, 0, -1, 1], device=dice.device) * width
    z = torch.tensor([0.0, 1, 0, 0], device=dice.device) * depth
    y = torch.tensor([-0.2, -0.45, -0.3, -0.3], device=dice.device)
    arm = torch.tensor([0.1, 0.1], device=dice.device).expand(scenes, 2)
    half_x = torch.cat([width, width, arm], 1)
    half_y = torch.tensor([0.2, 0.4, 0.3, 0.3], device=dice.device)
    half_z = torch.cat([depth, depth * 0.25, depth, depth], 1)
    parts = shapes_at(dice, BOX, vectors(x, y, z), vectors(half_x, half_y, half_z), plain=0.6)
    return alike(parts)


def tree(dice: Dice, scenes: int) -> Shapes:
    """A trunk, clumps of foliage and cards for leaves."""
    height, radius = (
        dice.uniform(1.5, 4, scenes, 1),
        dice.uniform(0.08, 0.25, scenes, 1),
    )
    zero = torch.zeros_like(height)
    trunk = shapes_at(
        dice,
        CYLINDER,
        vectors(zero, -height / 2, zero),
        vectors(radius, height / 2, radius),
    )
    spread = dice.uniform(0.5, 1.6, scenes, 1)
    at = dice.normal(scenes, 24, 3) * spread[..., None] * 0.6
    at = at - vectors(zero, height + 0.5 * spread, zero)
    clumps = dice.uniform(0.3, 0.7, scenes, 6, 3) * spread[..., None]
    leaves = dice.uniform(0.1, 0.35, scenes, 18, 3) * spread[..., None]
    axes = random_axes(dice, scenes, 24)
    green = dice.uniform(0.25, 0.9, scenes, 1, 1) * torch.tensor([0.75, 1.1, 0.5]).to(dice.device)
    foliage = join([
        shapes_at(dice, ELLIPSOID, at[:, :6], clumps, axes[:, :6], plain=0, tile=(0.3, 1.0)),
        shapes_at(dice, CARD, at[:, 6:], leaves, axes[:, 6:], plain=0, tile=(0.3, 1.0)),
    ])  # fmt: skip
    shade = dice.log_uniform(0.6, 1.6, scenes, 24, 1)
    petals = torch.where(foliage.kind == CARD, dice.integer(0, 7, scenes, 24).float(), 0.0)
    return join([trunk, _with(alike(foliage), tint=green * shade, petals=petals)])


def car(dice: Dice, scenes: int) -> Shapes:
    """A body, a cabin and wheels."""
    x = torch.tensor([0.0, 0.1, -0.7, 0.7, -0.7, 0.7], device=dice.device).expand(scenes, 6)
    y = torch.tensor([-0.6, -1.1, -0.3, -0.3, -0.3, -0.3], device=dice.device).expand(scenes, 6)
    z = torch.tensor([0.0, 0.0, -1.2, -1.2, 1.2, 1.2], device=dice.device).expand(scenes, 6)
    half = torch.tensor(
        [[0.8, 0.35, 2.0], [0.7, 0.3, 1.1], *[[0.3, 0.12, 0.3]] * 4], device=dice.device
    ).expand(scenes, 6, 3)
    kind = torch.tensor([BOX, BOX, *[CYLINDER] * 4], device=dice.device).expand(scenes, 6)
    lying = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]], device=dice.device)
    upright = torch.eye(3, device=dice.device)
    axes = torch.stack([upright, upright, *[lying] * 4]).expand(scenes, 6, 3, 3)
    parts = shapes_at(dice, kind, vectors(x, y, z), half, axes, plain=0.8)
    return _with(parts, gloss=dice.uniform(0.2, 0.8, scenes, 6))
