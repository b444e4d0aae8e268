"""Read published checkpoints without running code, and translate their parameter names."""

import os
import re
from pathlib import Path

import torch
from torch import Tensor

from models.files import pickled
from models.network.config import NoPoSplatConfig
from models.network.noposplat import NoPoSplat
from models.weights.strict import EXPECTED, cut_short, empty_network, load_strictly

ARCHITECTURE = NoPoSplatConfig()
LICENSE = "not stated; fine-tuned from MASt3R (CC BY-NC-SA 4.0), so non-commercial use only"
# SPFSplat predicts Gaussians as NoPoSplat does, and poses beside them, which here PnP finds.
SPFSPLAT_POSE_HEADS = ("encoder.pose_head.", "encoder.pose_head2.")
SPFSPLAT_V2_TOKEN = "encoder.backbone.pose_token"
V2 = "this is SPFSplatV2, whose intrinsics and pose tokens join after the encoder: another network"
WITHOUT_INTRINSICS = "by its name this is SPFSplat without intrinsics, which this network needs"
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


def rename(key: str) -> str:
    """Translate a published parameter name to ours; an unknown one stays as it is."""
    for theirs, ours in RENAMED:
        key = re.sub(theirs, ours, key)
    return key


def load_published(network: NoPoSplat, state: dict[str, Tensor]) -> None:
    """Load published weights. Every parameter must be found, and none may be left over."""
    load_strictly(network, rename_all(state))


def rename_all(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename published parameters; unknown ones stay, for the loader to refuse."""
    ours: dict[str, Tensor] = {}
    for key, value in state.items():
        name = rename(key)
        if re.match(r"center_head\.\w+\.out\.", name) and value.shape[:1] == (4,):
            value = value[:3]  # the fourth was MASt3R's confidence
        if name in ours and not torch.equal(ours[name].float(), value.float()):
            raise ValueError(f"{key} is another name of {name}, but holds other values")
        ours[name] = value
    return ours


def read_published(path: Path) -> tuple[NoPoSplat, dict[str, str]]:
    """Read a checkpoint of NoPoSplat or SPFSplat, as its authors wrote it with Lightning."""
    checkpoint = read_pickled(path)
    state = checkpoint.get("state_dict") if isinstance(checkpoint, dict) else None
    if not pickled.is_state(state):
        raise ValueError(f"{path} holds no `state_dict` of tensors; {EXPECTED}")
    network = empty_network(ARCHITECTURE)
    try:
        if SPFSPLAT_V2_TOKEN in state:
            raise ValueError(V2)
        if "nointrin" in path.stem:  # the same parameters, one of them never trained
            raise ValueError(WITHOUT_INTRINSICS)
        of_network = {k: v for k, v in state.items() if not k.startswith(SPFSPLAT_POSE_HEADS)}
        load_published(network, of_network)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {EXPECTED}") from error
    family = "NoPoSplat" if len(of_network) == len(state) else "SPFSplat"
    about = {
        "name": path.stem,
        "license": LICENSE,
        "description": f"{family}, as published by its authors",
        "image_size": "512" if "512" in path.stem else "256",  # the file itself does not say
    }
    return network, about


def read_pickled(path: Path) -> object:
    """Read what `torch.save` wrote: tensors, memory-mapped, and plain values; code never runs."""
    if hasattr(os, "posix_fadvise"):  # read on while the first weights are being used
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
    try:
        return pickled.read_pickled(path)
    except ValueError as error:
        reason = cut_short(path) if "cut short" in str(error) else error
        raise ValueError(f"{path} is broken or no checkpoint ({reason}); {EXPECTED}") from error
