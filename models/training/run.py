"""A training run: how it starts, takes a step, is saved, goes on exactly, and is exported."""

import copy
import json
import math
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.atomic import atomic_write
from models.data.procedural import Assets, Textures, WorldBatch, generate
from models.data.textures import load_assets
from models.metrics.lpips import Lpips
from models.training import processes
from models.training.config import NetworkT, TrainConfig
from models.training.network import NetworkTraining
from models.training.rendering import RenderTraining
from models.training.stereo import StereoTraining
from models.weights import load_strictly

CHECKPOINT = "checkpoint.pt"
PARTS: dict[str, type[NetworkTraining] | type[RenderTraining] | type[StereoTraining]] = {
    NetworkTraining.part: NetworkTraining,
    RenderTraining.part: RenderTraining,
    StereoTraining.part: StereoTraining,
}


class Objective(nn.Module, Generic[NetworkT]):
    """A network and what it is trained for, as one module: what processes share gradients of."""

    def __init__(
        self, config: TrainConfig[NetworkT], network: NetworkT, perceptual: Lpips | None
    ) -> None:
        super().__init__()
        self.config, self.network, self.perceptual = config, network, perceptual

    def forward(
        self, batch: Any, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """The configuration's loss."""
        more = {} if self.perceptual is None else {"perceptual": self.perceptual}
        return self.config.loss(self.network, batch, generator, **more)


@dataclass
class Run(Generic[NetworkT]):
    """A training run, the one thing here that changes; all but what is compiled is saved."""

    config: TrainConfig[NetworkT]
    network: NetworkT
    average: NetworkT  # moving average of the weights, or the network itself if there is none
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    worlds: list[WorldBatch] = field(default_factory=list)  # to choose from, oldest first
    step: int = 0
    skipped: int = 0
    seconds: float = 0.0  # of training so far


@dataclass(frozen=True)
class Step:
    """What one step found before it changed anything."""

    loss: float
    gradient_norm: float  # before clipping
    details: dict[str, float]


def start(
    config: TrainConfig[NetworkT], device: torch.device, perceptual: Lpips | None = None
) -> Run[NetworkT]:
    """A new run. The same configuration always starts with the same weights.

    Args:
        config: What to do.
        device: Where.
        perceptual: LPIPS, for recipes that use it where it is to be had.
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
        {"share": 1.0, "lr": config.rate(0, group.get("share", 1.0)), **group}
        for group in config.groups(network)
    ]
    optimizer = torch.optim.AdamW(
        groups,
        betas=config.betas,
        weight_decay=config.weight_decay,
        fused=True if device.type == "cuda" else None,  # a few launches instead of hundreds
    )
    objective = Objective(config, network, perceptual.to(device) if perceptual else None)
    generator = torch.Generator(device).manual_seed(config.seed + processes.rank())
    shared = processes.share_gradients(objective)
    return Run(config, network, average, shared, optimizer, generator)


def choose_assets(
    config: TrainConfig[NetworkT],
    device: torch.device,
    textures: Path | None = None,
    panoramas: Path | None = None,
    meshes: Path | None = None,
) -> Assets:
    """What a run's worlds are made of, always the same: see `load_assets`."""
    generator = torch.Generator().manual_seed(config.seed)
    count, size = config.texture_count, config.texture_size
    return load_assets(textures, panoramas, meshes, count, size, generator).to(device)


def next_worlds(run: Run[NetworkT], textures: Textures) -> WorldBatch:
    """One of the batches in memory, the oldest of which give way to new ones now and then."""
    config = run.config
    drawn, uses = divmod(run.step, config.reuse * config.drawn)
    if uses == 0 or not run.worlds:
        size = config.sizes[drawn % len(config.sizes)]
        worlds = generate(
            config.batch * config.drawn, config.views(run.step), size, textures, run.generator,
            next(run.network.parameters()).device, config.difficulty(run.step),
        )  # fmt: skip
        starts = range(0, config.batch * config.drawn, config.batch)
        parts = [worlds[start : start + config.batch] for start in starts]
        run.worlds = [*run.worlds, *parts][-config.kept :]
    source = run.generator
    return run.worlds[
        int(torch.randint(len(run.worlds), (), generator=source, device=source.device))
    ]


def take_step(run: Run[NetworkT], batch: Any) -> Step:
    """Improve the network, and its average, on one batch.

    Steps whose loss or gradient is not finite, or far too large, change nothing.
    """
    config, network = run.config, run.network.train()
    for group in run.optimizer.param_groups:
        group["lr"] = config.rate(run.step, group["share"])
    run.optimizer.zero_grad(set_to_none=True)
    device = run.generator.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Dropout knows only torch's own generator: this makes it a function of the step.
        torch.manual_seed(config.seed + 7_919 * run.step + processes.rank())
        loss, details = run.objective(batch, run.generator)
        loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm).item()
    run.step += 1
    good = math.isfinite(loss.item()) and math.isfinite(norm) and norm <= config.most_norm
    if not processes.any_of(not good, device):
        run.optimizer.step()
        if config.averaged:
            _follow(run.average, network, 1 - config.average_kept(run.step))
    else:
        run.skipped += 1
    return Step(loss.item(), norm, details)


def save(run: Run[NetworkT], path: Path) -> None:
    """Write everything needed to go on exactly, whole or not at all; by the first process."""
    generators = processes.gathered(run.generator.get_state())
    if processes.rank():
        return
    state = {
        "part": run.config.part,
        "config": run.config.to_dict(),
        "network": run.network.state_dict(),
        "average": run.average.state_dict() if run.config.averaged else None,
        "optimizer": run.optimizer.state_dict(),
        "generators": generators,
        "worlds": [worlds.to_dict() for worlds in run.worlds],
        "step": run.step,
        "skipped": run.skipped,
        "seconds": run.seconds,
    }
    with atomic_write(path) as temporary:
        torch.save(state, temporary)


def resume(path: Path, device: torch.device, perceptual: Lpips | None = None) -> Run[Any]:
    """Go on from a checkpoint, on the kind of device that it was written on.

    Raises ValueError when it is none of this version, or of another number of processes.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        config = PARTS[state["part"]].from_dict(state["config"])
        run: Run[Any] = start(config, device, perceptual)
        load_strictly(run.network, state["network"])
        if config.averaged:
            load_strictly(run.average, state["average"])
        run.optimizer.load_state_dict(state["optimizer"])
        generators = state["generators"]
        if len(generators) == processes.count():
            run.generator.set_state(generators[processes.rank()].cpu())
        run.worlds = [WorldBatch.from_dict(worlds) for worlds in state["worlds"]]
        run.step, run.skipped = state["step"], state["skipped"]
        run.seconds = state.get("seconds", 0.0)
    except (EOFError, KeyError, RuntimeError, TypeError, pickle.UnpicklingError) as error:
        reason = str(error).split(". ")[0] or type(error).__name__
        raise ValueError(f"{path} is broken or of another version ({reason})") from error
    if len(generators) != processes.count():
        raise ValueError(
            f"{path} was written by {len(generators)} processes, not {processes.count()}"
        )
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


@torch.no_grad()
def _follow(average: torch.nn.Module, network: torch.nn.Module, share: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)
