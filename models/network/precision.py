"""Running a network with less precision than it was trained with."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from models.network.noposplat import NoPoSplat


class RoundedLinear(nn.Module):
    """A linear layer whose weights, input and output are bfloat16, for inference.

    On a CPU the weights are put into the order in which oneDNN multiplies, which saves a fifth of
    the time of every call, but only at the second call: it takes as long as two calls save.
    """

    def __init__(self, exact: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(exact.weight.bfloat16(), requires_grad=False)
        self.bias = nn.Parameter(exact.get_parameter("bias").bfloat16(), requires_grad=False)
        self.calls = 0

    def forward(self, x: Float[Tensor, "*batch _in"]) -> Float[Tensor, "*batch _out"]:
        """Map the last axis."""
        x = x.bfloat16()
        self.calls += 1
        if self.weight.is_cuda or self.calls == 1 or not can_pack():
            return linear(x, self.weight, self.bias)
        if not self.weight.is_mkldnn:
            packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.data)
            self.weight = nn.Parameter(packed, requires_grad=False)
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def can_pack() -> bool:
    """Whether oneDNN is here, with what torch's own compiler uses of it: nothing public does it."""
    wanted = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
    return (
        all(hasattr(torch.ops.mkldnn, name) for name in wanted)
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def round_to_bfloat16(network: NoPoSplat) -> None:
    """Let a network compute in bfloat16, for inference and for good, where that costs little.

    Rounded are the linear layers of all transformer blocks, the parameter heads and the trunks of
    the center heads. Sums across layers, norms, and what draws the centers from their trunks stay
    in float32, because rounding a center itself moves it by pixels.
    """
    for block in (*network.backbone.encoder.modules(), *network.backbone.decoder.modules()):
        for name, child in block.named_children():
            if isinstance(child, nn.Linear):
                setattr(block, name, RoundedLinear(child))
    if network.config.heads == "linear":
        return
    network.parameter_head.to(torch.bfloat16)
    for head in (network.center_head.first, network.center_head.others):
        head.trunk.to(torch.bfloat16)
