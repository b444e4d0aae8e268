"""Inference with less precision than in training."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from models.network.noposplat import NoPoSplat


class BFloat16Linear(nn.Module):
    """A linear layer whose weights, input and output are bfloat16, for inference."""

    def __init__(self, exact: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(exact.weight.bfloat16(), requires_grad=False)
        self.bias = nn.Parameter(exact.get_parameter("bias").bfloat16(), requires_grad=False)

    def forward(self, x: Float[Tensor, "*batch _in"]) -> Float[Tensor, "*batch _out"]:
        """Map the last axis."""
        return linear(x.bfloat16(), self.weight, self.bias)


def round_linear(network: nn.Module) -> None:
    """Convert all linear layers inside a network in place."""
    for block in [*network.modules()]:
        for name, child in block.named_children():
            if isinstance(child, nn.Linear):
                setattr(block, name, BFloat16Linear(child))


def round_to_bfloat16(network: NoPoSplat) -> None:
    """Convert a network in place to bfloat16, for inference, where that costs little accuracy.

    Converted are the linear layers of all transformer blocks, the parameter heads and the DPTs of
    the center heads. Residual sums, norms and the last layers of the center heads stay in float32,
    because rounding a center itself moves it by pixels.
    """
    round_linear(network.backbone.encoder)
    round_linear(network.backbone.decoder)
    if network.config.heads == "linear":
        return
    network.parameter_head.to(torch.bfloat16)
    for head in (network.center_head.first, network.center_head.others):
        head.trunk.to(torch.bfloat16)
