"""Geometric consistency of depth maps, and edge-aware smoothing by weighted least squares."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.geometry.depth_map import DepthMap, look_up

CONSISTENT_STEPS = 1.5  # difference of two views' depths at which consistency has fallen to 1/e
OCCLUDED_CONSISTENCY = 0.2
UNSEEN_CONSISTENCY = 0.5  # where the point lies outside the other image
ITERATIONS = 3


def mean_consistency(
    view: DepthMap, views: list[DepthMap], step: float, occluded: float = OCCLUDED_CONSISTENCY
) -> Float[Tensor, "height width"]:
    """Return the `consistency` of a view's depths with those of the others, on average."""
    others = [other for other in views if other is not view]
    return torch.stack([consistency(view, other, step, occluded) for other in others]).mean(0)


def consistency(
    view: DepthMap, other: DepthMap, step: float, occluded: float = OCCLUDED_CONSISTENCY
) -> Float[Tensor, "height width"]:
    """Return in [0, 1] how well another view's depth agrees with each depth of a view.

    `step` is the unit of inverse depth; the result is at least `occluded` where the other view has
    something in front.
    """
    z, inside, (other_depth,) = look_up(view, other, other.depth[None])
    difference = (1 / z - 1 / other_depth).abs() / step
    result = torch.exp(-((difference / CONSISTENT_STEPS) ** 2))
    behind = other_depth < z - step * z**2
    result = torch.where(behind, result.clamp(min=occluded), result)
    return torch.where(inside, result, UNSEEN_CONSISTENCY).unflatten(0, view.depth.shape)


def smooth(
    values: Float[Tensor, "batch height width"],
    weight: Float[Tensor, "batch height width"],
    edge_weight_x: Float[Tensor, "batch height right"],
    edge_weight_y: Float[Tensor, "batch down width"],
) -> Float[Tensor, "batch height width"]:
    """Smooth by fast weighted least squares (Min et al., TIP 2014); differentiable throughout.

    Rows and columns in turn, each solved exactly. Values times weights (positive), and weights, are
    smoothed alike, and divided at the end. Edges lie between each pixel and the one on its right
    (x) or below (y).
    """
    stack = torch.stack([values * weight, weight], dim=-1)
    edge_x, edge_y = edge_weight_x.movedim(2, 0)[..., None], edge_weight_y.movedim(1, 0)[..., None]
    for iteration in range(1, ITERATIONS + 1):
        strength = 1.5 * 4 ** (ITERATIONS - iteration) / (4**ITERATIONS - 1)
        transposed = _SolveTridiagonal.apply(stack.movedim(2, 0), strength * edge_x)
        stack = _SolveTridiagonal.apply(
            transposed.permute(2, 1, 0, 3), strength * edge_y
        ).transpose(0, 1)
    return stack[..., 0] / stack[..., 1]


class _SolveTridiagonal(torch.autograd.Function):
    """`_solve_tridiagonal`; its derivative is the same system with another right side."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, edge_weight: Tensor) -> Tensor:
        solved = _solve_tridiagonal(values, edge_weight)
        ctx.save_for_backward(solved, edge_weight)
        return solved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        solved, edge_weight = ctx.saved_tensors
        grad_values = _solve_tridiagonal(gradient, edge_weight)
        products = solved.diff(dim=0) * grad_values.diff(dim=0)
        return grad_values, -products.sum(-1, keepdim=True)


def _solve_tridiagonal(
    values: Float[Tensor, "line *other channel"], edge_weight: Float[Tensor, "between *other 1"]
) -> Float[Tensor, "line *other channel"]:
    """Minimize the squared change plus the weighted squared differences along the first axis.

    A tridiagonal system for each line (Thomas algorithm).
    """
    values, edge_weight = values.contiguous(), edge_weight.contiguous()
    zero = torch.zeros_like(edge_weight[:1])
    before, after = torch.cat([zero, edge_weight]), torch.cat([edge_weight, zero])
    diagonal = 1 + before + after
    ratio = torch.empty_like(diagonal)
    solved = torch.empty_like(values)
    ratio[0] = after[0] / diagonal[0]
    solved[0] = values[0] / diagonal[0]
    for line in range(1, len(values)):
        pivot = torch.addcmul(diagonal[line], before[line], ratio[line - 1], value=-1)
        torch.div(after[line], pivot, out=ratio[line])
        torch.div(
            torch.addcmul(values[line], before[line], solved[line - 1]), pivot, out=solved[line]
        )
    for line in range(len(values) - 2, -1, -1):
        solved[line].addcmul_(ratio[line], solved[line + 1])
    return solved
