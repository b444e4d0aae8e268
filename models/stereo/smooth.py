"""Where one view's depth is in doubt: whether the others agree, and a smooth surface instead."""

import torch
from jaxtyping import Float
from torch import Tensor

from models.fusion import PosedDepth, look_up

SAME = 1.5  # planes between two views' depths at which agreement has fallen to 1/e
HIDDEN = 0.2  # agreement where the other view has something in front
UNSEEN = 0.5  # agreement where no other view looks
CERTAIN = 0.25  # weight (confidence times agreement) above which a depth is left as it is
SMOOTHNESS = 10.0  # of the surface that replaces the others
EDGE = 0.06  # color difference at which neighbors pull 1/e as strongly
ROUNDS = 3


def agreement(view: PosedDepth, other: PosedDepth, step: float) -> Float[Tensor, "height width"]:
    """How well the other view confirms each depth, in [0, 1]; `step` is a plane's inverse depth."""
    z, inside, there = look_up(view, other, other.depth[None])
    off = (1 / z - 1 / there[0]).abs() / step
    agree = torch.exp(-((off / SAME) ** 2))
    hidden = there[0] < z - step * z**2
    agree = torch.where(hidden, agree.clamp(min=HIDDEN), agree)
    return torch.where(inside, agree, UNSEEN).unflatten(0, view.depth.shape)


def replace_doubtful(
    values: Float[Tensor, "height width"],
    weight: Float[Tensor, "height width"],
    guide: Float[Tensor, "3 height width"],
) -> Float[Tensor, "height width"]:
    """Keep what is certain; elsewhere continue it smoothly, up to the edges of the guide."""
    return torch.where(weight > CERTAIN, values, smooth(values, weight.clamp(min=1e-4), guide))


def smooth(
    values: Float[Tensor, "height width"],
    weight: Float[Tensor, "height width"],
    guide: Float[Tensor, "3 height width"],
) -> Float[Tensor, "height width"]:
    """Weighted average over everything that no edge of the guide separates.

    Rows and columns in turn, each solved exactly (Min et al., "Fast global image smoothing based on
    weighted least squares", TIP 2014); values and weights are smoothed alike.
    """
    stack = torch.stack([values * weight, weight], dim=-1)
    strengths = [
        1.5 * SMOOTHNESS * 4 ** (ROUNDS - r) / (4**ROUNDS - 1) for r in range(1, ROUNDS + 1)
    ]
    across_rows, across_columns = (
        torch.exp(-guide.diff(dim=axis).abs().mean(0) / EDGE)[..., None] for axis in (1, 2)
    )
    for strength in strengths:
        turned = _solve(stack.transpose(0, 1), strength * across_columns.transpose(0, 1))
        stack = _solve(turned.transpose(0, 1), strength * across_rows)
    return stack[..., 0] / stack[..., 1]


def _solve(
    values: Float[Tensor, "step line channel"], pull: Float[Tensor, "between line 1"]
) -> Float[Tensor, "step line channel"]:
    """Minimize the squared change plus the pull-weighted squared differences along the first axis.

    A tridiagonal system for each line (Thomas algorithm).
    """
    none = torch.zeros_like(pull[:1])
    before, after = torch.cat([none, pull]), torch.cat([pull, none])
    diagonal = 1 + before + after
    ratio = torch.empty_like(diagonal)
    solved = torch.empty_like(values)
    ratio[0] = after[0] / diagonal[0]
    solved[0] = values[0] / diagonal[0]
    for step in range(1, len(values)):
        pivot = diagonal[step] - before[step] * ratio[step - 1]
        ratio[step] = after[step] / pivot
        solved[step] = (values[step] + before[step] * solved[step - 1]) / pivot
    for step in range(len(values) - 2, -1, -1):
        solved[step] += ratio[step] * solved[step + 1]
    return solved
