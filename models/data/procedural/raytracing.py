"""Ray-traced views of scenes: one ray per pixel, and four more where edges are (supersampling)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.data.procedural.scenes import Scenes
from models.data.procedural.shading import Appearance, Points, shade, sky_color
from models.data.procedural.shapes import FAR, Hits, RayPackets, intersect_shapes, unit

_PACKET_PX = 8  # along each side of the square of pixels whose rays are one packet
_SLOTS = 16  # pixels whose extra rays are one packet
_EXTRA_PX = ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375))  # off center
_MIN_BEND = 0.003  # relative second difference of inverse depth that counts as an edge


def raytrace_view(
    scenes: Scenes,
    appearance: Appearance,
    cam2world: Float[Tensor, "scene 4 4"],
    intrinsics: Float[Tensor, "scene 3 3"],
    size: tuple[int, int],
) -> tuple[Float[Tensor, "scene 3 height width"], Float[Tensor, "scene height width"]]:
    """Return radiance (positive, not yet exposed) and depth of one view of every scene.

    Rays start from `cam2world` as it was sampled; a `Camera` would round it by inverting it twice.
    """
    rows, columns = -(-size[0] // _PACKET_PX), -(-size[1] // _PACKET_PX)
    packets, pixel_step = _camera_packets(cam2world, intrinsics, size, rows, columns)
    hits = trace(scenes, appearance, packets)
    light = _trace_shadows(scenes, appearance, packets, hits.t, rows, columns)
    pixel = 1 / (intrinsics[:, 0, 0] * size[1])
    color = _shade_rays(scenes, appearance, packets, hits, light, pixel[packets.scene])
    depth = _to_image(hits.t, rows, columns)
    edge = _to_packets(_find_edges(depth, _to_image(hits.shape, rows, columns)))
    packet, ray = edge.nonzero(as_tuple=True)
    if len(packet):
        extra, target, slot = _extra_packets(packets, pixel_step, packet, ray)
        extra_hits = trace(scenes, appearance, extra)
        extra_light = light.new_ones(extra_hits.t.shape).unflatten(1, (_SLOTS, -1))
        extra_light[target, slot] = light[packet, ray][:, None]
        extra_light, half_pixel = extra_light.flatten(1), pixel[extra.scene] / 2
        colors = _shade_rays(scenes, appearance, extra, extra_hits, extra_light, half_pixel)
        total = colors.unflatten(1, (_SLOTS, -1))[target, slot].sum(1)
        color[packet, ray] = (color[packet, ray] + total) / (1 + len(_EXTRA_PX))
    image = _to_image(color.permute(2, 0, 1).flatten(0, 1), rows, columns)
    image = image.unflatten(0, (3, -1)).transpose(0, 1)
    return image[..., : size[0], : size[1]], depth[..., : size[0], : size[1]]


def trace(scenes: Scenes, appearance: Appearance, packets: RayPackets) -> Hits:
    """Return the nearest hits as `intersect_shapes` does; rays through openings reach the sky."""
    shapes, meshes = scenes.shapes, appearance.meshes
    t, shape, triangle = intersect_shapes(shapes, scenes.heights, packets, meshes=meshes)
    through = shapes.opening[packets.scene[:, None], shape.clamp_min(0)] & (shape >= 0)
    return Hits(torch.where(through, FAR, t), torch.where(through, -1, shape), triangle)


def _camera_packets(
    cam2world: Float[Tensor, "scene 4 4"],
    intrinsics: Float[Tensor, "scene 3 3"],
    size: tuple[int, int],
    rows: int,
    columns: int,
) -> tuple[RayPackets, Float[Tensor, "scene 3 2"]]:
    """Return packets of camera rays with z = 1, and how rays change from pixel to pixel."""
    device = cam2world.device
    y = torch.arange(rows * _PACKET_PX, device=device).view(rows, 1, _PACKET_PX, 1) + 0.5
    x = torch.arange(columns * _PACKET_PX, device=device).view(1, columns, 1, _PACKET_PX) + 0.5
    y, x = torch.broadcast_tensors(y / size[0], x / size[1])
    on_image = torch.stack([x, y, torch.ones_like(x)]).flatten(3).flatten(1, 2)  # 3 packet ray
    back = cam2world[:, :3, :3] @ torch.linalg.inv(intrinsics)
    directions = torch.einsum("sij,jtr->stir", back, on_image).flatten(0, 1)
    scene = torch.arange(len(cam2world), device=device).repeat_interleave(rows * columns)
    pixel_step = back[:, :, :2] / torch.tensor([size[1], size[0]], device=device)
    return RayPackets(scene, cam2world[scene, :3, 3], directions), pixel_step


def _to_image(values: Tensor, rows: int, columns: int) -> Tensor:
    """Rearrange `(scene row column) (y x)` to `scene height width`."""
    grid = values.unflatten(1, (_PACKET_PX, _PACKET_PX)).unflatten(0, (-1, rows, columns))
    return grid.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _to_packets(values: Tensor) -> Tensor:
    """Undo `_to_image`."""
    grid = values.unflatten(2, (-1, _PACKET_PX)).unflatten(1, (-1, _PACKET_PX))
    return grid.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def _find_edges(t: Tensor, shape: Tensor) -> Bool[Tensor, "scene height width"]:
    """Mark pixels beside another shape, and those where inverse depth bends."""
    edge = torch.zeros_like(shape, dtype=torch.bool)
    for axis in (1, 2):
        length = shape.shape[axis]
        differs = shape.diff(dim=axis) != 0
        edge.narrow(axis, 1, length - 1).logical_or_(differs)
        edge.narrow(axis, 0, length - 1).logical_or_(differs)
        inverse = 1 / t
        before, middle, after = (inverse.narrow(axis, at, length - 2) for at in (0, 1, 2))
        bend = (after + before - 2 * middle).abs()
        edge.narrow(axis, 1, length - 2).logical_or_(bend > _MIN_BEND * middle)
    return edge


def _extra_packets(
    packets: RayPackets,
    pixel_step: Float[Tensor, "scene 3 2"],
    packet: Int[Tensor, " pixel"],
    ray: Int[Tensor, " pixel"],
) -> tuple[RayPackets, Int[Tensor, " pixel"], Int[Tensor, " pixel"]]:
    """Return the extra rays of pixels in packets, and each pixel's new packet and slot in it."""
    count = torch.bincount(packet, minlength=len(packets.scene))
    rank = torch.arange(len(packet), device=packet.device) - (count.cumsum(0) - count)[packet]
    needed = (count + _SLOTS - 1) // _SLOTS
    source = torch.arange(len(count), device=packet.device).repeat_interleave(needed)
    target, slot = (needed.cumsum(0) - needed)[packet] + rank // _SLOTS, rank % _SLOTS
    offsets = pixel_step.new_tensor(_EXTRA_PX)
    middle = packets.directions[source].mean(-1)  # of slots that stay empty
    directions = middle[:, None, None].repeat(1, _SLOTS, len(offsets), 1)
    shift = torch.einsum("pij,ej->pei", pixel_step[packets.scene[packet]], offsets)
    directions[target, slot] = packets.directions[packet, :, ray][:, None] + shift
    rays = directions.flatten(1, 2).mT.contiguous()
    return RayPackets(packets.scene[source], packets.origins[source], rays), target, slot


