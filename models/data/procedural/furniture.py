"""Shapes with random appearance, and furniture composed of them; y down, in meters."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural.meshes import Meshes
from models.data.procedural.random import Rng
from models.data.procedural.shapes import BOX, CARD, CYLINDER, ELLIPSOID, MESH, Shapes, join

TEXTURES_PER_SCENE = 20
MATERIALS_PER_SCENE = 12  # the first of these textures; see `Assets.materials`


def make_shapes(
    rng: Rng,
    kind: int | Tensor,
    center: Float[Tensor, "scene shape 3"],
    half: Float[Tensor, "scene shape 3"],
    axes: Float[Tensor, "scene shape 3 3"] | None = None,
    plain: float | int = 0.3,
    tile: tuple[float | int, float | int] = (0.3, 2.0),
) -> Shapes:
    """Make shapes with random appearance; the share `plain` has paint instead of a texture."""
    scenes, count = center.shape[:2]
    shape = (scenes, count)
    if axes is None:
        axes = torch.eye(3, device=center.device).expand(*shape, 3, 3)
    if isinstance(kind, int):
        kind = torch.full(shape, kind, device=center.device)
    contrast = rng.uniform(0.6, 1.2, *shape)
    faint = rng.uniform(0.0, 0.15, *shape)
    brightness = rng.log_uniform(0.5, 1.3, *shape, 1)
    return Shapes(
        kind=kind,
        present=torch.ones(shape, dtype=torch.bool, device=center.device),
        fixed=torch.zeros(shape, dtype=torch.bool, device=center.device),
        center=center,
        axes=axes,
        half=half,
        petals=torch.zeros(shape, device=center.device),
        texture=rng.integers(0, MATERIALS_PER_SCENE, *shape),
        tile=rng.log_uniform(*tile, *shape),
        offset=rng.uniform(0, 2, *shape, 2),
        tint=brightness * rng.log_uniform(0.8, 1.25, *shape, 3),
        contrast=torch.where(rng.bernoulli(plain, *shape), faint, contrast),
        gloss=rng.uniform(0, 0.5, *shape) * rng.bernoulli(0.3, *shape),
        mesh=torch.zeros(shape, dtype=torch.long, device=center.device),
        opening=torch.zeros(shape, dtype=torch.bool, device=center.device),
    )


def xyz(x: Tensor | float | int, y: Tensor | float | int, z: Tensor | float | int) -> Tensor:
    """Stack coordinates, one of them a tensor, broadcast, along a new last axis."""
    like = next(value for value in (x, y, z) if isinstance(value, Tensor))
    parts = (torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in (x, y, z))
    return torch.stack(torch.broadcast_tensors(*parts), dim=-1)


def rotation_y(yaw: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Return rotations about y."""
    c, s, zero, one = yaw.cos(), yaw.sin(), torch.zeros_like(yaw), torch.ones_like(yaw)
    return torch.stack([c, zero, s, zero, one, zero, -s, zero, c], dim=-1).unflatten(-1, (3, 3))


def random_rotations(rng: Rng, *shape: int) -> Float[Tensor, "*batch 3 3"]:
    """Sample rotations uniformly, by normal quaternions."""
    quaternion = torch.nn.functional.normalize(rng.normal(*shape, 4), dim=-1)
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
    """Rotate a composition about y, then move it."""
    turn = rotation_y(yaw)[:, None]
    center = (turn @ parts.center[..., None])[..., 0] + position[:, None]
    return replace(parts, center=center, axes=turn @ parts.axes)


def keep_scenes(rng: Rng, parts: Shapes, probability: float | int) -> Shapes:
    """Keep the composition as a whole in some of the scenes."""
    there = rng.bernoulli(probability, parts.kind.shape[0], 1)
    return replace(parts, present=parts.present & there)


def keep_each(rng: Rng, parts: Shapes, probability: float | int) -> Shapes:
    """Keep every shape with a probability of its own."""
    return replace(parts, present=parts.present & rng.bernoulli(probability, *parts.kind.shape))


def share_appearance(parts: Shapes) -> Shapes:
    """Give all parts the texture and color of the first one."""
    same = {
        name: getattr(parts, name)[:, :1].expand_as(getattr(parts, name))
        for name in ("texture", "tile", "tint", "contrast", "gloss")
    }
    return replace(parts, **same)


def as_pictures(parts: Shapes) -> Shapes:
    """Let each part carry a texture that need not be even, once, as a picture does."""
    pictures = TEXTURES_PER_SCENE - MATERIALS_PER_SCENE
    return replace(
        parts,
        texture=MATERIALS_PER_SCENE + parts.texture % pictures,
        tile=torch.zeros_like(parts.tile),
        offset=torch.zeros_like(parts.offset),
        contrast=torch.ones_like(parts.contrast),
    )


