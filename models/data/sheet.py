"""A contact sheet of worlds: photos, depth, and covisibility."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.augmentation import degrade
from models.data.overlap import covisible, overlap
from models.data.procedural import FAR, KINDS, Assets, generate
from models.geometry.colormap import color_depth, depth_range
from models.geometry.rigid import rotation_angle

_GAP_PX = 4  # white, between worlds
_DIMMED = 0.25  # brightness of what the other photo does not show


@dataclass(frozen=True)
class WorldFacts:
    """Numbers of a world on the sheet."""

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
) -> tuple[Float[Tensor, "3 height width"], list[WorldFacts]]:
    """Render worlds of all kinds in turn onto one image.

    Each is two photos with a phone's artifacts, the first one's depth, and the first one again,
    dark where the second does not show it.

    Returns:
        The sheet, and the facts of its worlds, row by row.
    """
    strips, facts = [], []
    device = assets.textures.device
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        shares = [int(kind == each) for each in KINDS]
        world = generate(1, 2, size, assets, generator, device, difficulty, shares)
        photos = degrade(world.images, generator, artifacts)[0]
        first, second = world.depth_map(0, 0), world.depth_map(0, 1)
        near = first.depth[first.depth < FAR]
        depth = color_depth(first.depth, *depth_range(near))
        common = photos[0] * torch.where(covisible(first, second), 1.0, _DIMMED)
        strips.append(torch.cat([photos[0], photos[1], depth.to(photos), common], dim=-1))
        turn = rotation_angle(first.camera.world2cam[:3, :3], second.camera.world2cam[:3, :3])
        baseline = second.camera.center.norm() / near.median().clamp_min(1e-6)
        of_both = overlap(first, second)
        facts.append(WorldFacts(kind, of_both, float(baseline), float(turn.rad2deg())))
    strips += [torch.ones_like(strips[0])] * (-len(strips) % columns)
    framed = [torch.nn.functional.pad(strip, [_GAP_PX] * 4, value=1.0) for strip in strips]
    rows = [torch.cat(framed[i : i + columns], dim=-1) for i in range(0, len(framed), columns)]
    return torch.cat(rows, dim=-2), facts
