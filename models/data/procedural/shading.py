"""Colors of the points that rays meet: filtered textures, soft light, shadows, gloss."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.data.procedural.shapes import (
    CARD,
    CYLINDER,
    ELLIPSOID,
    TERRAIN,
    Shapes,
    height_at,
    unit,
)

_CHUNK = 500_000  # points shaded in one go: bounds the memory


@dataclass(frozen=True)
class Light:
    """One lamp or sun per scene, and the light that comes from everywhere."""

    position: Float[Tensor, "scene 3"]
    color: Float[Tensor, "scene 3"]
    ambient: Float[Tensor, "scene 3"]
    reach: Float[Tensor, " scene"]  # distance at which the lamp has lost half of its strength
    walls: Float[Tensor, "scene 2 3"]  # low and high corner of the space: its creases are darker


@dataclass(frozen=True)
class Atlas:
    """Textures with all their half-size levels, as rows of RGB."""

    rows: Float[Tensor, "row 3"]
    starts: Int[Tensor, " level"]  # row of each level's first texel in the first texture
    sizes: Int[Tensor, "level 2"]  # (height, width)
    per_texture: int  # rows


@dataclass(frozen=True)
class Points:
    """Where rays hit."""

    scene: Int[Tensor, " point"]
    shape: Int[Tensor, " point"]
    position: Float[Tensor, "point 3"]
    direction: Float[Tensor, "point 3"]  # of the ray, unit
    footprint: Float[Tensor, " point"]  # length across the ray that it stands for
    light: Float[Tensor, " point"]  # share of the lamp that arrives


def build_atlas(textures: Float[Tensor, "texture 3 height width"]) -> Atlas:
    """Average textures down to single texels."""
    levels, sizes = [], []
    while True:
        levels.append(textures.permute(0, 2, 3, 1).flatten(1, 2))
        sizes.append(tuple(textures.shape[-2:]))
        if sizes[-1] == (1, 1):
            break
        kernel = tuple(min(2, extent) for extent in sizes[-1])
        textures = torch.nn.functional.avg_pool2d(textures, kernel)
    starts = torch.tensor([0] + [level.shape[1] for level in levels[:-1]]).cumsum(0)
    rows = torch.cat(levels, dim=1)
    return Atlas(
        rows.flatten(0, 1),
        starts.to(rows.device),
        torch.tensor(sizes, device=rows.device),
        rows.shape[1],
    )


def sample(
    atlas: Atlas,
    texture: Int[Tensor, " point"],
    repeats: Float[Tensor, "point 2"],
    lod: Float[Tensor, " point"],
) -> Float[Tensor, "point 3"]:
    """Trilinear, mirrored at every repeat; `lod` = log2(repeats that a ray covers)."""
    level = (lod + atlas.sizes[0].amax().log2()).clamp(0, len(atlas.starts) - 1)
    finer = level.floor()
    coarser = (finer + 1).clamp(max=len(atlas.starts) - 1)
    folded = 1 - (1 - repeats.remainder(2)).abs()
    fine = _bilinear(atlas, texture, folded, finer.long())
    return torch.lerp(
        fine,
        _bilinear(atlas, texture, folded, coarser.long()),
        (level - finer)[:, None],
    )


def _bilinear(atlas: Atlas, texture: Tensor, place: Tensor, level: Tensor) -> Tensor:
    height, width = atlas.sizes.index_select(0, level).unbind(-1)
    x = (place[:, 0] * width - 0.5).clamp_min(0).minimum(width - 1)
    y = (place[:, 1] * height - 0.5).clamp_min(0).minimum(height - 1)
    left, top = x.long(), y.long()
    across, down = (x - left)[:, None], (y - top)[:, None]
    step_x = (left + 1 < width).long()
    step_y = (top + 1 < height).long() * width
    row = texture * atlas.per_texture + atlas.starts.index_select(0, level) + top * width + left
    rows = atlas.rows
    upper = torch.lerp(rows.index_select(0, row), rows.index_select(0, row + step_x), across)
    row = row + step_y
    lower = torch.lerp(rows.index_select(0, row), rows.index_select(0, row + step_x), across)
    return torch.lerp(upper, lower, down)


def shade(
    shapes: Shapes,
    heights: Float[Tensor, "scene n n"],
    light: Light,
    atlas: Atlas,
    textures: Int[Tensor, "scene texture"],
    points: Points,
) -> Float[Tensor, "point 3"]:
    """Colors, a bounded number of points at a time."""
    flat = shapes.map(lambda value: value.flatten(0, 1))
    colors = []
    for start in range(0, len(points.scene), _CHUNK):
        part = Points(*(value[start : start + _CHUNK] for value in vars(points).values()))
        which = part.scene * shapes.kind.shape[1] + part.shape
        local = torch.einsum(
            "pi,pij->pj",
            part.position - flat.center.index_select(0, which),
            flat.axes.index_select(0, which),
        )
        normal = _local_normal(flat, which, local, heights, part.scene)
        surface = _surface_color(flat, which, local, normal, atlas, textures, part)
        world_normal = torch.einsum("pij,pj->pi", flat.axes.index_select(0, which), normal)
        colors.append(_lit(surface, world_normal, flat.gloss.index_select(0, which), light, part))
    return torch.cat(colors)


def _local_normal(
    flat: Shapes, which: Tensor, local: Tensor, heights: Tensor, scene: Tensor
) -> Tensor:
    kind, half = flat.kind.index_select(0, which), flat.half.index_select(0, which)
    inside = local / half.clamp_min(1e-6)
    face = torch.nn.functional.one_hot(inside.abs().argmax(-1), 3) * local.sign()
    on_side = local.new_tensor([1.0, 0.0, 1.0])
    is_cap = (inside[:, 1].abs() > 0.9999)[:, None]
    cap = local.sign() * local.new_tensor([0.0, 1.0, 0.0])
    normal = torch.where((kind == ELLIPSOID)[:, None], inside / half.clamp_min(1e-6), face)
    side = torch.where(is_cap, cap, inside / half.clamp_min(1e-6) * on_side)
    normal = torch.where((kind == CYLINDER)[:, None], side, normal)
    normal = torch.where((kind == CARD)[:, None], local.new_tensor([0.0, 0.0, 1.0]), normal)
    ground = (kind == TERRAIN).nonzero()[:, 0]
    if len(ground):
        normal = normal.index_copy(
            0, ground, _slope(half[ground], inside[ground], heights, scene[ground])
        )
    return unit(normal)


def _slope(half: Tensor, inside: Tensor, heights: Tensor, scene: Tensor) -> Tensor:
    step = 0.5 / heights.shape[-1]

    def rise(x: float | int, z: float | int) -> Tensor:
        return height_at(heights, scene, inside[:, :1] + x, inside[:, 2:] + z)[:, 0]

    along_x = (rise(step, 0) - rise(-step, 0)) / (2 * step) * half[:, 1] / half[:, 0]
    along_z = (rise(0, step) - rise(0, -step)) / (2 * step) * half[:, 1] / half[:, 2]
    return torch.stack([-along_x, -torch.ones_like(along_x), -along_z], dim=-1)


def _surface_color(
    flat: Shapes, which: Tensor, local: Tensor, normal: Tensor,
    atlas: Atlas, textures: Tensor, points: Points,
) -> Tensor:  # fmt: skip
    """The texture seen along the axis nearest to the normal, tinted and faded to plain paint."""
    axis = normal.abs().argmax(-1)
    axis = torch.where(flat.kind.index_select(0, which) == TERRAIN, 1, axis)
    u, v = (
        (axis == 0).long() * 2,
        2 - (axis != 2).long(),
    )  # x: (z, y); y: (x, z); z: (x, y)
    v = torch.where(axis == 0, 1, torch.where(axis == 1, 2, 1))
    pair = torch.stack([u, v], dim=-1)
    position, extent = (
        local.gather(1, pair),
        2 * flat.half.index_select(0, which).gather(1, pair),
    )
    tile = flat.tile.index_select(0, which)[:, None]
    once = (tile == 0).expand_as(extent)
    repeats = torch.where(once, position / extent.clamp_min(1e-6) + 0.5, position / tile)
    shift = flat.offset.index_select(0, which) + axis[:, None] * 0.37
    repeats = torch.where(once, repeats, repeats + shift)
    length = torch.where(once, extent, tile.expand_as(extent)).amin(-1)
    facing = torch.einsum(
        "pi,pij,pj->p", points.direction, flat.axes.index_select(0, which), normal
    ).abs()
    covered = points.footprint / facing.clamp_min(0.05).sqrt()
    lod = (covered / length.clamp_min(1e-6)).clamp_min(1e-6).log2()
    texture = textures[points.scene, flat.texture.index_select(0, which)]
    color = sample(atlas, texture, repeats, lod)
    mean = atlas.rows.index_select(0, texture * atlas.per_texture + atlas.starts[-1])
    contrast = flat.contrast.index_select(0, which)[:, None]
    paint = 0.25 + 0.5 * mean
    return torch.lerp(paint, color, contrast) * flat.tint.index_select(0, which)


def _lit(surface: Tensor, normal: Tensor, gloss: Tensor, light: Light, points: Points) -> Tensor:
    scene, view = points.scene, points.direction
    normal = torch.where((normal * view).sum(-1, keepdim=True) > 0, -normal, normal)
    to_lamp = light.position.index_select(0, scene) - points.position
    distance = to_lamp.square().sum(-1).sqrt()
    to_lamp = to_lamp / distance[:, None]
    diffuse = ((normal * to_lamp).sum(-1) + 0.15).clamp_min(0) / 1.15
    strength = points.light / (1 + (distance / light.reach.index_select(0, scene)).square())
    half_way = unit(to_lamp - view)
    shine = (normal * half_way).sum(-1).clamp_min(0).pow(30) * gloss * strength
    walls = light.walls.index_select(0, scene)
    gaps = torch.stack([points.position - walls[:, 0], walls[:, 1] - points.position], dim=-1)
    crease = (1 - 0.35 * torch.exp(-gaps.clamp_min(0).flatten(1) * 3.0)).prod(-1) / 0.65
    sky = 0.75 - 0.25 * normal[:, 1]
    ambient = light.ambient.index_select(0, scene) * (sky * crease.clamp(0.4, 1))[:, None]
    color = surface * (ambient + light.color.index_select(0, scene) * (diffuse * strength)[:, None])
    return color + light.color.index_select(0, scene) * shine[:, None]


def sky_color(
    atlas: Atlas, texture: Int[Tensor, " point"], direction: Float[Tensor, "point 3"],
    footprint: Float[Tensor, " point"],
) -> Float[Tensor, "point 3"]:  # fmt: skip
    """A texture infinitely far away, brighter than the ground."""
    around = torch.atan2(direction[:, 0], direction[:, 2]) * 0.8
    repeats = torch.stack([around, direction[:, 1].asin() * 0.8 + 0.5], dim=-1)
    sampled = sample(atlas, texture, repeats, (footprint * 0.8).clamp_min(1e-6).log2())
    mean = atlas.rows.index_select(0, texture * atlas.per_texture + atlas.starts[-1])
    return 0.3 + 0.7 * torch.lerp(mean, sampled, 0.6)
