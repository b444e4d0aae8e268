"""Write and read weights files of our own, and load networks from them or published ones."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from models.files.atomic import atomic_write
from models.files.json_reader import convert, parse_json
from models.files.regular import check_regular
from models.network.config import Dinov2Config, NoPoSplatConfig
from models.network.dinov2 import Dinov2
from models.network.noposplat import NoPoSplat
from models.stereo.network import StereoConfig, StereoNetwork
from models.weights.published import read_published
from models.weights.strict import EXPECTED, cut_short, empty_network, load_strictly, summarize

Config = TypeVar("Config", NoPoSplatConfig, StereoConfig, Dinov2Config)
NetworkT = TypeVar("NetworkT", bound=nn.Module)
ENCODER = "backbone.encoder."  # of a file without these weights, the encoder is the package's
REQUIRED = ("name", "license", "description")  # metadata of every file of ours


@dataclass(frozen=True)
class WeightsInfo:
    """Name, license and provenance of a weights file."""

    name: str
    sha256: str  # of the whole file
    license: str
    description: str
    metadata: dict[str, str]  # whatever else was saved: what it was trained on, ...


def embedded_path(name: str = "network") -> Path:
    """Return the path of weights that come with the package; the file may be missing."""
    return Path(__file__).parent.parent / "embedded" / f"{name}.safetensors"


def save_network(
    network: NoPoSplat | StereoNetwork,
    path: Path,
    metadata: dict[str, str],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write weights, configuration and metadata as one file, whole or not at all.

    Args:
        network: What to save.
        path: A .safetensors file.
        metadata: `name`, `license`, `description`, and anything else to keep, as text.
        dtype: How to store the weights; they are loaded as float32.
    """
    absent = set(REQUIRED) - metadata.keys()
    if absent:
        raise ValueError(f"metadata lacks {', '.join(sorted(absent))}")
    state = {
        key: value.to("cpu", dtype).contiguous() for key, value in network.state_dict().items()
    }
    try:
        with atomic_write(path) as temporary:
            config = json.dumps(asdict(network.config))
            save_file(state, temporary, {"config": config, **metadata})
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def load_network(path: Path, sha256: str | None = None) -> tuple[NoPoSplat, WeightsInfo]:
    """Build a network from a file of ours or a published checkpoint, on the CPU, for inference.

    The weights stay in the file until they are used: it must not change meanwhile. Never runs
    code from it. Raises ValueError when the file is something else or broken.

    Args:
        path: The file.
        sha256: Its digest, where that is known; otherwise the whole file is read to get it.
    """
    check_regular(path)
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise ValueError(f"{path} is no weights file (it is empty); {EXPECTED}")
    if start == b"PK\x03\x04":
        network, about = read_published(path)
    else:
        state, about = read_weights(path)
        config = parse_config(NoPoSplatConfig, about["config"], path)
        if config.encoder == "dinov2" and not any(key.startswith(ENCODER) for key in state):
            encoder, _ = read_weights(embedded_path("dinov2"))
            state |= {ENCODER + key: value for key, value in encoder.items()}
        network = empty_network(config)
        load_strictly(network, state)
    return network.eval(), describe(path, about, sha256)


def load_stereo(path: Path) -> tuple[StereoNetwork, WeightsInfo]:
    """Build a stereo network from a file of ours, on the CPU, for inference, as `load_network`."""
    return _load(path, StereoConfig, StereoNetwork)


def load_encoder(path: Path) -> tuple[Dinov2, WeightsInfo]:
    """Build the pretrained encoder from a file of ours, for inference, as `load_network`."""
    return _load(path, Dinov2Config, Dinov2)


def _load(
    path: Path, kind: type[Config], network_type: Callable[[Config], NetworkT]
) -> tuple[NetworkT, WeightsInfo]:
    state, about = read_weights(path)
    config = parse_config(kind, about["config"], path)
    with torch.device("meta"):
        network = network_type(config)
    load_strictly(network, state)
    return network.eval(), describe(path, about)


def read_info(path: Path, sha256: str | None = None) -> WeightsInfo:
    """Read name, license and provenance from a file of ours. Raises ValueError."""
    _, about = read_weights(path, weights=False)
    return describe(path, about, sha256)


def describe(path: Path, about: dict[str, str], sha256: str | None = None) -> WeightsInfo:
    """Build a file's `WeightsInfo` from its metadata."""
    rest = {key: about[key] for key in about if key not in (*REQUIRED, "config")}
    digest = sha256 or digest_of(path)
    return WeightsInfo(about["name"], digest, about["license"], about["description"], rest)


def digest_of(path: Path) -> str:
    """Return the sha256 of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path: Path, weights: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read weights (or none of them) and metadata; the latter need a `config` with weights only."""
    state, about = read_tensors(path, weights)
    absent = {*REQUIRED, *(["config"] if weights else [])} - about.keys()
    if absent:
        raise ValueError(f"{path} does not say its {', '.join(sorted(absent))}; {EXPECTED}")
    return state, about


def read_tensors(path: Path, weights: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors (or none of them) and metadata of .safetensors. Raises ValueError."""
    check_regular(path)
    try:
        with safe_open(path, "pt") as file:
            about = dict(file.metadata() or {})
            state = {key: file.get_tensor(key) for key in file.keys() if weights}
    except OSError:
        raise
    except Exception as error:  # files from elsewhere: whatever is wrong, it is named
        reason = cut_short(path) if "not fully covered" in str(error) else error
        raise ValueError(f"{path} is broken or no weights file ({reason}); {EXPECTED}") from error
    return state, about


def parse_config(kind: type[Config], text: str, path: Path) -> Config:
    """Read a configuration from JSON; a name or value that makes no network is an error."""
    try:
        values = parse_json(text)
        if isinstance(values, dict):
            unknown = values.keys() - {field.name for field in fields(kind)}
            if unknown:
                raise ValueError(f"unknown: {summarize(sorted(unknown))}")
        return convert(values, kind)
    except ValueError as error:
        raise ValueError(f"{path} has not this network's configuration ({error})") from error
