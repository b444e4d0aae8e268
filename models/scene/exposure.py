"""Compensate for exposure and white balance: bring all views to the colors of the first."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.depth_map import DEPTH_TOLERANCE, DepthMap, look_up
from models.stereo.plane_sweep import box_mean

MIN_CONFIDENCE = 0.5  # of both views' depths at a point whose colors are compared
MIN_POINTS, MAX_POINTS = 500, 20000  # with fewer a view stays as it is; more tell no more
WINDOW_PX = 7  # over which colors are averaged first, because depth is not exact
COLOR_NOISE = 0.02  # difference from which on a point counts less and less
RIDGE = 0.01  # weight of gain 1 and offset 0, against that of all points together
ITERATIONS = 8


def compensate_exposure(depth_maps: list[DepthMap]) -> list[DepthMap]:
    """Give every view the colors in which the first one shows what both see.

    A view gets a gain and an offset per channel, fitted to the points that it shares with those
    before it; what differs for other reasons (highlights, wrong depth) counts little.
    """
    compensated = depth_maps[:1]
    for view in depth_maps[1:]:
        shared = torch.cat([_shared_colors(view, earlier) for earlier in compensated], dim=-1)
        if shared.shape[-1] >= MIN_POINTS:
            gain, offset = _fit_gain_offset(*shared)
            image = view.image * gain[:, None, None] + offset[:, None, None]
            view = replace(view, image=image.clamp(0, 1))
        compensated.append(view)
    return compensated


def _shared_colors(view: DepthMap, other: DepthMap) -> Float[Tensor, "2 3 point"]:
    """Return the colors, in this view and in the other, of points that both confidently see."""
    maps = [other.depth[None], other.confidence[None], box_mean(other.image[None], WINDOW_PX)[0]]
    z, inside, (depth, confidence, *color) = look_up(view, other, torch.cat(maps))
    same = inside & ((z - depth).abs() < DEPTH_TOLERANCE * depth)
    confident = (confidence > MIN_CONFIDENCE) & (view.confidence.flatten() > MIN_CONFIDENCE)
    points = (same & confident).nonzero()[:, 0]
    points = points[:: max(1, len(points) // MAX_POINTS)]
    own = box_mean(view.image[None], WINDOW_PX)[0].flatten(1)
    return torch.stack([own[:, points], torch.stack(color)[:, points]])


def _fit_gain_offset(
    colors: Float[Tensor, "3 point"], wanted: Float[Tensor, "3 point"]
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Fit every channel's gain and offset by least absolute deviations.

    Iteratively reweighted least squares, with a ridge penalty toward gain 1 and offset 0.
    """
    terms = torch.stack([colors, torch.ones_like(colors)], dim=-1)
    identity = torch.tensor([1.0, 0.0]).to(colors)
    solution = identity.expand(3, 2)
    for _ in range(ITERATIONS):
        residual = ((terms @ solution[..., None])[..., 0] - wanted).abs()
        weighted = terms.mT / (residual + COLOR_NOISE)[:, None]
        ridge = RIDGE * weighted[:, 1].sum(-1)[:, None]
        matrix = weighted @ terms + torch.diag_embed(ridge.expand(3, 2))
        right_side = (weighted @ wanted[..., None])[..., 0] + ridge * identity
        solution = torch.linalg.solve(matrix, right_side)
    return solution[:, 0], solution[:, 1]
