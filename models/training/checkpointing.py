"""How a network computes while it learns: less memory for more time, less exactness for less."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.network.heads import CenterHead
from models.network.noposplat import NoPoSplat


def recompute_blocks(network: NoPoSplat) -> None:
    """From now on keep only the inputs of every transformer block and of every head."""
    backbone = network.backbone
    for module in (
        *backbone.encoder,
        *backbone.decoder,
        network.center_head,
        network.parameter_head,
    ):
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]


def round_heads(network: NoPoSplat) -> None:
    """From now on, on CUDA devices, compute the heads in bfloat16, but not what ends in centers.

    The last convolutions before a center stay as exact as they are: rounding moves it by pixels.
    """
    centers = network.center_head.first, network.center_head.others
    trunks = [head.trunk for head in centers if isinstance(head, CenterHead)]
    for module in (*trunks, network.parameter_head.first, network.parameter_head.others):
        module.forward = partial(_rounded, module, module.forward)  # type: ignore[method-assign]


def _rounded(module: nn.Module, forward: Callable[..., Tensor], *inputs: Any) -> Tensor:
    device = next(module.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        return forward(*inputs)
