"""Semi-global aggregation of matching costs along four directions (Hirschmueller, TPAMI 2008)."""

import torch
from jaxtyping import Float
from torch import Tensor

SMALL_JUMP = 0.1  # cost of moving one plane between neighbors: slanted surfaces
LARGE_JUMP = 0.6  # cost of any further move, in a region of even color
EDGE = 0.06  # color difference at which a large jump costs half of that


def aggregate(
    cost: Float[Tensor, "batch plane height width"],
    image: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch plane height width"]:
    """Mean over four scan directions of the cheapest path that ends at each plane of each pixel.

    Differences between planes are meaningful, the level is not: each pixel's best has cost 0.
    """
    along_rows = _scan(cost.permute(3, 0, 2, 1), image.permute(3, 0, 2, 1))
    along_columns = _scan(cost.permute(2, 0, 3, 1), image.permute(2, 0, 3, 1))
    total = along_rows.permute(1, 3, 2, 0) + along_columns.permute(1, 3, 0, 2)
    total = total / 4
    return total - total.amin(1, keepdim=True)


def _scan(
    cost: Float[Tensor, "step batch line plane"], image: Float[Tensor, "step batch line 3"]
) -> Float[Tensor, "step batch line plane"]:
    """Forward and backward path costs along the first axis, added."""
    difference = image.diff(dim=0).abs().mean(-1, keepdim=True)
    jump = LARGE_JUMP / (1 + difference / EDGE)
    return _sweep(cost, jump) + _sweep(cost.flip(0), jump.flip(0)).flip(0)


def _sweep(
    cost: Float[Tensor, "step batch line plane"], jump: Float[Tensor, "between batch line 1"]
) -> Float[Tensor, "step batch line plane"]:
    """Path costs in one direction."""
    paths = cost.clone(memory_format=torch.contiguous_format)
    for step in range(1, len(paths)):
        before = paths[step - 1]
        lowest = before.amin(-1, keepdim=True)
        reach = torch.minimum(before, lowest + jump[step - 1].clamp(min=SMALL_JUMP))
        reach[..., 1:] = torch.minimum(reach[..., 1:], before[..., :-1] + SMALL_JUMP)
        reach[..., :-1] = torch.minimum(reach[..., :-1], before[..., 1:] + SMALL_JUMP)
        paths[step] += reach - lowest
    return paths
