"""Starting a network from MASt3R, as the published ones did, or from weights of any kind."""

from pathlib import Path

from torch import Tensor

from models.network.noposplat import NoPoSplat
from models.weights import published
from models.weights.files import load_network
from models.weights.strict import load_strictly

LICENSE = "CC BY-NC-SA 4.0, as MASt3R from which it was trained: non-commercial use only"
NOT_WANTED = ("downstream_head1.head_local_features.", "downstream_head2.head_local_features.")
NOT_IN_MAST3R = ("backbone.intrinsics_embed.", "backbone.mask_token", "parameter_head.")


def load_initial(path: Path) -> tuple[NoPoSplat, str]:
    """A network to train further: from a file of ours, a published checkpoint, or MASt3R's.

    Raises ValueError when the file is something else.

    Returns:
        The network, and the license that its weights bring along.
    """
    with path.open("rb") as file:
        is_pickled = file.read(4) == b"PK\x03\x04"
    checkpoint = published.read_pickled(path) if is_pickled else None
    state = checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict):
        network, info = load_network(path)
        return network.train(), info.license
    network = NoPoSplat(published.ARCHITECTURE)
    try:
        initialize_from_mast3r(network, state)
    except ValueError as error:
        raise ValueError(f"{path} is no MASt3R checkpoint of this size: {error}") from error
    return network, LICENSE


def initialize_from_mast3r(network: NoPoSplat, state: dict[str, Tensor]) -> None:
    """Fill in all that MASt3R knows: the backbone and the center heads.

    What it has not, the intrinsics token and the parameter heads, keeps its own start. Its
    descriptors and its confidence, a fourth channel of the center heads, are left out. All else
    must be there, and nothing may be left over.
    """
    theirs = {
        key if key.startswith("downstream_head") else f"backbone.{key}": value
        for key, value in state.items()
        if not key.startswith(NOT_WANTED)
    }
    own = {key: v for key, v in network.state_dict().items() if key.startswith(NOT_IN_MAST3R)}
    load_strictly(network, own | published.under_our_names(theirs))