def place_meshes(
    rng: Rng,
    meshes: Meshes,
    chosen: Tensor,
    floor: Float[Tensor, "scene shape 3"],
    scale: Float[Tensor, "scene shape"],
) -> Shapes:
    """Place random meshes, of the `chosen` indices, on points, rotated about y.

    Half of them have their own colors.
    """
    shape = (floor.shape[0], floor.shape[1])
    mesh = chosen[rng.integers(0, len(chosen), *shape)]
    half = meshes.half[mesh] * scale[..., None] * rng.uniform(0.85, 1.2, *shape, 3)
    center = floor - half * rng.tensor([0.0, 1.0, 0.0])
    axes = rotation_y(rng.uniform(0, math.tau, *shape))
    parts = make_shapes(rng, MESH, center, half, axes, plain=0.4, tile=(0.1, 1.0))
    return replace(parts, mesh=mesh, petals=rng.bernoulli(0.5, *shape).float())


def as_fixed(parts: Shapes) -> Shapes:
    """Mark shapes that stay however near a camera is."""
    return replace(parts, fixed=torch.ones_like(parts.fixed))


def table(rng: Rng, scenes: int) -> Shapes:
    """Build a board on four legs, with things on it."""
    width, depth = rng.uniform(0.35, 0.9, scenes, 1), rng.uniform(0.3, 0.5, scenes, 1)
    height = rng.uniform(0.4, 0.8, scenes, 1)
    sign_x = rng.tensor([-1.0, 1, -1, 1])
    sign_z = rng.tensor([-1.0, -1, 1, 1])
    thick = rng.uniform(0.015, 0.04, scenes, 1)
    top = make_shapes(rng, BOX, xyz(0, -height, 0), xyz(width, thick, depth))
    legs_at = xyz(sign_x * (width - 0.05), -height / 2, sign_z * (depth - 0.05))
    legs = make_shapes(rng, BOX, legs_at, xyz(thick, height / 2, thick).expand_as(legs_at))
    things = clutter(rng, scenes, 6, width * 0.85, depth * 0.8, 0.03, 0.14)
    things = replace(things, center=things.center - xyz(0, height + thick, 0))
    return join([share_appearance(join([top, legs])), keep_each(rng, things, 0.7)])


def clutter(
    rng: Rng, scenes: int, count: int, width: Tensor, depth: Tensor, small: float, large: float
) -> Shapes:
    """Build small things of all kinds that stand on y = 0 within +-width, +-depth."""
    half = rng.log_uniform(small, large, scenes, count, 3)
    where = xyz(
        rng.uniform(-1, 1, scenes, count) * width,
        -half[..., 1],
        rng.uniform(-1, 1, scenes, count) * depth,
    )
    kind = rng.integers(BOX, CARD, scenes, count)
    round_half = torch.where((kind == CYLINDER)[..., None], half[..., [0, 1, 0]], half)
    axes = rotation_y(rng.uniform(0, math.tau, scenes, count))
    things = make_shapes(rng, kind, where, round_half, axes, plain=0.2, tile=(0.05, 0.4))
    once = rng.bernoulli(0.5, scenes, count)
    return replace(things, tile=torch.where(once, 0.0, things.tile))


def chair(rng: Rng, scenes: int) -> Shapes:
    """Build a seat, a back and four legs."""
    side = rng.uniform(0.18, 0.3, scenes, 1)
    seat = rng.uniform(0.38, 0.5, scenes, 1)
    back = rng.uniform(0.2, 0.45, scenes, 1)
    thin = rng.uniform(0.012, 0.03, scenes, 1)
    sign_x = rng.tensor([0.0, 0, -1, 1, -1, 1])
    sign_z = rng.tensor([0.0, 1, -1, -1, 1, 1])
    y = torch.cat([-seat, -seat - back, *[-seat / 2] * 4], dim=1)
    half_x = torch.cat([side, side, *[thin] * 4], dim=1)
    half_y = torch.cat([thin * 1.5, back, *[seat / 2] * 4], dim=1)
    half_z = torch.cat([side, thin, *[thin] * 4], dim=1)
    center = xyz(sign_x * (side - thin), y, sign_z * (side - thin))
    return share_appearance(make_shapes(rng, BOX, center, xyz(half_x, half_y, half_z)))


def shelf(rng: Rng, scenes: int) -> Shapes:
    """Build boards between two sides, full of small things; its back is at z = 0."""
    width, height = rng.uniform(0.3, 0.7, scenes, 1), rng.uniform(0.6, 1.1, scenes, 1)
    depth, thin = rng.uniform(0.1, 0.2, scenes, 1), rng.uniform(0.01, 0.02, scenes, 1)
    level = torch.linspace(0.02, 0.98, 5, device=rng.device) * 2 * height
    boards_at = xyz(0, -level, -depth)
    boards_half = xyz(width, thin, depth).expand_as(boards_at)
    side = rng.tensor([-1.0, 1]) * width
    sides_at = xyz(side, -height, -depth)
    sides_half = xyz(thin, height, depth).expand_as(sides_at)
    center, half = torch.cat([boards_at, sides_at], 1), torch.cat([boards_half, sides_half], 1)
    frame = make_shapes(rng, BOX, center, half)
    things = clutter(rng, scenes, 20, width * 0.9, depth * 0.6, 0.02, 0.11)
    board = level[:, rng.integers(0, 4, 20)] + thin
    standing = xyz(things.center[..., 0], things.center[..., 1] - board, -depth)
    return join([share_appearance(frame), keep_each(rng, replace(things, center=standing), 0.8)])


