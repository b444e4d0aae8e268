"""What two photos and their matched points tell of depth without learning: semi-global matching."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.stereo.aggregate import aggregate
from models.stereo.prior import SurfacePrior, penalty

UNSEEN_COST = 0.7  # in units of 1 - correlation: worse than a match, better than a clear mismatch
SHARPNESS = 8.0  # of the distribution over planes that aggregated costs give
AROUND = 2  # steps around the best one that make up the answer


@dataclass(frozen=True)
class Match:
    """The answer of semi-global matching for one view, and what it rests on.

    Positions count steps, 0 at the near end of the range and `steps` - 1 at the far end, with the
    inverse depth linear in between. Volumes are kept at whole steps.
    """

    cost: Float[Tensor, "batch step height width"]  # before aggregation, from the photos alone
    logits: Float[Tensor, "batch step height width"]  # after it, with the surface of the points
    position: Float[Tensor, "batch height width"]
    certainty: Float[Tensor, "batch height width"]  # share of the distribution around `position`
    seen: Bool[Tensor, "batch height width"]  # whether another view looks there


def match(
    correlation: Float[Tensor, "batch plane height width"],
    seen: Float[Tensor, "batch plane height width"],
    image: Float[Tensor, "batch 3 height width"],
    prior: SurfacePrior,
    fineness: int = 1,
) -> Match:
    """Find the position of every pixel, on planes of which `fineness` make a step.

    Args:
        correlation: What `sweep` gives, averaged over the other views if there are several.
        seen: Positive where any other view sees the point.
        image: The view's photo at the sweep's size.
        prior: Where matched points suggest that the surfaces are, in steps.
        fineness: Planes per step: there are `fineness` * (steps - 1) + 1 of them.
    """
    cost = torch.where(seen > 0, 1 - correlation, UNSEEN_COST)
    logits = -SHARPNESS * aggregate(cost + penalty(prior, cost.shape[1], fineness), image, fineness)
    best = logits.argmax(1, keepdim=True)
    planes, radius = logits.shape[1], AROUND * fineness
    window = best + torch.arange(-radius, radius + 1, device=best.device)[:, None, None]
    inside = (window >= 0) & (window < planes)
    window = window.clamp(0, planes - 1)
    around = logits.gather(1, window).masked_fill(~inside, -torch.inf)
    mass = around.logsumexp(1)
    # The mean around the best plane: precise, without mixing two surfaces.
    position = (around.softmax(1) * window).sum(1) / fineness
    return Match(
        cost=cost[:, ::fineness],
        logits=logits[:, ::fineness],
        position=position,
        certainty=(mass - logits.logsumexp(1)).exp(),
        seen=seen.gather(1, best)[:, 0] > 0,
    )


def position_to_depth(
    position: Float[Tensor, "batch height width"],
    inverse_depths: Float[Tensor, "batch plane"],
    steps: int,
) -> Float[Tensor, "batch height width"]:
    """Depth at a position in the range that the planes cover."""
    first, last = inverse_depths[:, 0, None, None], inverse_depths[:, -1, None, None]
    return 1 / torch.lerp(first, last, position / (steps - 1))
