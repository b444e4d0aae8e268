"""A run made small enough to be carried: rounded in place, so that nothing is lost on the way."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor

from models.training import processes
from models.training.run import PARTS, Run, start
from models.weights import load_strictly

STATE = "state.pt"
_RATIO = 2.0  # a first moment is at most 1.2 roots of the second, with the betas in use
_CODES = 254  # of roots, evenly in their logarithms; one more says zero


@torch.no_grad()
def settle(run: Run[Any]) -> dict[str, Any]:
    """Round a run in place to what its small checkpoint holds, and let go of its worlds.

    Weights become half precision, the optimizer's moments one byte each: about 6 bytes a weight
    instead of 16. The run that goes on here and the one that is read elsewhere are bit for bit
    the same. To be asked for at the end of a slice of time: the moments forget within tens of
    steps, and weights are used in half precision anyway.

    Returns:
        What `save_small` writes.
    """
    for module in {id(each): each for each in (run.network, run.average)}.values():
        for parameter in module.parameters():
            parameter.copy_(parameter.half())
    run.worlds = []
    moments = {}
    for index, kept in run.optimizer.state_dict()["state"].items():
        roots, low, high = _encode_roots(kept["exp_avg_sq"])
        root = _decode_roots(roots, low, high)
        ratios = _encode_ratios(kept["exp_avg"], root)
        kept["exp_avg_sq"].copy_(root.square())
        kept["exp_avg"].copy_(_decode_ratios(ratios) * root)
        moments[index] = {"step": kept["step"], "roots": roots, "low": low, "high": high}
        moments[index]["ratios"] = ratios
    return {
        "part": run.config.part,
        "config": run.config.to_dict(),
        "network": _halved(run.network),
        "average": _halved(run.average) if run.config.averaged else None,
        "moments": moments,
        "generators": processes.gathered(run.generator.get_state()),
        "step": run.step,
        "skipped": run.skipped,
        "seconds": run.seconds,
    }


def save_small(state: dict[str, Any], path: Path) -> None:
    """Write what `settle` gave, whole or not at all."""
    unfinished = path.with_name(path.name + ".part")
    try:
        torch.save(state, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@torch.no_grad()
def resume_small(path: Path, device: torch.device) -> Run[Any]:
    """Go on from a small checkpoint, on the kind of device that it was written on.

    Raises ValueError when it is none of this version, or not of one process.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        config = PARTS[state["part"]].from_dict(state["config"])
        run: Run[Any] = start(config, device)
        load_strictly(run.network, _whole(state["network"]))
        if config.averaged:
            load_strictly(run.average, _whole(state["average"]))
        kept = {}
        for index, moment in state["moments"].items():
            root = _decode_roots(moment["roots"], moment["low"], moment["high"])
            first = _decode_ratios(moment["ratios"]) * root
            kept[index] = {"step": moment["step"], "exp_avg": first, "exp_avg_sq": root.square()}
        run.optimizer.load_state_dict({**run.optimizer.state_dict(), "state": kept})
        (generator,) = state["generators"]
        run.generator.set_state(generator.cpu())
        run.step, run.skipped = state["step"], state["skipped"]
        run.seconds = state["seconds"]
    except (EOFError, KeyError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        reason = str(error).split(". ")[0] or type(error).__name__
        raise ValueError(f"{path} is broken or of another version ({reason})") from error
    return run


def _halved(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.half() for name, value in module.state_dict().items()}


def _whole(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.float() for name, value in values.items()}


def _encode_roots(
    squares: Float[Tensor, "*shape"],
) -> tuple[UInt8[Tensor, "*shape"], float, float]:
    """Logarithms of square roots between the lowest and the highest; 0 is zero itself."""
    logs = squares.clamp_min(1e-30).log2() / 2
    there = squares > 1e-30
    low, high = (float(logs[there].min()), float(logs[there].max())) if there.any() else (0.0, 0.0)
    codes = 1 + ((logs - low) / max(high - low, 1e-6) * _CODES).round().clamp(0, _CODES)
    return torch.where(there, codes, 0).to(torch.uint8), low, high


def _decode_roots(codes: UInt8[Tensor, "*shape"], low: float, high: float) -> Tensor:
    logs = low + (codes.float() - 1) / _CODES * (high - low)
    return torch.where(codes > 0, torch.exp2(logs), 0.0)


def _encode_ratios(
    first: Float[Tensor, "*shape"], root: Float[Tensor, "*shape"]
) -> Int8[Tensor, "*shape"]:
    """First moments as shares of roots: this is what a step is made of, so it is rounded evenly."""
    ratio = (first / root.clamp_min(1e-15)).clamp(-_RATIO, _RATIO)
    return (ratio * (127 / _RATIO)).round().to(torch.int8)


def _decode_ratios(codes: Int8[Tensor, "*shape"]) -> Tensor:
    return codes.float() * (_RATIO / 127)