def sofa(rng: Rng, scenes: int) -> Shapes:
    """Build a seat, a back and two arms, most in plain colors."""
    width, depth = rng.uniform(0.5, 1.1, scenes, 1), rng.uniform(0.35, 0.5, scenes, 1)
    x = rng.tensor([0.0, 0, -1, 1]) * width
    z = rng.tensor([0.0, 1, 0, 0]) * depth
    y = rng.tensor([-0.2, -0.45, -0.3, -0.3])
    arm = rng.tensor([0.1, 0.1]).expand(scenes, 2)
    half_x = torch.cat([width, width, arm], 1)
    half_y = rng.tensor([0.2, 0.4, 0.3, 0.3])
    half_z = torch.cat([depth, depth * 0.25, depth, depth], 1)
    parts = make_shapes(rng, BOX, xyz(x, y, z), xyz(half_x, half_y, half_z), plain=0.6)
    return share_appearance(parts)


def tree(rng: Rng, scenes: int) -> Shapes:
    """Build a trunk, clumps of foliage and cards for leaves."""
    height, radius = rng.uniform(1.5, 4, scenes, 1), rng.uniform(0.08, 0.25, scenes, 1)
    trunk_half = xyz(radius, height / 2, radius)
    trunk = make_shapes(rng, CYLINDER, xyz(0, -height / 2, 0), trunk_half)
    spread = rng.uniform(0.5, 1.6, scenes, 1)
    at = rng.normal(scenes, 24, 3) * spread[..., None] * 0.6
    at = at - xyz(0, height + 0.5 * spread, 0)
    clumps = rng.uniform(0.3, 0.7, scenes, 6, 3) * spread[..., None]
    leaves = rng.uniform(0.1, 0.35, scenes, 18, 3) * spread[..., None]
    axes = random_rotations(rng, scenes, 24)
    green = rng.uniform(0.25, 0.9, scenes, 1, 1) * rng.tensor([0.75, 1.1, 0.5])
    foliage = join([
        make_shapes(rng, ELLIPSOID, at[:, :6], clumps, axes[:, :6], plain=0, tile=(0.3, 1.0)),
        make_shapes(rng, CARD, at[:, 6:], leaves, axes[:, 6:], plain=0, tile=(0.3, 1.0)),
    ])  # fmt: skip
    shade = rng.log_uniform(0.6, 1.6, scenes, 24, 1)
    petals = torch.where(foliage.kind == CARD, rng.integers(0, 7, scenes, 24).float(), 0.0)
    return join([trunk, replace(share_appearance(foliage), tint=green * shade, petals=petals)])


def car(rng: Rng, scenes: int) -> Shapes:
    """Build a body, a cabin and wheels."""
    x = rng.tensor([0.0, 0.1, -0.7, 0.7, -0.7, 0.7])
    y = rng.tensor([-0.6, -1.1, -0.3, -0.3, -0.3, -0.3])
    z = rng.tensor([0.0, 0.0, -1.2, -1.2, 1.2, 1.2])
    half = rng.tensor([[0.8, 0.35, 2.0], [0.7, 0.3, 1.1], *[[0.3, 0.12, 0.3]] * 4])
    kind = rng.tensor([BOX, BOX, *[CYLINDER] * 4]).expand(scenes, 6)
    lying = rng.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, -1]])
    upright = torch.eye(3, device=rng.device)
    axes = torch.stack([upright, upright, *[lying] * 4]).expand(scenes, 6, 3, 3)
    parts = make_shapes(
        rng, kind, xyz(x, y, z).expand(scenes, 6, 3), half.expand(scenes, 6, 3), axes, 0.8
    )
    return replace(parts, gloss=rng.uniform(0.2, 0.8, scenes, 6))


def cabinet(rng: Rng, scenes: int) -> Shapes:
    """Build a box with doors, and things on top."""
    half = xyz(
        rng.uniform(0.2, 0.6, scenes, 1),
        rng.uniform(0.2, 1.0, scenes, 1),
        rng.uniform(0.2, 0.35, scenes, 1),
    )
    center = half * rng.tensor([0.0, -1, 0])
    body = make_shapes(rng, BOX, center, half, plain=0.5)
    side = rng.tensor([-0.5, 0.5])
    door_at = center + xyz(side * half[..., 0], 0, -half[..., 2])
    door_half = half * rng.tensor([0.46, 0.9, 0.03]).expand(1, 2, 3)
    doors = make_shapes(rng, BOX, door_at, door_half)
    things = clutter(rng, scenes, 3, half[:, :, 0] * 0.8, half[:, :, 2] * 0.8, 0.04, 0.2)
    things = replace(things, center=things.center + 2 * center)
    return join([body, share_appearance(keep_scenes(rng, doors, 0.6)), things])
