"""Photos of different exposure and white balance, brought to the colors of the first."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.depth_map import SAME_SURFACE, DepthMap, look_up
from models.stereo.plane_sweep import box_mean

SURE = 0.5  # confidence above which two views are believed to see one spot
FEWEST, MOST = 500, 20000  # spots: with fewer a photo stays as it is; more tell no more
WINDOW = 7  # pixels over which colors are averaged first, because depth is not exact
NOISE = 0.02  # color difference from which on a spot counts less and less
CAUTION = 0.01  # weight of gain 1 and offset 0, against that of all spots together
ROUNDS = 8


def even_out(views: list[DepthMap]) -> list[DepthMap]:
    """Give every view the colors in which the first one shows what both see.

    A photo gets a gain and an offset per channel, fitted to the spots that it shares with those
    before it; what differs for other reasons (highlights, wrong depth) counts little.
    """
    evened = views[:1]
    for view in views[1:]:
        shared = torch.cat([_shared_colors(view, earlier) for earlier in evened], dim=-1)
        if shared.shape[-1] >= FEWEST:
            gain, offset = _fit(*shared)
            image = view.image * gain[:, None, None] + offset[:, None, None]
            view = replace(view, image=image.clamp(0, 1))
        evened.append(view)
    return evened


def _shared_colors(view: DepthMap, other: DepthMap) -> Float[Tensor, "2 3 spot"]:
    """Colors, in this view and in the other, of surfaces that both are sure to see."""
    maps = [other.depth[None], other.confidence[None], box_mean(other.image[None], WINDOW)[0]]
    z, inside, there = look_up(view, other, torch.cat(maps))
    same = inside & ((z - there[0]).abs() < SAME_SURFACE * there[0])
    sure = (there[1] > SURE) & (view.confidence.flatten() > SURE)
    spots = (same & sure).nonzero()[:, 0]
    spots = spots[:: max(1, len(spots) // MOST)]
    here = box_mean(view.image[None], WINDOW)[0].flatten(1)
    return torch.stack([here[:, spots], there[2:, spots]])


def _fit(
    colors: Float[Tensor, "3 spot"], wanted: Float[Tensor, "3 spot"]
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Gain and offset of every channel, by least absolute differences (reweighted squares)."""
    terms = torch.stack([colors, torch.ones_like(colors)], dim=-1)
    still = torch.tensor([1.0, 0.0]).to(colors)
    found = still.expand(3, 2)
    for _ in range(ROUNDS):
        off = ((terms @ found[..., None])[..., 0] - wanted).abs()
        weighted = terms.mT / (off + NOISE)[:, None]
        caution = CAUTION * weighted[:, 1].sum(-1)[:, None]
        matrix = weighted @ terms + torch.diag_embed(caution.expand(3, 2))
        found = torch.linalg.solve(matrix, (weighted @ wanted[..., None])[..., 0] + caution * still)
    return found[:, 0], found[:, 1]
