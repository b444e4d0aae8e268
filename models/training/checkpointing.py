"""Activation checkpointing, and lower precision of the heads, in training."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.network.dinov2 import Dinov2
from models.network.heads import CenterHead
from models.network.noposplat import NoPoSplat


def recompute_blocks(network: NoPoSplat) -> None:
    """Recompute the activations of every transformer block and head in the backward pass."""
    backbone = network.backbone
    encoder = backbone.encoder
    for module in (
        *(encoder.blocks if isinstance(encoder, Dinov2) else encoder),
        *backbone.decoder,
        network.center_head,
        network.parameter_head,
    ):
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]


def round_heads(network: NoPoSplat) -> None:
    """On CUDA devices, compute the heads in bfloat16, except for the last layers of centers.

    Rounding those would move a center by pixels.
    """
    centers = network.center_head.first, network.center_head.others
    trunks = [head.trunk for head in centers if isinstance(head, CenterHead)]
    for module in (*trunks, network.parameter_head.first, network.parameter_head.others):
        module.forward = partial(_in_bfloat16, module, module.forward)  # type: ignore[method-assign]


def _in_bfloat16(module: nn.Module, forward: Callable[..., Tensor], *inputs: Any) -> Tensor:
    device = next(module.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        return forward(*inputs)
