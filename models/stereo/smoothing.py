"""Where one view's depth is in doubt: whether the others agree, and a smooth surface instead."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from models.geometry.depth_map import DepthMap, look_up

SAME = 1.5  # steps between two views' depths at which agreement has fallen to 1/e
HIDDEN = 0.2  # agreement where the other view has something in front
UNSEEN = 0.5  # agreement where no other view looks
ROUNDS = 3


def agreement(
    view: DepthMap, other: DepthMap, step: float, hidden: float = HIDDEN
) -> Float[Tensor, "height width"]:
    """How well the other view confirms each depth, in [0, 1]; `step` is a step's inverse depth.

    `hidden` is the agreement where the other view has something in front.
    """
    z, inside, there = look_up(view, other, other.depth[None])
    off = (1 / z - 1 / there[0]).abs() / step
    agree = torch.exp(-((off / SAME) ** 2))
    behind = there[0] < z - step * z**2
    agree = torch.where(behind, agree.clamp(min=hidden), agree)
    return torch.where(inside, agree, UNSEEN).unflatten(0, view.depth.shape)


def smooth(
    values: Float[Tensor, "batch height width"],
    weight: Float[Tensor, "batch height width"],
    pull_right: Float[Tensor, "batch height right"],
    pull_down: Float[Tensor, "batch down width"],
) -> Float[Tensor, "batch height width"]:
    """Weighted average over everything that is connected; differentiable in every argument.

    Rows and columns in turn, each solved exactly (Min et al., "Fast global image smoothing based on
    weighted least squares", TIP 2014); values and weights are smoothed alike.

    Args:
        values: What is smoothed.
        weight: How much each value counts, positive.
        pull_right: How strongly each pixel is tied to the one on its right; one column fewer.
        pull_down: And to the one below; one row fewer.
    """
    stack = torch.stack([values * weight, weight], dim=-1)
    across, down = pull_right.movedim(2, 0)[..., None], pull_down.movedim(1, 0)[..., None]
    for round in range(1, ROUNDS + 1):
        share = 1.5 * 4 ** (ROUNDS - round) / (4**ROUNDS - 1)
        turned = _Solve.apply(stack.movedim(2, 0), share * across)
        stack = _Solve.apply(turned.permute(2, 1, 0, 3), share * down).transpose(0, 1)
    return stack[..., 0] / stack[..., 1]


class _Solve(torch.autograd.Function):
    """`_solve`, whose own derivative is the same system with another right side."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, pull: Tensor) -> Tensor:
        solved = _solve(values, pull)
        ctx.save_for_backward(solved, pull)
        return solved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        solved, pull = ctx.saved_tensors
        of_values = _solve(gradient, pull)
        products = solved.diff(dim=0) * of_values.diff(dim=0)
        return of_values, -products.sum(-1, keepdim=True)


def _solve(
    values: Float[Tensor, "line *other channel"], pull: Float[Tensor, "between *other 1"]
) -> Float[Tensor, "line *other channel"]:
    """Minimize the squared change plus the pull-weighted squared differences along the first axis.

    A tridiagonal system for each line (Thomas algorithm).
    """
    values, pull = values.contiguous(), pull.contiguous()
    none = torch.zeros_like(pull[:1])
    before, after = torch.cat([none, pull]), torch.cat([pull, none])
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
