"""Photos of scenes: one ray per pixel, four more where things meet."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.data.procedural.atlas import Atlas
from models.data.procedural.meshes import Meshes
from models.data.procedural.scenes import Scenes
from models.data.procedural.shading import Points, panorama_color, shade, sky_color
from models.data.procedural.shapes import FAR, Shapes, Tiles, trace, unit

_TILE = 8  # pixels along each side of a bundle of rays
_BUNDLE = 16  # pixels whose extra rays are traced together
_EXTRA = (
    (-0.375, -0.125),
    (0.125, -0.375),
    (0.375, 0.125),
    (-0.125, 0.375),
)  # pixels off center
_CREASE = 0.003  # relative bend of inverse depth that counts as an edge


@dataclass(frozen=True)
class Looks:
    """What a photo shows besides shapes."""

    atlas: Atlas
    textures: Int[Tensor, "scene texture"]  # rows of the atlas; a scene's first one is its sky
    shadow: Float[Tensor, " scene"]  # how dark shadows are
    meshes: Meshes | None = None
    panoramas: Atlas | None = None
    panorama: Int[Tensor, " scene"] | None = None  # which one is a scene's sky; -1: a texture is
    turn: Float[Tensor, " scene"] | None = None  # of that panorama, radians


def photograph(
    scenes: Scenes,
    shapes: Shapes,
    looks: Looks,
    cam2world: Float[Tensor, "scene 4 4"],
    intrinsics: Float[Tensor, "scene 3 3"],
    size: tuple[int, int],
) -> tuple[Float[Tensor, "scene 3 height width"], Float[Tensor, "scene height width"]]:
    """Images (not yet exposed: any positive value) and depth maps of one view of every scene."""
    rows, columns = -(-size[0] // _TILE), -(-size[1] // _TILE)
    tiles, across = _camera_tiles(cam2world, intrinsics, size, rows, columns)
    t, shape, triangle = look(shapes, scenes.heights, looks, tiles)
    light = _lamp_share(scenes, shapes, looks, tiles, t, rows, columns)
    pixel = (1 / (intrinsics[:, 0, 0] * size[1]))[tiles.scene]
    color = _colors(scenes, shapes, looks, tiles, t, shape, triangle, light, pixel)
    edge = _tiled(_edges(_untile(t, rows, columns), _untile(shape, rows, columns)))
    tile, at = edge.nonzero(as_tuple=True)
    if len(tile):
        bundles, bundle, slot = _bundle(tiles, across, tile, at)
        more_t, more_shape, more_triangle = look(shapes, scenes.heights, looks, bundles)
        more_light = light.new_ones(more_t.shape).unflatten(1, (_BUNDLE, -1))
        more_light[bundle, slot] = light[tile, at][:, None]
        more_pixel = (1 / (intrinsics[:, 0, 0] * size[1]))[bundles.scene] / 2
        more = _colors(
            scenes,
            shapes,
            looks,
            bundles,
            more_t,
            more_shape,
            more_triangle,
            more_light.flatten(1),
            more_pixel,
        )
        extra = more.unflatten(1, (_BUNDLE, -1))[bundle, slot].sum(1)
        color[tile, at] = (color[tile, at] + extra) / (1 + len(_EXTRA))
    image = _untile(color.permute(2, 0, 1).flatten(0, 1), rows, columns)
    image = image.unflatten(0, (3, -1)).transpose(0, 1)
    depth = _untile(t, rows, columns)
    return image[..., : size[0], : size[1]], depth[..., : size[0], : size[1]]


def look(
    shapes: Shapes, heights: Float[Tensor, "scene n n"], looks: Looks, tiles: Tiles
) -> tuple[Float[Tensor, "tile ray"], Int[Tensor, "tile ray"], Int[Tensor, "tile ray"]]:
    """What rays meet, as `trace` says it; through openings, the sky."""
    t, shape, triangle = trace(shapes, heights, tiles, meshes=looks.meshes)
    through = shapes.opening[tiles.scene[:, None], shape.clamp_min(0)] & (shape >= 0)
    return torch.where(through, FAR, t), torch.where(through, -1, shape), triangle


def _sky(looks: Looks, scene: Tensor, direction: Tensor, pixel: Tensor) -> Tensor:
    color = sky_color(looks.atlas, looks.textures[scene, 0], direction, pixel)
    if looks.panoramas is None or looks.panorama is None or looks.turn is None:
        return color
    which = looks.panorama[scene]
    seen = panorama_color(looks.panoramas, which.clamp_min(0), looks.turn[scene], direction, pixel)
    return torch.where((which >= 0)[:, None], seen, color)


def _camera_tiles(
    cam2world: Tensor,
    intrinsics: Tensor,
    size: tuple[int, int],
    rows: int,
    columns: int,
) -> tuple[Tiles, Float[Tensor, "scene 3 2"]]:
    """Square bundles of camera rays with z = 1, and how rays change from pixel to pixel."""
    device = cam2world.device
    y = torch.arange(rows * _TILE, device=device).view(rows, 1, _TILE, 1) + 0.5
    x = torch.arange(columns * _TILE, device=device).view(1, columns, 1, _TILE) + 0.5
    y, x = torch.broadcast_tensors(y / size[0], x / size[1])
    on_image = torch.stack([x, y, torch.ones_like(x)]).flatten(3).flatten(1, 2)  # 3 tile ray
    back = cam2world[:, :3, :3] @ torch.linalg.inv(intrinsics)
    directions = torch.einsum("sij,jtr->stir", back, on_image).flatten(0, 1)
    scene = torch.arange(len(cam2world), device=device).repeat_interleave(rows * columns)
    across = back[:, :, :2] / torch.tensor([size[1], size[0]], device=device)
    return Tiles(scene, cam2world[scene, :3, 3], directions), across


def _untile(value: Tensor, rows: int, columns: int) -> Tensor:
    """From `(scene row column) (y x)` to `scene height width`."""
    grid = value.unflatten(1, (_TILE, _TILE)).unflatten(0, (-1, rows, columns))
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _tiled(value: Tensor) -> Tensor:
    """The inverse of `_untile`."""
    grid = value.unflatten(2, (-1, _TILE)).unflatten(1, (-1, _TILE))
    return grid.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def _edges(t: Tensor, shape: Tensor) -> Bool[Tensor, "scene height width"]:
    """Pixels beside another shape, or where a surface bends."""
    edge = torch.zeros_like(shape, dtype=torch.bool)
    other = shape[:, :, 1:] != shape[:, :, :-1]
    edge[:, :, 1:] |= other
    edge[:, :, :-1] |= other
    other = shape[:, 1:] != shape[:, :-1]
    edge[:, 1:] |= other
    edge[:, :-1] |= other
    near = 1 / t
    bend = (near[:, :, 2:] + near[:, :, :-2] - 2 * near[:, :, 1:-1]).abs()
    edge[:, :, 1:-1] |= bend > _CREASE * near[:, :, 1:-1]
    bend = (near[:, 2:] + near[:, :-2] - 2 * near[:, 1:-1]).abs()
    edge[:, 1:-1] |= bend > _CREASE * near[:, 1:-1]
    return edge


def _bundle(tiles: Tiles, across: Tensor, tile: Tensor, at: Tensor) -> tuple[Tiles, Tensor, Tensor]:
    """The extra rays of pixels `at` of each `tile`; which bundle and slot each pixel went to."""
    count = torch.bincount(tile, minlength=len(tiles.scene))
    rank = torch.arange(len(tile), device=tile.device) - (count.cumsum(0) - count)[tile]
    bundles = (count + _BUNDLE - 1) // _BUNDLE
    source = torch.arange(len(count), device=tile.device).repeat_interleave(bundles)
    bundle, slot = (bundles.cumsum(0) - bundles)[tile] + rank // _BUNDLE, rank % _BUNDLE
    extra = across.new_tensor(_EXTRA)
    directions = tiles.directions[source].mean(-1)[:, None, None].repeat(1, _BUNDLE, len(extra), 1)
    shift = torch.einsum("pij,ej->pei", across[tiles.scene[tile]], extra)
    directions[bundle, slot] = tiles.directions[tile, :, at][:, None] + shift
    rays = directions.flatten(1, 2).mT.contiguous()
    return Tiles(tiles.scene[source], tiles.origins[source], rays), bundle, slot


def _lamp_share(
    scenes: Scenes, shapes: Shapes, looks: Looks, tiles: Tiles, t: Tensor,
    rows: int, columns: int,
) -> Float[Tensor, "tile ray"]:  # fmt: skip
    """How much of the lamp's light arrives; soft at the edges of shadows."""
    lamp = scenes.light.position[tiles.scene]
    hit = tiles.origins[..., None] + tiles.directions * t[:, None]
    to_hit = Tiles(tiles.scene, lamp, hit - lamp[..., None])
    blocked = trace(shapes, scenes.heights, to_hit, 0.995, looks.meshes)[1] >= 0
    hard = _untile(1 - blocked * looks.shadow[tiles.scene, None], rows, columns)
    padded = torch.nn.functional.pad(hard[:, None], (1, 1, 1, 1), mode="replicate")
    return _tiled(torch.nn.functional.avg_pool2d(padded, 3, stride=1)[:, 0])


