"""Initialize a network from MASt3R, as the published ones were, or from weights of any kind."""

import math
from pathlib import Path

import torch
from torch import Tensor

from models.files.pickled import is_state
from models.network.config import NoPoSplatConfig
from models.network.noposplat import NoPoSplat
from models.weights import published
from models.weights.files import load_network
from models.weights.strict import load_strictly

LICENSE = "CC BY-NC-SA 4.0, as MASt3R from which it was trained: non-commercial use only"
LEFT_OUT = ("downstream_head1.head_local_features.", "downstream_head2.head_local_features.")
NOT_IN_MAST3R = ("backbone.intrinsics_embed.", "backbone.mask_token", "parameter_head.")
CENTER_HEADS = "center_head."


def load_initial(path: Path, architecture: NoPoSplatConfig | None = None) -> tuple[NoPoSplat, str]:
    """Load a network to train further: from a file of ours, a published checkpoint or MASt3R's.

    Raises ValueError when the file is something else.

    Args:
        path: The file.
        architecture: The network that MASt3R's weights initialize, the published one by default;
            all other files record their own.

    Returns:
        The network, and the license that its weights bring along.
    """
    with path.open("rb") as file:
        is_pickled = file.read(4) == b"PK\x03\x04"
    checkpoint = published.read_pickled(path) if is_pickled else None
    state = checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if not is_state(state):
        network, info = load_network(path)
        return network.train(), info.license
    network = NoPoSplat(architecture or published.ARCHITECTURE)
    try:
        initialize_from_mast3r(network, state)
    except ValueError as error:
        raise ValueError(f"{path} is no MASt3R checkpoint of this size: {error}") from error
    return network, LICENSE


def initialize_from_mast3r(network: NoPoSplat, state: dict[str, Tensor]) -> None:
    """Load the backbone and the center heads from MASt3R.

    The intrinsics token and the parameter heads, which it lacks, keep their initialization, and so
    do an ablation's linear heads. Its descriptors and its confidence, a fourth channel of the
    center heads, are left out. All else must be there, and nothing may be left over. Layers that
    ablations widen are initialized from MASt3R's as in the paper.
    """
    theirs = {
        key if key.startswith("downstream_head") else f"backbone.{key}": value
        for key, value in state.items()
        if not key.startswith(LEFT_OUT)
    }
    initial = published.rename_all(theirs)
    not_there: tuple[str, ...] = NOT_IN_MAST3R
    if network.config.heads == "linear":
        not_there = (*NOT_IN_MAST3R, CENTER_HEADS)
        initial = {k: v for k, v in initial.items() if not k.startswith(CENTER_HEADS)}
    own = {key: value for key, value in network.state_dict().items() if key.startswith(not_there)}
    load_strictly(network, own | widen(initial, network))


def widen(initial: dict[str, Tensor], network: NoPoSplat) -> dict[str, Tensor]:
    """Initialize layers that also take rays.

    The image kernel is repeated over all channels and scaled to the same sum; of the decoder's
    columns, group means become the new ones, and old and new are halved.
    """
    patches, decoder = "backbone.patch_embed.weight", "backbone.decoder_embed.weight"
    if not {patches, decoder} <= initial.keys():
        return initial  # and `load_strictly` says so
    channels = network.backbone.patch_embed.weight.shape[1]
    more = network.backbone.decoder_embed.weight.shape[1] - initial[decoder].shape[1]
    changed = dict(initial)
    if channels > 3:
        repeated = initial[patches].repeat(1, math.ceil(channels / 3), 1, 1)[:, :channels]
        changed[patches] = repeated * (3 / channels)
    if more > 0:
        groups = initial[decoder].tensor_split(more, dim=1)
        means = torch.stack([group.mean(1) for group in groups], dim=1)
        changed[decoder] = torch.cat([initial[decoder], means], dim=1) / 2
    return changed
