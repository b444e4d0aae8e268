"""Depth maps made of surfaces: planes where photos are unclear, breaks where they have edges.

What a sweep finds is uneven: steps between its planes, dents where there is no texture, guesses
where the other view sees nothing. Total generalized variation (Bredies et al., SIAM J. Imaging
Sciences 2010; weighted by image edges as in Ranftl et al., IV 2012) prefers an inverse depth that
is affine piece by piece, as that of planes is. It is minimized by a primal-dual method (Chambolle
and Pock, JMIV 2011) from coarse to fine.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.depth_map import DepthMap
from models.stereo.smoothing import agreement

TRUST = 0.3  # cost of leaving a certain depth by one plane; a jump by one plane costs 1
LEAST_TRUST = 1e-4
BENDING = 8.0  # cost of a change of slope by one plane per pixel
EDGE = 0.04  # color difference at which a jump costs 1/e
ITERATIONS = (40, 60, 100, 500)  # at the full size, at half of it, and so on
SMALLEST = 12  # pixels: shorter sides are not halved
STRIDE = 12**-0.5  # of both kinds of variables: the norm of the operator is below sqrt(12)
HIDDEN = 0.02  # agreement where another view has something in front: nothing was matched there
BREAK = 1.1  # a window whose depths span more than this factor has a fore- and a background
WINDOW = 5  # pixels
REACH = 7  # pixels, to each side, within which a pixel between the two finds where it belongs
ALIKE = 0.05  # color difference, and
CLOSE = 4.0  # distance in pixels, of one standard deviation, by which it is found
AT_ONCE = 16384  # pixels: bounds the memory
BEYOND = 0.3  # the least inverse depth, as a share of that of the farthest plane


@dataclass(frozen=True)
class _Level:
    """The problem at one size: what was measured, how far to trust it, and what a jump costs."""

    measured: Float[Tensor, "height width"]
    trust: Float[Tensor, "height width"]
    jump: Float[Tensor, "2 height width"]


def settle(
    views: list[DepthMap], near_far: list[tuple[float, float]], planes: int
) -> list[DepthMap]:
    """Give the views depths that form surfaces, held by what is confident and confirmed.

    Args:
        views: All views, as they were measured.
        near_far: For each view the range of depths that was searched.
        planes: How many depths, evenly spaced in inverse depth, stood for that range.
    """
    settled = []
    for view, (near, far) in zip(views, near_far, strict=True):
        step = (1 / near - 1 / far) / (planes - 1)
        confirmed = torch.stack(
            [agreement(view, other, step, HIDDEN) for other in views if other is not view]
        ).mean(0)
        position = piecewise_affine(
            (1 / near - 1 / view.depth) / step,
            TRUST * view.confidence * confirmed + LEAST_TRUST,
            view.image,
        )
        inverse_depth = (1 / near - position * step).clamp(min=BEYOND / far)
        settled.append(replace(view, depth=decide(1 / inverse_depth, view.image)))
    return settled


def decide(
    depth: Float[Tensor, "height width"], image: Float[Tensor, "3 height width"]
) -> Float[Tensor, "height width"]:
    """Depths of fore- and backgrounds, but none in between.

    A pixel that lies between them, which seen from the side is a rag hanging from an outline, takes
    the depth of the pixel around it that is most like it in color and does not lie in between.
    """
    height, width = depth.shape
    farthest = functional.max_pool2d(depth[None], WINDOW, 1, WINDOW // 2)[0]
    nearest = -functional.max_pool2d(-depth[None], WINDOW, 1, WINDOW // 2)[0]
    slack = BREAK**0.25
    between = farthest > BREAK * nearest
    between &= (depth > slack * nearest) & (slack * depth < farthest)
    offset = torch.arange(-REACH, REACH + 1, device=depth.device)
    down, right = torch.meshgrid(offset, offset, indexing="ij")
    away = (down**2 + right**2).flatten() / (2 * CLOSE**2)
    colors, decided = image.flatten(1), depth.flatten().clone()
    for places in between.nonzero().split(AT_ONCE):
        row = (places[:, :1] + down.flatten()).clamp(0, height - 1)
        column = (places[:, 1:] + right.flatten()).clamp(0, width - 1)
        around, here = row * width + column, places[:, 0] * width + places[:, 1]
        unlike = (colors[:, around] - colors[:, here, None]).square().sum(0) / (2 * ALIKE**2)
        # Where all around lies in between, a pixel is most like itself and stays.
        cost = unlike + away + 1e4 * between.flatten()[around]
        best = around.gather(1, cost.argmin(1, keepdim=True))[:, 0]
        decided[here] = depth.flatten()[best]
    return decided.unflatten(0, depth.shape)


def piecewise_affine(
    measured: Float[Tensor, "height width"],
    trust: Float[Tensor, "height width"],
    guide: Float[Tensor, "3 height width"],
) -> Float[Tensor, "height width"]:
    """The map that is nearest to affine, but for edges of the guide, and to what was measured.

    Args:
        measured: Values, some of them wrong.
        trust: Cost of leaving each value by one; positive.
        guide: A picture whose edges may be edges of the map.
    """
    levels = _pyramid(measured, trust, guide)
    values, slope = levels[-1].measured, torch.zeros_like(levels[-1].jump)
    for level, iterations in zip(
        reversed(levels), reversed(ITERATIONS[: len(levels)]), strict=True
    ):
        size = level.measured.shape
        if values.shape != size:
            values = _enlarge(values[None], size)[0]
            slope = _enlarge(slope, size) / 2
        values, slope = _minimize(level, values, slope, iterations)
    return values


def _pyramid(
    measured: Float[Tensor, "height width"],
    trust: Float[Tensor, "height width"],
    guide: Float[Tensor, "3 height width"],
) -> list[_Level]:
    levels = []
    for depth in range(len(ITERATIONS)):
        # A pixel stands for four of the next finer level, and a slope spans twice as much there.
        jump = torch.exp(-_differences(guide).abs().mean(1) / EDGE)
        jump[0, :, -1] = jump[1, -1] = 0  # nothing lies beyond the border
        levels.append(_Level(measured, trust * 2**depth, jump))
        if min(measured.shape) < 2 * SMALLEST:
            break
        weighted, trust = _halve(torch.stack([measured * trust, trust]))
        measured, guide = weighted / trust, _halve(guide)
    return levels


def _halve(maps: Float[Tensor, "map height width"]) -> Float[Tensor, "map _height _width"]:
    return functional.avg_pool2d(maps, 2)


def _enlarge(
    maps: Float[Tensor, "map _height _width"], size: tuple[int, ...]
) -> Float[Tensor, "map height width"]:
    return functional.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]


def _differences(maps: Float[Tensor, "map height width"]) -> Float[Tensor, "2 map height width"]:
    """To the right and downward; zero at the border."""
    right = functional.pad(maps.diff(dim=-1), (0, 1))
    down = functional.pad(maps.diff(dim=-2), (0, 0, 0, 1))
    return torch.stack([right, down])


def _divergence(duals: Float[Tensor, "2 map height width"]) -> Float[Tensor, "map height width"]:
    """The negative transpose of `_differences`."""
    right, down = duals[0, ..., :-1], duals[1, ..., :-1, :]
    across = functional.pad(right, (0, 1)) - functional.pad(right, (1, 0))
    return across + functional.pad(down, (0, 0, 0, 1)) - functional.pad(down, (0, 0, 1, 0))


def _minimize(
    level: _Level,
    values: Float[Tensor, "height width"],
    slope: Float[Tensor, "2 height width"],
    iterations: int,
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "2 height width"]]:
    """Minimize jump * |grad values - slope| + BENDING * |grad slope| + trust * |values - measured|.

    The absolute values are of single components: for their duals a clamp is all there is to do.
    """
    steepness = torch.zeros_like(slope)[:, None]
    bending = torch.zeros_like(slope).expand(2, -1, -1, -1).clone()
    limit, give = level.jump[:, None], STRIDE * level.trust
    ahead, ahead_slope = values, slope
    for _ in range(iterations):
        rise = _differences(ahead[None]) - ahead_slope[:, None]
        steepness = torch.clamp(steepness + STRIDE * rise, -limit, limit)
        bending = (bending + STRIDE * _differences(ahead_slope)).clamp_(-BENDING, BENDING)
        off = values + STRIDE * _divergence(steepness)[0] - level.measured
        moved = level.measured + off.sign() * (off.abs() - give).clamp_(min=0)
        turned = slope + STRIDE * (steepness[:, 0] + _divergence(bending))
        ahead, ahead_slope = 2 * moved - values, 2 * turned - slope
        values, slope = moved, turned
    return values, slope
