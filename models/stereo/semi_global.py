"""Semi-global matching (Hirschmueller, TPAMI 2008) of the costs that a plane sweep gives."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.stereo.plane_sweep import Comparison
from models.stereo.prior import SurfacePrior, penalty

P1 = 0.2  # penalty of a change by one step between neighbors: slanted surfaces
P2 = 1.3  # penalty of any larger change, in a region of even color
EDGE_CONTRAST = 0.06  # color difference that halves P2
COLOR_WEIGHT, FEATURE_WEIGHT = 0.6, 0.6  # in the matching cost; correlation has weight 1
UNSEEN_COST = 0.7  # in units of 1 - correlation: worse than a match, better than a clear mismatch
UNSEEN_DIFFERENCE = 0.5  # the same for colors and features
SOFTMAX_SHARPNESS = 5.0  # by which aggregated costs become logits over the planes
WINDOW_STEPS = 2  # to either side of the best plane, averaged to a position between planes


@dataclass(frozen=True)
class SgmResult:
    """The result of semi-global matching for one view, and the volumes it rests on.

    Positions count steps, 0 at the near end of the range and `steps` - 1 at the far end, with the
    inverse depth linear in between. Volumes are kept at whole steps.
    """

    cost: Float[Tensor, "batch step height width"]  # 1 - correlation, or `UNSEEN_COST`
    logits: Float[Tensor, "batch step height width"]  # aggregated, with the prior
    position: Float[Tensor, "batch height width"]  # mean over a window around the best plane
    confidence: Float[Tensor, "batch height width"]  # probability of that window
    seen: Bool[Tensor, "batch height width"]  # true where another view sees the best plane's point


def matching_cost(compared: Comparison) -> Float[Tensor, "batch plane height width"]:
    """Return the cost of each plane by correlation, color and features, before aggregation."""
    return torch.where(
        compared.seen > 0,
        (1 - compared.correlation)
        + COLOR_WEIGHT * compared.difference
        + FEATURE_WEIGHT * (1 - compared.similarity),
        UNSEEN_COST + UNSEEN_DIFFERENCE * (COLOR_WEIGHT + FEATURE_WEIGHT),
    )


def semi_global_matching(
    compared: Comparison,
    image: Float[Tensor, "batch 3 height width"],
    prior: SurfacePrior,
    planes_per_step: int = 1,
) -> SgmResult:
    """Find the position of every pixel of a view.

    It is compared with another view, or on average with several that see the point, on
    `planes_per_step` (1 or 2) * (steps - 1) + 1 planes.
    """
    seen = compared.seen > 0
    cost = matching_cost(compared)
    total = aggregate(cost + penalty(prior, cost.shape[1], planes_per_step), image, planes_per_step)
    logits = -SOFTMAX_SHARPNESS * total
    best = logits.argmax(1, keepdim=True)
    planes, radius = logits.shape[1], WINDOW_STEPS * planes_per_step
    window = best + torch.arange(-radius, radius + 1, device=best.device)[:, None, None]
    inside = (window >= 0) & (window < planes)
    window = window.clamp(0, planes - 1)
    window_logits = logits.gather(1, window).masked_fill(~inside, -torch.inf)
    # The mean around the best plane: precise, without mixing two surfaces.
    position = (window_logits.softmax(1) * window).sum(1) / planes_per_step
    return SgmResult(
        cost=torch.where(seen, 1 - compared.correlation, UNSEEN_COST)[:, ::planes_per_step],
        logits=logits[:, ::planes_per_step],
        position=position,
        confidence=(window_logits.logsumexp(1) - logits.logsumexp(1)).exp(),
        seen=seen.gather(1, best)[:, 0],
    )


def position_to_depth(
    position: Float[Tensor, "batch height width"],
    inverse_depths: Float[Tensor, "batch plane"],
    steps: int,
) -> Float[Tensor, "batch height width"]:
    """Return the depth at a position in the range that the planes cover."""
    first, last = inverse_depths[:, 0, None, None], inverse_depths[:, -1, None, None]
    return 1 / torch.lerp(first, last, position / (steps - 1))


def aggregate(
    cost: Float[Tensor, "batch plane height width"],
    image: Float[Tensor, "batch 3 height width"],
    planes_per_step: int = 1,
) -> Float[Tensor, "batch plane height width"]:
    """Return the mean path cost of four scan directions, less each pixel's lowest.

    Where the image's color changes, P2 is lower.
    """
    rows = _path_costs(cost.permute(3, 0, 2, 1), image.permute(3, 0, 2, 1), planes_per_step)
    columns = _path_costs(cost.permute(2, 0, 3, 1), image.permute(2, 0, 3, 1), planes_per_step)
    total = (rows.permute(1, 3, 2, 0) + columns.permute(1, 3, 0, 2)) / 4
    return total - total.amin(1, keepdim=True)


def _path_costs(
    cost: Float[Tensor, "line batch other plane"],
    image: Float[Tensor, "line batch other 3"],
    planes_per_step: int,
) -> Float[Tensor, "line batch other plane"]:
    """Sum the path costs of both directions along the first axis."""
    difference = image.diff(dim=0).abs().mean(-1, keepdim=True)
    p1 = P1 / planes_per_step
    p2 = (P2 / (1 + difference / EDGE_CONTRAST)).clamp(min=p1)
    return _scan(cost, p1, p2) + _scan(cost.flip(0), p1, p2.flip(0)).flip(0)


def _scan(
    cost: Float[Tensor, "line batch other plane"],
    p1: float,
    p2: Float[Tensor, "between batch other 1"],
) -> Float[Tensor, "line batch other plane"]:
    """Return the path costs of one direction (Hirschmueller, eq. 13)."""
    paths = cost.clone(memory_format=torch.contiguous_format)
    for line in range(1, len(paths)):
        previous = paths[line - 1]
        lowest = previous.amin(-1, keepdim=True)
        cheapest = torch.minimum(previous, lowest + p2[line - 1])
        cheapest[..., 1:] = torch.minimum(cheapest[..., 1:], previous[..., :-1] + p1)
        cheapest[..., :-1] = torch.minimum(cheapest[..., :-1], previous[..., 1:] + p1)
        paths[line] += cheapest - lowest
    return paths
