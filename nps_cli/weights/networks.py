"""Loads the networks that options name, or else the best on this machine."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    import torch

    from models.features.matcher import Matcher
    from models.network.dinov2 import Dinov2
    from models.network.noposplat import NoPoSplat
    from models.network.preprocessing import Preprocessing
    from models.reconstruction import Networks
    from models.stereo.network import StereoNetwork
    from models.weights import PublishedCheckpoint, WeightsInfo

MIN_PARAMETERS_TO_ROUND = 100e6  # smaller networks take less than a second anyway


class NetworkChoice(NamedTuple):
    """The first arguments of `load_networks`, as the command line's options give them."""

    weights: str | None = None
    device: str = "auto"
    precision: str = "auto"
    crop: str | None = None


def load_networks(
    weights: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    crop: str | None = None,
    *,
    views: int = 2,
    refine: bool = True,
    lpips: bool = False,
) -> "tuple[Networks, WeightsInfo]":
    """Load the networks of a reconstruction, and the name and hash of the main one's weights.

    Args:
        weights: A name from `nps weights list`, or a file; None is the best on this machine.
        device: "cpu", "cuda", "cuda:1", ...; "auto" prefers CUDA.
        precision: "float32", "bfloat16", or "auto": bfloat16 for large networks on CPUs with it.
        crop: "square" or "full" photos; None is what the weights were trained on.
        views: Number of photos; published weights were trained for 2 or for 3.
        refine: Load also those that refine the prediction: matchers, stereo network and encoder.
        lpips: Load also the perceptual distance, if its weights are here.

    Raises:
        NpsError: If there are no such weights, or no such device.
    """
    from models.reconstruction import Networks
    from nps_cli.device import pick_device
    from nps_cli.weights.lpips import find_lpips

    torch_device = pick_device(device)
    noposplat, info = open_network(weights, torch_device, views, precision)
    matchers, stereo, encoder = load_refinement(torch_device) if refine else ((), None, None)
    distance = find_lpips() if lpips else None
    preprocessing = preprocessing_for(info, crop)
    distance = distance and distance.to(torch_device)
    reliability = _pose_reliability(info)
    networks = Networks(noposplat, preprocessing, matchers, stereo, distance, encoder, reliability)
    return networks, info


def open_network(
    weights: str | None, device: "torch.device", views: int = 2, precision: str = "auto"
) -> "tuple[NoPoSplat, WeightsInfo]":
    """Load the network that --weights names, or else the best on this machine for the photos."""
    from models.network.precision import round_to_bfloat16
    from models.weights import find_checkpoint
    from nps_cli.weights import hub
    from nps_cli.weights.checksums import sha256_of

    checkpoint = find_checkpoint(weights) if weights else _best_published(device, views)
    if checkpoint:
        path, sha256 = hub.obtain(checkpoint)
    else:
        path = find_file(weights or "network")
        sha256 = sha256_of(path)
    network, info = load_file(path, sha256)
    network.to(device)
    if precision == "bfloat16" or (precision == "auto" and _gains_from_rounding(network, device)):
        round_to_bfloat16(network)
    return network, checkpoint.info(sha256) if checkpoint else info


def find_file(name: str) -> Path:
    """Return the embedded weights of a name, or the file of a path; raise NpsError without one."""
    from models.weights import embedded_path

    for path in (embedded_path(name), Path(name)):
        if os.path.isfile(path):  # Path.is_file() raises OSError for a name that is too long
            return path
    raise NpsError(
        f"There are no weights {name}.",
        hint="`nps weights list` shows what there is; a file's name works too.",
    )


def load_file(path: Path, sha256: str | None = None) -> "tuple[NoPoSplat, WeightsInfo]":
    """Load a network; raise NpsError if the file is broken, or holds something else."""
    from models.weights import load_network

    try:
        return load_network(path, sha256)
    except (OSError, ValueError) as error:
        raise NpsError(str(error), hint="`nps weights list` shows weights that work.") from error


def load_refinement(
    device: "torch.device",
) -> "tuple[tuple[Matcher, ...], StereoNetwork | None, Dinov2 | None]":
    """Load matchers, stereo network and encoder; none, with a warning, where one is missing."""
    from models.features.aliked_lightglue import LearnedMatcher
    from models.features.sift import SiftMatcher
    from models.network.precision import round_linear
    from models.weights import embedded_path, load_encoder, load_stereo
    from nps_cli.device import cpu_multiplies_bfloat16

    bfloat16 = device.type == "cpu" and cpu_multiplies_bfloat16()
    try:
        stereo, _ = load_stereo(embedded_path("stereo"))
        encoder, _ = load_encoder(embedded_path("dinov2"))
        learned = LearnedMatcher(device, bfloat16)
    except FileNotFoundError as error:
        console.warning(f"no refinement: {error} (see `nps doctor`)")
        return (), None, None
    if bfloat16:
        round_linear(encoder.blocks)
    return (SiftMatcher(), learned), stereo.to(device), encoder.to(device)


def preprocessing_for(info: "WeightsInfo", crop: str | None) -> "Preprocessing":
    """Return what the network sees of photos: by default what it saw when it was trained.

    The published networks saw squares of one size, and the weights say which; others do not mind.
    """
    from models.network.preprocessing import Crop, Preprocessing

    side = info.metadata.get("image_size", "")
    if side and not re.fullmatch(r"[1-9][0-9]{1,3}", side):
        raise NpsError(
            f"{info.name} was trained on photos of {side[:20]!r} pixels, by its image_size.",
            hint="Correct it in the file: 256 or 512, for instance.",
        )
    usual = Crop.square if side else Crop.full
    return Preprocessing(Crop(crop or usual), int(side or Preprocessing.side))


def _pose_reliability(info: "WeightsInfo") -> float:
    """Return the share of its poses that are right, if the weights say it; else 1."""
    text = info.metadata.get("pose_reliability", "1")
    if not re.fullmatch(r"0(\.[0-9]{1,6})?|1", text):
        raise NpsError(
            f"{info.name} has a pose_reliability of {text[:20]!r}.",
            hint="Correct it in the file: a number from 0 to 1.",
        )
    return float(text)


def _gains_from_rounding(network: "NoPoSplat", device: "torch.device") -> bool:
    """Tell whether bfloat16 saves seconds: on a CPU that has it, with large networks."""
    from nps_cli.device import cpu_multiplies_bfloat16

    parameters = sum(parameter.numel() for parameter in network.parameters())
    large = parameters > MIN_PARAMETERS_TO_ROUND
    return device.type == "cpu" and large and cpu_multiplies_bfloat16()


def _best_published(device: "torch.device", views: int) -> "PublishedCheckpoint | None":
    """Return the first that was fetched for as many photos; none on a CPU: it takes seconds."""
    from models.weights import CHECKPOINTS
    from nps_cli.weights import hub

    if device.type == "cpu":
        return None
    fitting = (each for each in CHECKPOINTS if each.views == views)
    return next((each for each in fitting if hub.find_cached(each)), None)
