"""Reading and writing weights: our own files, and the published checkpoints under our names."""

import hashlib
import json
import os
import pickle
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models.network.noposplat import NoPoSplat, NoPoSplatConfig
from models.stereo.network import StereoConfig, StereoNetwork

EXPECTED = "expected .safetensors weights of this program or a published NoPoSplat .ckpt"
REQUIRED = ("name", "license", "description")  # metadata of every file of ours
PUBLISHED_LICENSE = "not stated; fine-tuned from MASt3R, which is CC BY-NC-SA 4.0"
RENAMED = (  # published names to ours; applied one after the other
    (r"^encoder\.", ""),
    (r"^backbone\.patch_embed\.proj\.", "backbone.patch_embed."),
    (r"^backbone\.intrinsic_encoder\.", "backbone.intrinsics_embed."),
    (r"^backbone\.(enc|dec)_norm\.", r"backbone.\1oder_norm."),
    (r"^backbone\.enc_blocks\.(\d+)\.norm2\.", r"backbone.encoder.\1.mlp_norm."),
    (r"^backbone\.enc_blocks\.", "backbone.encoder."),
    (r"^backbone\.dec_blocks\.(\d+)\.", r"backbone.decoder.\1.first."),
    (r"^backbone\.dec_blocks2\.(\d+)\.", r"backbone.decoder.\1.others."),
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm2\.", ".cross_norm."),
    (r"\.norm3\.", ".mlp_norm."),
    (r"\.norm_y\.", ".memory_norm."),
    (r"\.attn\.", ".attention."),
    (r"\.cross_attn\.", ".cross_attention."),
    (r"attention\.proj\.", "attention.out."),
    (r"attention\.projq\.", "attention.query."),
    (r"attention\.projk\.", "attention.key."),
    (r"attention\.projv\.", "attention.value."),
    (r"\.mlp\.fc1\.", ".mlp.0."),
    (r"\.mlp\.fc2\.", ".mlp.2."),
    (r"^downstream_head1\.dpt\.", "center_head.first."),
    (r"^downstream_head2\.dpt\.", "center_head.others."),
    (r"^gaussian_param_head\.dpt\.", "parameter_head.first."),
    (r"^gaussian_param_head2\.dpt\.", "parameter_head.others."),
    (r"\.act_postprocess\.", ".trunk.resample."),
    (r"\.scratch\.layer_rn\.(\d)\.", r".trunk.narrow.\1."),  # the same tensors as layer1_rn to 4
    (r"\.scratch\.layer([1-4])_rn\.", lambda match: f".trunk.narrow.{int(match[1]) - 1}."),
    (r"\.scratch\.refinenet([1-4])\.", lambda match: f".trunk.fuse.{int(match[1]) - 1}."),
    (r"\.resConfUnit1\.", ".skip_unit."),
    (r"\.resConfUnit2\.", ".unit."),
    (r"\.out_conv\.", ".out."),
    (r"\.input_merger\.0\.", ".image_shortcut."),
    (r"^(center_head\.\w+)\.head\.0\.", r"\1.coarse."),
    (r"^(center_head\.\w+)\.head\.2\.", r"\1.fine."),
    (r"^(parameter_head\.\w+)\.head\.0\.", r"\1.hidden."),
    (r"\.head\.4\.", ".out."),
)


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file is."""

    name: str
    sha256: str  # of the whole file
    license: str
    description: str
    metadata: dict[str, str]  # whatever else was saved: what it was trained on, ...


def embedded_path(name: str = "network") -> Path:
    """Where weights that come with the package are, if they do."""
    return Path(__file__).parent / "embedded" / f"{name}.safetensors"


def rename(key: str) -> str:
    """Translate a published parameter name to ours; an unknown one stays as it is."""
    for theirs, ours in RENAMED:
        key = re.sub(theirs, ours, key)
    return key


def load_published(network: NoPoSplat, state: dict[str, Tensor]) -> None:
    """Load published weights. Every parameter must be found, and none may be left over.

    A network on the meta device takes over the tensors themselves.
    """
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        name = rename(key)
        if re.match(r"center_head\.\w+\.out\.", name) and value.shape[0] == 4:
            value = value[:3]  # the fourth was MASt3R's confidence
        if name in ours and not torch.equal(ours[name], value):
            raise ValueError(f"{key} is another name of {name}, but holds other values")
        ours[name] = value
    load_strictly(network, ours)


def load_strictly(network: torch.nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights under our names, or say in one error everything that does not fit."""
    expected = network.state_dict()
    both = [key for key in expected if key in state]
    problems = {
        "missing": [key for key in expected if key not in state],
        "left over": [key for key in state if key not in expected],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
            for key in both
            if state[key].shape != expected[key].shape
        ],
    }
    if any(problems.values()):
        found = "; ".join(f"{what}: {summary(keys)}" for what, keys in problems.items() if keys)
        raise ValueError(f"these weights do not fit the network: {found}")
    is_meta = any(value.is_meta for value in expected.values())
    network.load_state_dict({key: value.float() for key, value in state.items()}, assign=is_meta)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # taken over as is


