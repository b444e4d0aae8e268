"""Shapes, and where packets of rays first hit them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.data.procedural.heightfield import MARCH_STEPS, intersect_heightfield
from models.data.procedural.meshes import Meshes, intersect_meshes

BOX, ELLIPSOID, CYLINDER, CARD, TERRAIN, MESH = range(6)
FAR = 1000.0  # depth of the sky, where a ray hits nothing
_MAX_PAIRS = 2_000_000  # of a ray and a shape, intersected at a time: bounds the memory
CUDA_FACTOR = 16  # times as many there, where launches of kernels take the time
_TRIANGLE_BITS = 20  # of a hit's code, behind the shape's index
_NO_HIT = 0xFFFFFFFF


@dataclass(frozen=True)
class Shapes:
    """The same number of shapes in every scene; those with `present` false are not there.

    `axes` (columns) and `center` take a shape's own axes to the world, and `half` is its half
    extent. Cylinders stand along y, cards are flat in z, terrain rises to -y.
    """

    kind: Int[Tensor, "*scene shape"]
    present: Bool[Tensor, "*scene shape"]
    fixed: Bool[Tensor, "*scene shape"]  # walls and ground: stay, however near a camera comes
    center: Float[Tensor, "*scene shape 3"]
    axes: Float[Tensor, "*scene shape 3 3"]
    half: Float[Tensor, "*scene shape 3"]
    # Of cards: 0 = ellipse, n = n-petalled, negative = rectangle. Of meshes: 1 = their own colors.
    petals: Float[Tensor, "*scene shape"]
    texture: Int[Tensor, "*scene shape"]  # which of the scene's textures
    tile: Float[Tensor, "*scene shape"]  # length of one repeat; 0 = once over the whole shape
    offset: Float[Tensor, "*scene shape 2"]  # of the texture, in repeats
    tint: Float[Tensor, "*scene shape 3"]
    contrast: Float[Tensor, "*scene shape"]  # of the texture; 0 = plain color
    gloss: Float[Tensor, "*scene shape"]
    mesh: Int[Tensor, "*scene shape"]  # which one, if the kind is MESH
    opening: Bool[Tensor, "*scene shape"]  # through which the sky is seen

    def map(self, change: Callable[[Tensor], Tensor]) -> "Shapes":
        """Apply a function to every tensor."""
        return Shapes(*map(change, vars(self).values()))

    def select(self, index: Int[Tensor, " selected"]) -> "Shapes":
        """Select shapes by their indices, scene after scene."""
        return self.map(lambda value: value.flatten(0, self.kind.ndim - 1).index_select(0, index))


def join(parts: list[Shapes]) -> Shapes:
    """Concatenate shapes of the same scenes."""
    values = zip(*(vars(part).values() for part in parts), strict=True)
    return Shapes(*(torch.cat(each, dim=1) for each in values))


def stack(scenes: list[Shapes]) -> Shapes:
    """Concatenate scenes; those with fewer shapes are padded with absent ones."""
    most = max(part.kind.shape[1] for part in scenes)

    def filled(value: Tensor) -> Tensor:
        missing = value.new_zeros(value.shape[0], most - value.shape[1], *value.shape[2:])
        return torch.cat([value, missing], dim=1)

    values = zip(*(vars(part.map(filled)).values() for part in scenes), strict=True)
    return Shapes(*(torch.cat(each) for each in values))


def distance_bound(
    shapes: Shapes, points: Float[Tensor, "scene point 3"]
) -> Float[Tensor, "scene point shape"]:
    """Return lower bounds of the distances to shapes: the distances to their boxes."""
    offset = points[:, :, None] - shapes.center[:, None]
    local = torch.einsum("spnj,snji->spni", offset, shapes.axes)
    return (local.abs() - shapes.half[:, None]).clamp_min(0).norm(dim=-1)


@dataclass(frozen=True)
class RayPackets:
    """Packets of rays with a common origin each; points are origin + t * direction."""

    scene: Int[Tensor, " packet"]
    origins: Float[Tensor, "packet 3"]
    directions: Float[Tensor, "packet 3 ray"]


class Hits(NamedTuple):
    """The nearest hits of rays in packets."""

    t: Float[Tensor, "packet ray"]
    shape: Int[Tensor, "packet ray"]  # index in the scene; -1: none is hit
    triangle: Int[Tensor, "packet ray"]  # of the mesh, where the shape is one


def intersect_shapes(
    shapes: Shapes,
    heights: Float[Tensor, "scene n n"],
    packets: RayPackets,
    limit: float | int = FAR,
    meshes: Meshes | None = None,
) -> Hits:
    """Find the nearest hit of every ray; `limit` is t where nothing nearer is hit.

    Pairs of a packet and a shape whose bounding cone and sphere overlap are intersected by kind;
    the nearest hit is the minimum of 64-bit keys, t before shape and triangle. Without `meshes`,
    the boxes of shapes of kind MESH are hit.
    """
    cone = _bounding_cones(packets)
    tile, shape = _touched_shapes(shapes, packets, cone).nonzero(as_tuple=True)
    index = shapes.kind.shape[1] * packets.scene[tile] + shape
    kinds = shapes.kind.flatten()[index]
    rays = packets.directions.shape[-1]
    bits = torch.full((), limit, device=tile.device).view(torch.int32).long()
    nearest = ((bits << 32) | _NO_HIT).expand(len(packets.scene), rays).contiguous()
    for kind in (BOX, ELLIPSOID, CYLINDER, CARD, TERRAIN, *(() if meshes else (MESH,))):
        pairs = (kinds == kind).nonzero()[:, 0]
        at_once = _MAX_PAIRS // rays * (CUDA_FACTOR if pairs.is_cuda else 1)
        if kind == TERRAIN:  # on a CPU, no more than its cache holds
            at_once //= MARCH_STEPS * (1 if pairs.is_cuda else 25)
        for some in pairs.split(max(1, at_once)) if len(pairs) else ():
            t = _intersect(kind, shapes.select(index[some]), packets, tile[some], heights)
            _keep_nearest(nearest, tile[some], t, shape[some] << _TRIANGLE_BITS)
    mesh_pairs = (kinds == MESH).nonzero()[:, 0] if meshes else kinds[:0]
    if meshes and len(mesh_pairs):
        where, chosen = tile[mesh_pairs], shapes.select(index[mesh_pairs])
        start, direction = _rays_in_box(chosen, packets, where)
        planes = _frustum_planes(chosen, packets, where, cone)
        for pair, triangle, t in intersect_meshes(meshes, chosen.mesh, planes, start, direction):
            code = (shape[mesh_pairs[pair]] << _TRIANGLE_BITS) | triangle
            _keep_nearest(nearest, where[pair], t, code)
    t = (nearest >> 32).to(torch.int32).view(torch.float32)
    found = nearest & _NO_HIT
    hit = found != _NO_HIT
    shape = torch.where(hit, found >> _TRIANGLE_BITS, -1)
    return Hits(t, shape, found & ((1 << _TRIANGLE_BITS) - 1))


def _keep_nearest(nearest: Tensor, packet: Tensor, t: Tensor, code: Tensor) -> None:
    """Update the keys of packets' nearest hits by other hits, in place."""
    key = (t.view(torch.int32).long() << 32) | code[:, None]
    nearest.scatter_reduce_(0, packet[:, None].expand_as(key), key, "amin")


