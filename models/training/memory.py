"""Trading time for memory: what the way back needs is computed again instead of kept."""

from functools import partial

from torch.utils.checkpoint import checkpoint

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
