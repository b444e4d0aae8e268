"""Load a network's weights strictly: none may be missing, left over or of another shape."""

from pathlib import Path

import torch
from torch import Tensor

from models.files.pickled import has_own_elements
from models.network.config import NoPoSplatConfig
from models.network.noposplat import NoPoSplat

EXPECTED = "expected .safetensors weights of this program or a published NoPoSplat .ckpt"


def empty_network(config: NoPoSplatConfig) -> NoPoSplat:
    """Build a network on the meta device: its parameters have shapes but no values."""
    with torch.device("meta"):
        return NoPoSplat(config)


def load_strictly(network: torch.nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights under our names. Raises one ValueError that lists everything that does not fit.

    A network on the meta device takes over the tensors themselves.
    """
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
    if not any(problems.values()):
        state = {key: value.float() for key, value in state.items() if _are_numbers(value)}
        problems["not finite numbers"] = [
            key for key in expected if key not in state or not _are_finite(state[key])
        ]
    if any(problems.values()):
        found = "; ".join(f"{what}: {summarize(keys)}" for what, keys in problems.items() if keys)
        raise ValueError(f"these weights do not fit the network: {found}")
    is_meta = any(value.is_meta for value in expected.values())
    network.load_state_dict(state, assign=is_meta)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # taken over as is


def _are_numbers(value: Tensor) -> bool:
    return value.is_floating_point() and has_own_elements(value)


def _are_finite(value: Tensor) -> bool:
    """Return False if a tensor has an infinity or NaN, which spreads to both extremes."""
    return not value.numel() or bool(torch.stack(value.detach().aminmax()).isfinite().all())


def summarize(names: list[str]) -> str:
    """Return the number of names, and the first few."""
    shown = ", ".join(names[:4])
    return f"{len(names)} ({shown}{', ...' if len(names) > 4 else ''})"


def cut_short(path: Path) -> str:
    """Return the error message about a file whose end is missing."""
    return f"it is cut short: it ends after {path.stat().st_size:,} bytes"