def _trace_shadows(
    scenes: Scenes, appearance: Appearance, packets: RayPackets, t: Tensor,
    rows: int, columns: int,
) -> Float[Tensor, "packet ray"]:  # fmt: skip
    """Return the share of the lamp's light that reaches hits; shadows' edges are blurred."""
    lamp = scenes.light.position[packets.scene]
    hit = packets.origins[..., None] + packets.directions * t[:, None]
    to_hit = RayPackets(packets.scene, lamp, hit - lamp[..., None])
    occluded = intersect_shapes(scenes.shapes, scenes.heights, to_hit, 0.995, appearance.meshes)
    light = 1 - (occluded.shape >= 0) * appearance.shadow[packets.scene, None]
    image = _to_image(light, rows, columns)
    padded = torch.nn.functional.pad(image[:, None], (1, 1, 1, 1), mode="replicate")
    return _to_packets(torch.nn.functional.avg_pool2d(padded, 3, stride=1)[:, 0])


def _shade_rays(
    scenes: Scenes, appearance: Appearance, packets: RayPackets, hits: Hits,
    light: Float[Tensor, "packet ray"], pixel: Float[Tensor, " packet"],
) -> Float[Tensor, "packet ray 3"]:  # fmt: skip
    """Return the radiance along rays whose pixels are `pixel` wide at distance 1."""
    rays = hits.t.shape[1]
    directions = packets.directions.mT.flatten(0, 1)
    scene, pixel = packets.scene.repeat_interleave(rays), pixel.repeat_interleave(rays)
    origin = packets.origins.repeat_interleave(rays, dim=0)
    t, shape = hits.t.flatten(), hits.shape.flatten()
    hit, miss = (shape >= 0).nonzero()[:, 0], (shape < 0).nonzero()[:, 0]
    direction, distance = directions.index_select(0, hit), t.index_select(0, hit)
    points = Points(
        scene=scene.index_select(0, hit),
        shape=shape.index_select(0, hit),
        triangle=hits.triangle.flatten().index_select(0, hit),
        position=origin.index_select(0, hit) + direction * distance[:, None],
        direction=unit(direction),
        footprint=distance * pixel.index_select(0, hit),
        light=light.flatten().index_select(0, hit),
    )
    color = torch.empty(len(t), 3, device=t.device)
    color[hit] = shade(scenes, appearance, points)
    color[miss] = sky_color(appearance, scene[miss], unit(directions[miss]), pixel[miss])
    return color.unflatten(0, hits.t.shape)
