"""Shading of the points that rays hit: textures, Blinn-Phong reflection, ambient light."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.data.procedural.atlas import Atlas, sample_atlas
from models.data.procedural.heightfield import height_at
from models.data.procedural.meshes import CLUSTER_SIZE, Meshes, barycentric
from models.data.procedural.scenes import Light, Scenes
from models.data.procedural.shapes import (
    CARD,
    CUDA_FACTOR,
    CYLINDER,
    ELLIPSOID,
    MESH,
    TERRAIN,
    Shapes,
    unit,
)

_MAX_POINTS = 500_000  # shaded at a time: bounds the memory


@dataclass(frozen=True)
class Appearance:
    """All that views show besides shapes and light."""

    atlas: Atlas
    textures: Int[Tensor, "scene texture"]  # of the atlas; a scene's first one is its sky
    shadow: Float[Tensor, " scene"]  # share of the lamp's light that shadows lack
    meshes: Meshes | None = None
    panoramas: Atlas | None = None
    panorama: Int[Tensor, " scene"] | None = None  # which one is a scene's sky; -1: a texture is
    turn: Float[Tensor, " scene"] | None = None  # of that panorama about y, radians


@dataclass(frozen=True)
class Points:
    """Hits of rays on surfaces."""

    scene: Int[Tensor, " point"]
    shape: Int[Tensor, " point"]
    triangle: Int[Tensor, " point"]  # of the mesh, where the shape is one
    position: Float[Tensor, "point 3"]
    direction: Float[Tensor, "point 3"]  # of the ray, unit
    footprint: Float[Tensor, " point"]  # length across the ray that it stands for
    light: Float[Tensor, " point"]  # share of the lamp that arrives


def shade(scenes: Scenes, appearance: Appearance, points: Points) -> Float[Tensor, "point 3"]:
    """Return the radiance of points towards their rays' origins, some points at a time."""
    colors = []
    chunk = _MAX_POINTS * (CUDA_FACTOR if points.scene.is_cuda else 1)
    for start in range(0, len(points.scene), chunk):
        part = Points(*(value[start : start + chunk] for value in vars(points).values()))
        shapes = scenes.shapes.select(part.scene * scenes.shapes.kind.shape[1] + part.shape)
        local = torch.einsum("pi,pij->pj", part.position - shapes.center, shapes.axes)
        normal = _local_normal(shapes, local, scenes.heights, part.scene)
        meshes = appearance.meshes
        solid = shapes.kind[:0] if meshes is None else (shapes.kind == MESH).nonzero()[:, 0]
        if meshes and len(solid):
            hits = _mesh_hits(meshes, shapes.select(solid), part.triangle[solid], local[solid])
            normal = normal.index_copy(0, solid, hits.normal)
        surface = _surface_color(shapes, local, normal, appearance, part)
        if meshes and len(solid):
            own = _mesh_color(meshes, hits, surface[solid], part.footprint[solid])
            surface = surface.index_copy(0, solid, own)
        world_normal = torch.einsum("pij,pj->pi", shapes.axes, normal)
        colors.append(_blinn_phong(surface, world_normal, shapes.gloss, scenes.light, part))
    return torch.cat(colors)


def _local_normal(shapes: Shapes, local: Tensor, heights: Tensor, scene: Tensor) -> Tensor:
    kind, half = shapes.kind, shapes.half
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
        slope = _heightfield_normal(half[ground], inside[ground], heights, scene[ground])
        normal = normal.index_copy(0, ground, slope)
    return unit(normal)


@dataclass(frozen=True)
class _MeshHits:
    """Hits on triangles of meshes, in their shapes' axes."""

    normal: Float[Tensor, "point 3"]
    uv: Float[Tensor, "point 2"]
    uv_per_meter: Float[Tensor, " point"]
    material: Int[Tensor, " point"]
    own: Float[Tensor, "point 1"]  # 1 where a mesh has the colors that it came with


def _mesh_hits(meshes: Meshes, shapes: Shapes, triangle: Tensor, local: Tensor) -> _MeshHits:
    half = shapes.half
    triangle = meshes.first[shapes.mesh] * CLUSTER_SIZE + triangle
    corners, uvs = meshes.corners[triangle], meshes.uvs[triangle]
    weights = barycentric(corners, local / half)
    edges = (corners[:, 1:] - corners[:, :1]) * half[:, None]
    normal = torch.linalg.cross(*edges.unbind(1))
    length = edges.norm(dim=-1).amax(1).clamp_min(1e-6)
    across = (uvs[:, 1:] - uvs[:, :1]).norm(dim=-1).amax(1)
    return _MeshHits(
        normal=unit(normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-20)),
        uv=(weights[..., None] * uvs).sum(1),
        uv_per_meter=across / length,
        material=meshes.material[triangle],
        own=shapes.petals[:, None],
    )


