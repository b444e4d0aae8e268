"""A network of the published kind that is quick to make, and its weights under published names."""

from pathlib import Path

import torch
from benchmarks.parity import published_shapes, recipe_weight

from models.network.config import NoPoSplatConfig
from models.weights import empty_network, rename

TINY = NoPoSplatConfig(
    encoder_width=16,
    encoder_depth=2,
    decoder_width=16,
    decoder_depth=2,
    attention_head_width=8,
    trunk_widths=(4, 5, 6, 7),
    fusion_width=8,
    sh_degree=1,
)
ABOUT = {
    "name": "tiny",
    "license": "MIT",
    "description": "Not trained.",
    "trained_on": "nothing",
}


def published_state() -> dict[str, torch.Tensor]:
    """A tiny checkpoint with published names, aliases included."""
    shapes = {name: tuple(value.shape) for name, value in empty_network(TINY).state_dict().items()}
    return {
        key: recipe_weight(key, shapes[rename(key)])
        for key in published_shapes()
        if rename(key) in shapes
    }


def write_checkpoint(path: Path) -> Path:
    """A file as the authors write theirs."""
    torch.save({"epoch": 0, "global_step": 7, "state_dict": published_state()}, path)
    return path
