"""Trained weights: our files, the published checkpoints, and how both become networks."""

from models.weights.catalog import CHECKPOINTS, PublishedCheckpoint, find_checkpoint
from models.weights.files import (
    WeightsInfo,
    digest_of,
    embedded_path,
    load_encoder,
    load_network,
    load_stereo,
    read_info,
    save_network,
)
from models.weights.lpips import extract_lpips, load_lpips
from models.weights.mast3r import initialize_from_mast3r, load_initial
from models.weights.published import load_published, rename
from models.weights.strict import empty_network, load_strictly

__all__ = [
    "CHECKPOINTS",
    "PublishedCheckpoint",
    "WeightsInfo",
    "digest_of",
    "embedded_path",
    "empty_network",
    "extract_lpips",
    "find_checkpoint",
    "initialize_from_mast3r",
    "load_encoder",
    "load_initial",
    "load_lpips",
    "load_network",
    "load_published",
    "load_stereo",
    "load_strictly",
    "read_info",
    "rename",
    "save_network",
]
