"""Semi-global aggregation of matching costs along four directions (Hirschmueller, TPAMI 2008)."""

import torch
from jaxtyping import Float
from torch import Tensor

SMALL_JUMP = 0.2  # cost of moving one step between neighbors: slanted surfaces
LARGE_JUMP = 1.3  # cost of any further move, in a region of even color
EDGE = 0.06  # color difference at which a large jump costs half of that


def aggregate(
    cost: Float[Tensor, "batch plane height width"],
    image: Float[Tensor, "batch 3 height width"],
    fineness: int = 1,
) -> Float[Tensor, "batch plane height width"]:
    """Mean over four scan directions of the cheapest path that ends at each plane of each pixel.

    Differences between planes are meaningful, the level is not: each pixel's best has cost 0.

    Args:
        cost: Of each plane of each pixel.
        image: Where its color changes, large jumps are cheap.
        fineness: Planes per step of the range.
    """
    along_rows = _scan(cost.permute(3, 0, 2, 1), image.permute(3, 0, 2, 1), fineness)
    along_columns = _scan(cost.permute(2, 0, 3, 1), image.permute(2, 0, 3, 1), fineness)
    total = along_rows.permute(1, 3, 2, 0) + along_columns.permute(1, 3, 0, 2)
    total = total / 4
    return total - total.amin(1, keepdim=True)


def _scan(
    cost: Float[Tensor, "line batch other plane"],
    image: Float[Tensor, "line batch other 3"],
    fineness: int,
) -> Float[Tensor, "line batch other plane"]:
    """Forward and backward path costs along the first axis, added."""
    difference = image.diff(dim=0).abs().mean(-1, keepdim=True)
    small = SMALL_JUMP / fineness
    large = (LARGE_JUMP / (1 + difference / EDGE)).clamp(min=small)
    return _sweep(cost, large, small) + _sweep(cost.flip(0), large.flip(0), small).flip(0)


def _sweep(
    cost: Float[Tensor, "line batch other plane"],
    large: Float[Tensor, "between batch other 1"],
    small: float,
) -> Float[Tensor, "line batch other plane"]:
    """Path costs in one direction."""
    paths = cost.clone(memory_format=torch.contiguous_format)
    for line in range(1, len(paths)):
        before = paths[line - 1]
        lowest = before.amin(-1, keepdim=True)
        reach = torch.minimum(before, lowest + large[line - 1])
        reach[..., 1:] = torch.minimum(reach[..., 1:], before[..., :-1] + small)
        reach[..., :-1] = torch.minimum(reach[..., :-1], before[..., 1:] + small)
        paths[line] += reach - lowest
    return paths
