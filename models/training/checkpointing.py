"""Activation checkpointing in training."""

from functools import partial

from torch.utils.checkpoint import checkpoint

from models.network.noposplat import NoPoSplat


def recompute_blocks(network: NoPoSplat) -> None:
    """Recompute the activations of every transformer block and head in the backward pass."""
    backbone = network.backbone
    for module in (
        *backbone.encoder.children(),
        *backbone.decoder,
        network.center_head,
        network.parameter_head,
    ):
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)  # type: ignore[method-assign]
