"""Training runs: start, take a step, save, resume exactly, export."""

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.data.procedural import Assets
from models.data.textures import load_assets
from models.files.atomic import atomic_write
from models.files.pickled import read_pickled
from models.metrics.lpips import Lpips
from models.training import processes
from models.training.config import NetworkT, TrainConfig
from models.training.embedded import EmbeddedTraining
from models.training.network import NetworkTraining
from models.training.stereo import StereoTraining
from models.weights import load_strictly

CHECKPOINT = "checkpoint.pt"
PARTS: dict[str, type[TrainConfig[Any]]] = {
    config.part: config for config in (NetworkTraining, EmbeddedTraining, StereoTraining)
}


class Objective(nn.Module, Generic[NetworkT]):
    """A network and its loss as one module, whose gradients processes share."""

    def __init__(
        self, config: TrainConfig[NetworkT], network: NetworkT, lpips: Lpips | None
    ) -> None:
        super().__init__()
        self.config, self.network, self.lpips = config, network, lpips

    def forward(self, batch: Any) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Return the configuration's loss."""
        return self.config.loss(self.network, batch, self.lpips)


@dataclass
class Run(Generic[NetworkT]):
    """The state of a training run; steps change it in place."""

    config: TrainConfig[NetworkT]
    network: NetworkT
    average: NetworkT  # moving average of the weights, or the network itself without averaging
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0  # of training so far


@dataclass(frozen=True)
class StepResult:
    """Numbers of one step, from before it changed anything."""

    loss: float
    gradient_norm: float  # before clipping
    details: dict[str, float]


def start(
    config: TrainConfig[NetworkT], device: torch.device, lpips: Lpips | None = None
) -> Run[NetworkT]:
    """Return a new run; the same configuration always starts with the same weights.

    Args:
        config: Its settings.
        device: Where to compute.
        lpips: For losses that use it; they do without if it is None.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = config.build().to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # as when loaded
    average = network
    if config.averaged:
        average = copy.deepcopy(network).requires_grad_(False).eval()
    config.prepare(network)
    groups = [
        {"lr": config.learning_rate_at(0, group["lr_scale"]), **group}
        for group in config.parameter_groups(network)
    ]
    optimizer = torch.optim.AdamW(
        groups,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True,  # a few launches instead of hundreds, and one pass over memory
    )
    objective = Objective(config, network, lpips.to(device) if lpips else None)
    return Run(config, network, average, processes.share_gradients(objective), optimizer, device)


def load_run_assets(
    config: TrainConfig[NetworkT],
    device: torch.device,
    textures: Path | None = None,
    panoramas: Path | None = None,
    meshes: Path | None = None,
) -> Assets:
    """Load what a run's worlds are made of, always the same: see `load_assets`."""
    generator = torch.Generator().manual_seed(config.seed)
    count, size = config.texture_count, config.texture_size
    return load_assets(textures, panoramas, meshes, count, size, generator).to(device)


def take_step(run: Run[NetworkT], batch: Any) -> StepResult:
    """Update the network, and its average, from one batch.

    Steps whose loss or gradient is not finite, or far too large, change nothing.
    """
    config, network, device = run.config, run.network.train(), run.device
    for group in run.optimizer.param_groups:
        group["lr"] = config.learning_rate_at(run.step, group["lr_scale"])
    run.optimizer.zero_grad(set_to_none=True)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Dropout uses torch's global generator: this makes it a function of the step.
        torch.manual_seed(config.seed + 7_919 * run.step + processes.rank())
        loss, details = run.objective(batch)
        loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm).item()
    run.step += 1
    is_good = math.isfinite(loss.item()) and math.isfinite(norm) and norm <= config.max_norm
    if processes.any_of(not is_good, device):
        run.skipped += 1
        return StepResult(loss.item(), norm, details)
    run.optimizer.step()
    if config.averaged:
        with torch.no_grad():
            pairs = zip(run.average.parameters(), network.parameters(), strict=True)
            learning = [(slow, fast) for slow, fast in pairs if fast.requires_grad]
            averages, parameters = map(list, zip(*learning, strict=True))
            torch._foreach_lerp_(averages, parameters, 1 - config.average_decay(run.step))
    return StepResult(loss.item(), norm, details)


def save(run: Run[NetworkT], path: Path) -> None:
    """Write everything needed to resume exactly, whole or not at all; by the first process."""
    if processes.rank():
        return
    state = {
        "part": run.config.part,
        "config": run.config.to_dict(),
        "network": run.network.state_dict(),
        "average": run.average.state_dict() if run.config.averaged else None,
        "optimizer": run.optimizer.state_dict(),
        "processes": processes.count(),
        "step": run.step,
        "skipped": run.skipped,
        "seconds": run.seconds,
    }
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def resume(path: Path, device: torch.device, lpips: Lpips | None = None) -> Run[Any]:
    """Read a run from a checkpoint, written on the same kind of device.

    Raises ValueError when it is none of this version, or of another number of processes.
    """
    try:
        state: Any = read_pickled(path)
        config = PARTS[state["part"]].from_dict(state["config"])
        run: Run[Any] = start(config, device, lpips)
        load_strictly(run.network, state["network"])
        if config.averaged:
            load_strictly(run.average, state["average"])
        run.optimizer.load_state_dict(state["optimizer"])
        run.step, run.skipped = state["step"], state["skipped"]
        run.seconds, number = state["seconds"], state["processes"]
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).split(". ")[0] or type(error).__name__
        raise ValueError(f"{path} is broken or of another version ({reason})") from error
    if number != processes.count():
        raise ValueError(f"{path} was written by {number} processes, not {processes.count()}")
    return run


def export(run: Run[NetworkT], path: Path) -> None:
    """Write the weights alone, averaged if they are, for use; by the first process."""
    if processes.rank():
        return
    config = run.config
    about = {
        "name": config.weights_name,
        "license": config.license,
        "description": config.describe(run.step),
        "training": json.dumps({**config.to_dict(), "step": run.step}),
    }
    config.write(run.average, path, about)