def unit(vector: Tensor, dim: int = -1) -> Tensor:
    """Normalize along one dimension; for short vectors several times as fast as torch's."""
    first, *others = vector.unbind(dim)
    square = first * first
    for part in others:
        square = torch.addcmul(square, part, part)
    return vector * square.rsqrt().unsqueeze(dim)


def _bounding_cones(
    packets: RayPackets,
) -> tuple[Float[Tensor, "packet 3"], Float[Tensor, " packet"]]:
    """Return axis and half opening angle of a cone around each packet's rays."""
    rays = unit(packets.directions, dim=1)
    axis = unit(rays.mean(-1))
    return axis, (axis[:, None] @ rays)[:, 0].amin(-1).clamp(-1, 1).acos() + 1e-3


def _frustum_planes(
    shapes: Shapes, packets: RayPackets, where: Tensor, cone: tuple[Tensor, Tensor]
) -> Float[Tensor, "pair 4 4"]:
    """Return four planes around packets' cones in shapes' boxes: normals inward, and offsets."""
    axis, spread = cone[0][where], cone[1][where]
    least = torch.nn.functional.one_hot(axis.abs().argmin(-1), 3).to(axis)
    right = unit(torch.linalg.cross(axis, least))
    up = torch.linalg.cross(axis, right)
    sides = torch.stack([right, -right, up, -up], dim=1)
    normal = sides * spread.cos()[:, None, None] + axis[:, None] * spread.sin()[:, None, None]
    normal = torch.where((spread < 1.5)[:, None, None], normal, 0.0)  # wider is everywhere
    offset = normal @ (shapes.center - packets.origins[where])[..., None]
    return torch.cat([normal @ shapes.axes * shapes.half[:, None], offset], dim=-1)


