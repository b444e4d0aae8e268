"""What two photos and their matched points tell of depth without learning: semi-global matching."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.stereo.aggregate import aggregate
from models.stereo.plane_sweep import Comparison
from models.stereo.prior import SurfacePrior, penalty

COLOR, LEARNED = 0.6, 0.6  # costs of clearly different colors, and of features, beside correlation
UNSEEN_COST = 0.7  # in units of 1 - correlation: worse than a match, better than a clear mismatch
UNSEEN_REST = 0.5  # the same for colors and features
SHARPNESS = 5.0  # of the distribution over planes that aggregated costs give
AROUND = 2  # steps around the best one that make up the answer


@dataclass(frozen=True)
class Match:
    """The answer of semi-global matching for one view, and what it rests on.

    Positions count steps, 0 at the near end of the range and `steps` - 1 at the far end, with the
    inverse depth linear in between. Volumes are kept at whole steps.
    """

    cost: Float[Tensor, "batch step height width"]  # 1 - correlation, or UNSEEN_COST
    logits: Float[Tensor, "batch step height width"]  # after it, with the surface of the points
    position: Float[Tensor, "batch height width"]
    certainty: Float[Tensor, "batch height width"]  # share of the distribution around `position`
    seen: Bool[Tensor, "batch height width"]  # whether another view looks there


def matching_cost(compared: Comparison) -> Float[Tensor, "batch plane height width"]:
    """What each plane costs by all that the photos show, before aggregation."""
    return torch.where(
        compared.seen > 0,
        (1 - compared.correlation)
        + COLOR * compared.difference
        + LEARNED * (1 - compared.similarity),
        UNSEEN_COST + UNSEEN_REST * (COLOR + LEARNED),
    )


def match(
    compared: Comparison,
    image: Float[Tensor, "batch 3 height width"],
    prior: SurfacePrior,
    fineness: int = 1,
) -> Match:
    """Find the position of every pixel, on planes of which `fineness` make a step.

    Args:
        compared: With another photo, or the average over several that see the point.
        image: The view's photo at the sweep's size.
        prior: Where matched points suggest that the surfaces are, in steps.
        fineness: Planes per step: there are `fineness` * (steps - 1) + 1 of them.
    """
    seen = compared.seen > 0
    cost = matching_cost(compared)
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
        cost=torch.where(seen, 1 - compared.correlation, UNSEEN_COST)[:, ::fineness],
        logits=logits[:, ::fineness],
        position=position,
        certainty=(mass - logits.logsumexp(1)).exp(),
        seen=seen.gather(1, best)[:, 0],
    )


def position_to_depth(
    position: Float[Tensor, "batch height width"],
    inverse_depths: Float[Tensor, "batch plane"],
    steps: int,
) -> Float[Tensor, "batch height width"]:
    """Depth at a position in the range that the planes cover."""
    first, last = inverse_depths[:, 0, None, None], inverse_depths[:, -1, None, None]
    return 1 / torch.lerp(first, last, position / (steps - 1))