def summary(names: list[str]) -> str:
    """How many there are, and the first few."""
    shown = ", ".join(names[:4])
    return f"{len(names)} ({shown}{', ...' if len(names) > 4 else ''})"


def save_network(
    network: NoPoSplat,
    path: Path,
    metadata: dict[str, str],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write weights and configuration as one file, whole or not at all.

    Args:
        network: What to save.
        path: A .safetensors file.
        metadata: `name`, `license`, `description`, and anything else to keep, as text.
        dtype: How to store the weights; they are loaded as float32.
    """
    write_own(network, network.config, path, metadata, dtype)


def save_stereo(
    network: StereoNetwork,
    path: Path,
    metadata: dict[str, str],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a stereo network's weights and configuration, like `save_network`."""
    write_own(network, network.config, path, metadata, dtype)


def load_network(path: Path) -> tuple[NoPoSplat, WeightsInfo]:
    """Build a network from a file of ours or a published checkpoint, on the CPU, for inference.

    Never runs code from the file. Raises ValueError when the file is something else or broken.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PK\x03\x04":
        network, about = read_published(path)
    else:
        state, about = read_own(path)
        network = empty_network(parse_config(about.pop("config")))
        load_strictly(network, state)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval(), describe(path, about)


def load_stereo(path: Path) -> tuple[StereoNetwork, WeightsInfo]:
    """Build a stereo network from a file of ours, on the CPU, for inference, as `load_network`."""
    state, about = read_own(path)
    text = about.pop("config")
    try:
        values = json.loads(text)
        config = StereoConfig(**values | {"widths": tuple(values["widths"])})
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"not a stereo network's configuration ({error}): {text[:200]}") from error
    with torch.device("meta"):
        network = StereoNetwork(config)
    load_strictly(network, state)
    return network.eval(), describe(path, about)


def read_info(path: Path) -> WeightsInfo:
    """What a file of ours says about itself, without its weights. Raises ValueError."""
    _, about = read_own(path, weights=False)
    return describe(path, {key: value for key, value in about.items() if key != "config"})


def describe(path: Path, about: dict[str, str]) -> WeightsInfo:
    """Put together what is known about a file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    rest = {key: about[key] for key in about if key not in REQUIRED}
    return WeightsInfo(about["name"], sha256, about["license"], about["description"], rest)


def write_own(
    network: torch.nn.Module,
    config: NoPoSplatConfig | StereoConfig,
    path: Path,
    metadata: dict[str, str],
    dtype: torch.dtype,
) -> None:
    """Write weights, configuration and metadata; the file appears whole or not at all."""
    absent = set(REQUIRED) - metadata.keys()
    if absent:
        raise ValueError(f"metadata lacks {', '.join(sorted(absent))}")
    state = {
        key: value.to("cpu", dtype).contiguous() for key, value in network.state_dict().items()
    }
    unfinished = path.with_name(path.name + ".part")
    try:
        save_file(state, unfinished, {"config": json.dumps(asdict(config)), **metadata})
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def read_own(path: Path, weights: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the weights (or none of them) and the metadata that `write_own` wrote."""
    try:
        with safe_open(path, "pt") as file:
            about = dict(file.metadata() or {})
            state = {key: file.get_tensor(key) for key in file.keys() if weights}
    except SafetensorError as error:
        raise ValueError(f"{path} is broken or no weights file ({error}); {EXPECTED}") from error
    absent = {"config", *REQUIRED} - about.keys()
    if absent:
        raise ValueError(f"{path} does not say its {', '.join(sorted(absent))}; {EXPECTED}")
    return state, about


def parse_config(text: str) -> NoPoSplatConfig:
    """Read a configuration from JSON; a name or value that makes no network is an error."""
    try:
        values = json.loads(text)
        return NoPoSplatConfig(**values | {"trunk_widths": tuple(values["trunk_widths"])})
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"not a network's configuration ({error}): {text[:200]}") from error


def read_published(path: Path) -> tuple[NoPoSplat, dict[str, str]]:
    """Read a published checkpoint, as its authors wrote it with Lightning."""
    try:
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is broken or no checkpoint ({reason}); {EXPECTED}") from error
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no `state_dict` of tensors; {EXPECTED}")
    network = empty_network(NoPoSplatConfig())
    load_published(network, state)
    about = {
        "name": path.stem,
        "license": PUBLISHED_LICENSE,
        "description": "NoPoSplat, as published by its authors",
    }
    return network, about


def empty_network(config: NoPoSplatConfig) -> NoPoSplat:
    """A network whose parameters have shapes but no values yet."""
    with torch.device("meta"):
        return NoPoSplat(config)