def _rays_in_box(
    shapes: Shapes, packets: RayPackets, where: Tensor
) -> tuple[Float[Tensor, "pair 3"], Float[Tensor, "pair 3 ray"]]:
    """Return packets' rays in shapes' boxes from -1 to 1."""
    axes = shapes.axes / shapes.half[:, None]
    offset = packets.origins.index_select(0, where) - shapes.center
    start = (offset[:, None] @ axes)[:, 0]
    return start, axes.mT @ packets.directions.index_select(0, where)


def _touched_shapes(
    shapes: Shapes, packets: RayPackets, cone: tuple[Tensor, Tensor]
) -> Bool[Tensor, "packet shape"]:
    """Test whether shapes' bounding spheres touch packets' bounding cones."""
    axis, spread = cone
    to_center = shapes.center[packets.scene] - packets.origins[:, None]
    along = (to_center @ axis[..., None])[..., 0]
    distance = to_center.square().sum(-1).clamp_min(1e-12).sqrt()
    radius = shapes.half.norm(dim=-1)[packets.scene]
    angle = (along / distance).clamp(-1, 1).acos()
    touches = angle < spread[:, None] + (radius / distance).clamp(max=1).asin()
    return (touches | (distance <= radius)) & shapes.present[packets.scene]


def _intersect(
    kind: int, shapes: Shapes, packets: RayPackets, where: Tensor, heights: Tensor
) -> Float[Tensor, "pair ray"]:
    axes, half = shapes.axes, shapes.half
    offset = packets.origins.index_select(0, where) - shapes.center
    start = torch.einsum("pi,pij->pj", offset, axes)
    if kind in (ELLIPSOID, CYLINDER):
        axes, start = axes / half[:, None], start / half
        half = torch.ones_like(half)
    direction = axes.mT @ packets.directions.index_select(0, where)
    if kind == CARD:
        return _intersect_card(start, direction, half, shapes.petals)
    if kind == ELLIPSOID:
        enter, leave = _intersect_sphere(start, direction)
    elif kind == CYLINDER:
        enter, leave = _intersect_sphere(start[:, ::2], direction[:, ::2])
        low, high = _intersect_slabs(start[:, 1:2], direction[:, 1:2], half[:, 1:2])
        enter, leave = torch.maximum(enter, low), torch.minimum(leave, high)
    else:
        enter, leave = _intersect_slabs(start, direction, half)
    if kind == TERRAIN:
        span = enter.clamp_min(1e-4), leave
        return intersect_heightfield(start, direction, half, *span, heights, packets.scene[where])
    return torch.where((enter < leave) & (enter > 1e-4), enter, torch.inf)


def _intersect_slabs(start: Tensor, direction: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    inverse = 1 / torch.where(direction.abs() < 1e-12, 1e-12, direction)
    middle, width = -start[..., None] * inverse, half[..., None] * inverse.abs()
    return (middle - width).amax(1), (middle + width).amin(1)


def _intersect_sphere(start: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Return t where rays enter and leave the unit circle or sphere."""
    a = direction.square().sum(1).clamp_min(1e-20)
    nearest = -torch.einsum("pc,pcr->pr", start, direction) / a
    miss = (start[..., None] + nearest[:, None] * direction).square().sum(1)
    reach = ((1 - miss) / a).clamp_min(0).sqrt()
    return nearest - reach, torch.where(miss < 1, nearest + reach, -torch.inf)


def _intersect_card(start: Tensor, direction: Tensor, half: Tensor, petals: Tensor) -> Tensor:
    z = direction[:, 2]
    t = -start[:, 2:] / torch.where(z.abs() < 1e-12, 1e-12, z)
    x = (start[:, :1] + t * direction[:, 0]) / half[:, :1]
    y = (start[:, 1:2] + t * direction[:, 1]) / half[:, 1:2]
    count = petals[:, None]
    edge = 0.65 + 0.35 * torch.cos(count * torch.atan2(y, x))
    flower = x.square() + y.square() < torch.where(count > 0, edge, 1.0).square()
    inside = torch.where(count < 0, torch.maximum(x.abs(), y.abs()) < 1, flower)
    return torch.where(inside & (t > 1e-4), t, torch.inf)