def _colors(
    scenes: Scenes, shapes: Shapes, looks: Looks, tiles: Tiles, t: Tensor, shape: Tensor,
    triangle: Tensor, light: Tensor, pixel: Tensor,
) -> Float[Tensor, "tile ray 3"]:  # fmt: skip
    directions = tiles.directions.mT.flatten(0, 1)
    scene = tiles.scene.repeat_interleave(t.shape[1])
    pixel = pixel.repeat_interleave(t.shape[1])
    flat_t, flat_shape = t.flatten(), shape.flatten()
    hit, miss = (flat_shape >= 0).nonzero()[:, 0], (flat_shape < 0).nonzero()[:, 0]
    origin = tiles.origins.repeat_interleave(t.shape[1], dim=0)
    ray, distance = directions.index_select(0, hit), flat_t.index_select(0, hit)
    points = Points(
        scene=scene.index_select(0, hit),
        shape=flat_shape.index_select(0, hit),
        triangle=triangle.flatten().index_select(0, hit),
        position=origin.index_select(0, hit) + ray * distance[:, None],
        direction=unit(ray),
        footprint=distance * pixel.index_select(0, hit),
        light=light.flatten().index_select(0, hit),
    )
    color = torch.empty(len(flat_t), 3, device=t.device)
    color[hit] = shade(
        shapes, scenes.heights, scenes.light, looks.atlas, looks.textures, looks.meshes, points
    )
    color[miss] = _sky(looks, scene[miss], unit(directions[miss]), pixel[miss])
    return color.unflatten(0, t.shape)