def _mesh_color(meshes: Meshes, hits: _MeshHits, made_up: Tensor, footprint: Tensor) -> Tensor:
    """Blend a mesh's own colors and made-up ones, which differ a little by material."""
    texture_index = meshes.texture_index[hits.material]
    lod = (footprint * hits.uv_per_meter).clamp_min(1e-6).log2()
    textured = sample_atlas(meshes.atlas, texture_index.clamp_min(0), hits.uv.remainder(1), lod)
    brought = torch.where((texture_index >= 0)[:, None], textured, meshes.color[hits.material])
    jitter = (hits.material[:, None] * made_up.new_tensor([12.9, 78.2, 37.7])).sin()
    return torch.lerp(made_up * (1 + 0.35 * jitter), brought, hits.own)


def _heightfield_normal(half: Tensor, inside: Tensor, heights: Tensor, scene: Tensor) -> Tensor:
    step = 0.5 / heights.shape[-1]

    def rise(x: float | int, z: float | int) -> Tensor:
        return height_at(heights, scene, inside[:, :1] + x, inside[:, 2:] + z)[:, 0]

    along_x = (rise(step, 0) - rise(-step, 0)) / (2 * step) * half[:, 1] / half[:, 0]
    along_z = (rise(0, step) - rise(0, -step)) / (2 * step) * half[:, 1] / half[:, 2]
    return torch.stack([-along_x, -torch.ones_like(along_x), -along_z], dim=-1)


def _surface_color(
    shapes: Shapes, local: Tensor, normal: Tensor, appearance: Appearance, points: Points
) -> Tensor:
    """Look up textures by box projection, blend them with plain paint, and tint them."""
    axis = torch.where(shapes.kind == TERRAIN, 1, normal.abs().argmax(-1))
    pair = axis.new_tensor([[2, 1], [0, 2], [0, 1]])[axis]  # the other two axes: (u, v)
    position, extent = local.gather(1, pair), 2 * shapes.half.gather(1, pair)
    tile = shapes.tile[:, None]
    once = (tile == 0).expand_as(extent)
    repeats = torch.where(once, position / extent.clamp_min(1e-6) + 0.5, position / tile)
    repeats = torch.where(once, repeats, repeats + (shapes.offset + axis[:, None] * 0.37))
    length = torch.where(once, extent, tile.expand_as(extent)).amin(-1)
    facing = torch.einsum("pi,pij,pj->p", points.direction, shapes.axes, normal).abs()
    covered = points.footprint / facing.clamp_min(0.05).sqrt()
    lod = (covered / length.clamp_min(1e-6)).clamp_min(1e-6).log2()
    texture = appearance.textures[points.scene, shapes.texture]
    color = sample_atlas(appearance.atlas, texture, repeats, lod)
    paint = 0.25 + 0.5 * appearance.atlas.mean(texture)
    return torch.lerp(paint, color, shapes.contrast[:, None]) * shapes.tint


def _blinn_phong(
    surface: Tensor, normal: Tensor, gloss: Tensor, light: Light, points: Points
) -> Tensor:
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
    look: Appearance, scene: Int[Tensor, " point"], direction: Float[Tensor, "point 3"],
    footprint: Float[Tensor, " point"],
) -> Float[Tensor, "point 3"]:  # fmt: skip
    """Look up the sky: a panorama where a scene has one, else a texture brighter than the ground.

    Panoramas are equirectangular, with their middle ahead, and turned about y.
    """
    azimuth, height = torch.atan2(direction[:, 0], direction[:, 2]), direction[:, 1]
    repeats = torch.stack([azimuth * 0.8, height.asin() * 0.8 + 0.5], dim=-1)
    texture, lod = look.textures[scene, 0], (footprint * 0.8).clamp_min(1e-6).log2()
    sampled = sample_atlas(look.atlas, texture, repeats, lod)
    color = 0.3 + 0.7 * torch.lerp(look.atlas.mean(texture), sampled, 0.6)
    if look.panoramas is None or look.panorama is None or look.turn is None:
        return color
    around = (azimuth + look.turn[scene]) / math.tau + 0.5
    place = torch.stack([around.remainder(1), height.clamp(-1, 1).asin() / math.pi + 0.5], dim=-1)
    which, lod = look.panorama[scene], (footprint / math.tau).clamp_min(1e-6).log2()
    there = sample_atlas(look.panoramas, which.clamp_min(0), place, lod)
    return torch.where((which >= 0)[:, None], there, color)
