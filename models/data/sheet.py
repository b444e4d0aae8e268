"""A contact sheet of worlds: photos, depth, and what both photos show."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.augmentation import degrade
from models.data.overlap import seen_from, share_seen
from models.data.procedural import FAR, KINDS, Assets, WorldBatch, generate
from models.geometry.colormap import color_depth, depth_range
from models.geometry.rigid import rotation_angle

_GAP = 4  # white pixels between worlds
_DIMMED = 0.25  # what the other photo does not show


@dataclass(frozen=True)
class Shown:
    """A world of the sheet in numbers."""

    kind: str
    overlap: float  # share of what either photo shows that the other shows too, whichever is less
    baseline: float  # over the first photo's median depth
    turn_deg: float


def make_sheet(
    assets: Assets,
    count: int,
    size: tuple[int, int],
    difficulty: float,
    artifacts: float,
    generator: torch.Generator,
    columns: int = 2,
) -> tuple[Float[Tensor, "3 height width"], list[Shown]]:
    """Draw worlds of all kinds in turn.

    Each is two photos as a phone takes them, the first one's depth, and the first one again,
    dark where the second does not show it.

    Returns:
        The sheet, and what is on it, row by row.
    """
    strips, shown = [], []
    for world, kind in _worlds(assets, count, size, difficulty, generator):
        photos = degrade(world.images, generator, artifacts)[0]
        near = world.depth[0, 0][world.depth[0, 0] < FAR]
        depth = color_depth(world.depth[0, 0], *depth_range(near))
        cameras = world.cameras[0]
        views = [(world.depth[0, view], cameras[view]) for view in (0, 1)]
        masks = [seen_from(*views[view], *views[1 - view]) for view in (0, 1)]
        overlap = min(share_seen(mask, world.depth[0, i]) for i, mask in enumerate(masks))
        common = photos[0] * torch.where(masks[0], 1.0, _DIMMED)
        strips.append(torch.cat([photos[0], photos[1], depth.to(photos), common], dim=-1))
        turn = rotation_angle(*cameras.world2cam[:, :3, :3])
        baseline = cameras.center[1].norm() / near.median().clamp_min(1e-6)
        shown.append(Shown(kind, overlap, float(baseline), float(turn.rad2deg())))
    strips += [torch.ones_like(strips[0])] * (-len(strips) % columns)
    framed = [torch.nn.functional.pad(strip, [_GAP] * 4, value=1.0) for strip in strips]
    rows = [torch.cat(framed[i : i + columns], dim=-1) for i in range(0, len(framed), columns)]
    return torch.cat(rows, dim=-2), shown


def _worlds(
    assets: Assets, count: int, size: tuple[int, int], difficulty: float, generator: torch.Generator
) -> Iterator[tuple[WorldBatch, str]]:
    for number in range(count):
        kinds = [int(number % len(KINDS) == kind) for kind in range(len(KINDS))]
        device = assets.textures.device
        world = generate(1, 2, size, assets, generator, device, difficulty, kinds)
        yield world, KINDS[number % len(KINDS)]
