"""Regularize depth maps: surfaces where images are unclear, discontinuities at their edges.

The depth of a sweep is uneven: steps between its planes, dents where there is no texture, guesses
where the other view sees nothing. Total generalized variation (Bredies et al., SIAM J. Imaging
Sciences 2010; weighted by image edges as in Ranftl et al., IV 2012) prefers an inverse depth that
is piecewise affine, as that of planes is. It is minimized by a primal-dual method (Chambolle and
Pock, JMIV 2011) from coarse to fine.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.depth_map import DepthMap
from models.stereo.smoothing import mean_consistency

DATA_WEIGHT = 0.3  # cost of leaving a certain depth by one plane; a jump by one plane costs 1
MIN_DATA_WEIGHT = 1e-4
SECOND_ORDER_WEIGHT = 8.0  # cost of a change of the gradient by one plane per pixel
EDGE_CONTRAST = 0.04  # color difference at which a jump costs 1/e
ITERATIONS = (40, 60, 100, 500)  # at the full size, at half of it, and so on
MIN_SIDE_PX = 12  # images with a shorter side are not built
STEP_SIZE = 12**-0.5  # of primal and dual: the norm of the operator is below sqrt(12)
OCCLUDED_CONSISTENCY = 0.02  # where another view has something in front: nothing was matched
MIN_INVERSE_DEPTH = 0.3  # as a share of that of the farthest plane

DISCONTINUITY_RATIO = 1.1  # of the depths in a window that has a foreground and a background
DISCONTINUITY_WINDOW_PX = 5
SEARCH_RADIUS_PX = 7  # within which a pixel between the two finds its surface
COLOR_SIGMA = 0.05
DISTANCE_SIGMA_PX = 4.0
MAX_PIXELS_AT_ONCE = 16384  # bounds the memory


def regularize(
    depth_maps: list[DepthMap], near_far: list[tuple[float, float]], planes: int
) -> list[DepthMap]:
    """Give depth maps piecewise smooth surfaces, held by confident and consistent depths.

    `near_far` is the range of depths that was searched for each view, at a number of `planes`
    evenly spaced in inverse depth.
    """
    regularized = []
    for view, (near, far) in zip(depth_maps, near_far, strict=True):
        step = (1 / near - 1 / far) / (planes - 1)
        consistent = mean_consistency(view, depth_maps, step, OCCLUDED_CONSISTENCY)
        data_weight = DATA_WEIGHT * view.confidence * consistent + MIN_DATA_WEIGHT
        position = tgv((1 / near - 1 / view.depth) / step, data_weight, view.image)
        inverse_depth = (1 / near - position * step).clamp(min=MIN_INVERSE_DEPTH / far)
        depth = snap_edge_pixels(1 / inverse_depth, view.image)
        regularized.append(replace(view, depth=depth))
    return regularized


def snap_edge_pixels(
    depth: Float[Tensor, "height width"], image: Float[Tensor, "3 height width"]
) -> Float[Tensor, "height width"]:
    """Move depths between a foreground and its background to one of the two.

    Such a pixel, which would hang from the outline as a rag, takes the depth of the pixel nearby
    that is most like it in color and does not itself lie in between.
    """
    height, width = depth.shape
    window = DISCONTINUITY_WINDOW_PX
    farthest = functional.max_pool2d(depth[None], window, 1, window // 2)[0]
    nearest = -functional.max_pool2d(-depth[None], window, 1, window // 2)[0]
    slack = DISCONTINUITY_RATIO**0.25
    between = farthest > DISCONTINUITY_RATIO * nearest
    between &= (depth > slack * nearest) & (slack * depth < farthest)
    offset = torch.arange(-SEARCH_RADIUS_PX, SEARCH_RADIUS_PX + 1, device=depth.device)
    down, right = torch.meshgrid(offset, offset, indexing="ij")
    distance = (down**2 + right**2).flatten() / (2 * DISTANCE_SIGMA_PX**2)
    colors, snapped = image.flatten(1), depth.flatten().clone()
    for pixels in between.nonzero().split(MAX_PIXELS_AT_ONCE):
        row = (pixels[:, :1] + down.flatten()).clamp(0, height - 1)
        column = (pixels[:, 1:] + right.flatten()).clamp(0, width - 1)
        neighbors, pixel = row * width + column, pixels[:, 0] * width + pixels[:, 1]
        difference = (colors[:, neighbors] - colors[:, pixel, None]).square().sum(0)
        # Where all neighbors lie in between, a pixel is most like itself and stays.
        cost = difference / (2 * COLOR_SIGMA**2) + distance + 1e4 * between.flatten()[neighbors]
        best = neighbors.gather(1, cost.argmin(1, keepdim=True))[:, 0]
        snapped[pixel] = depth.flatten()[best]
    return snapped.unflatten(0, depth.shape)


@dataclass(frozen=True)
class _Level:
    """The problem at one size of the pyramid."""

    measured: Float[Tensor, "height width"]
    data_weight: Float[Tensor, "height width"]
    edge_weight: Float[Tensor, "2 height width"]  # cost of a jump to the right and downward


def tgv(
    measured: Float[Tensor, "height width"],
    data_weight: Float[Tensor, "height width"],
    guide: Float[Tensor, "3 height width"],
) -> Float[Tensor, "height width"]:
    """Minimize second-order total generalized variation, less at the guide's edges.

    `data_weight`, positive, is the cost of leaving each measured value by one.
    """
    levels = _pyramid(measured, data_weight, guide)
    values, gradient = levels[-1].measured, torch.zeros_like(levels[-1].edge_weight)
    for level, iterations in reversed(list(zip(levels, ITERATIONS, strict=False))):
        size = level.measured.shape
        if values.shape != size:
            values = _upsample(values[None], size)[0]
            gradient = _upsample(gradient, size) / 2
        values, gradient = _minimize(level, values, gradient, iterations)
    return values


def _pyramid(
    measured: Float[Tensor, "height width"],
    data_weight: Float[Tensor, "height width"],
    guide: Float[Tensor, "3 height width"],
) -> list[_Level]:
    levels = []
    for depth in range(len(ITERATIONS)):
        # A pixel covers four of the next finer level, and a gradient spans twice as much there.
        edge_weight = torch.exp(-_gradient(guide).abs().mean(1) / EDGE_CONTRAST)
        edge_weight[0, :, -1] = edge_weight[1, -1] = 0  # nothing lies beyond the border
        levels.append(_Level(measured, data_weight * 2**depth, edge_weight))
        if min(measured.shape) < 2 * MIN_SIDE_PX:
            break
        weighted, data_weight = functional.avg_pool2d(
            torch.stack([measured * data_weight, data_weight]), 2
        )
        measured, guide = weighted / data_weight, functional.avg_pool2d(guide, 2)
    return levels


def _upsample(
    maps: Float[Tensor, "map _height _width"], size: tuple[int, ...]
) -> Float[Tensor, "map height width"]:
    return functional.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def _gradient(maps: Float[Tensor, "map height width"]) -> Float[Tensor, "2 map height width"]:
    """Take forward differences, to the right and downward; zero at the border."""
    right = functional.pad(maps.diff(dim=-1), (0, 1))
    down = functional.pad(maps.diff(dim=-2), (0, 0, 0, 1))
    return torch.stack([right, down])


def _divergence(duals: Float[Tensor, "2 map height width"]) -> Float[Tensor, "map height width"]:
    """Apply the negative transpose of `_gradient`."""
    right, down = duals[0, ..., :-1], duals[1, ..., :-1, :]
    horizontal = functional.pad(right, (0, 1)) - functional.pad(right, (1, 0))
    return horizontal + functional.pad(down, (0, 0, 0, 1)) - functional.pad(down, (0, 0, 1, 0))


def _minimize(
    level: _Level,
    values: Float[Tensor, "height width"],
    gradient: Float[Tensor, "2 height width"],
    iterations: int,
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "2 height width"]]:
    """Minimize the energy over values and gradient, by Chambolle and Pock's algorithm 1.

    The energy is edge_weight * |grad values - gradient| + SECOND_ORDER_WEIGHT * |grad gradient| +
    data_weight * |values - measured|. The absolute values are of single components: the proximal
    map of their duals is a clamp.
    """
    first_dual = torch.zeros_like(gradient)[:, None]
    second_dual = torch.zeros_like(gradient).expand(2, -1, -1, -1).clone()
    limit, shrinkage = level.edge_weight[:, None], STEP_SIZE * level.data_weight
    ahead, ahead_gradient = values, gradient  # over-relaxed
    for _ in range(iterations):
        residual = _gradient(ahead[None]) - ahead_gradient[:, None]
        first_dual = torch.clamp(first_dual + STEP_SIZE * residual, -limit, limit)
        second_dual = second_dual + STEP_SIZE * _gradient(ahead_gradient)
        second_dual = second_dual.clamp_(-SECOND_ORDER_WEIGHT, SECOND_ORDER_WEIGHT)
        change = values + STEP_SIZE * _divergence(first_dual)[0] - level.measured
        new_values = level.measured + change.sign() * (change.abs() - shrinkage).clamp_(min=0)
        new_gradient = gradient + STEP_SIZE * (first_dual[:, 0] + _divergence(second_dual))
        ahead, ahead_gradient = 2 * new_values - values, 2 * new_gradient - gradient
        values, gradient = new_values, new_gradient
    return values, gradient
