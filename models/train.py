"""Training on procedural worlds: the step, the schedule, saving and exact resuming."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import invert
from models.data.artifacts import degrade
from models.data.procedural import FAR, WorldBatch, generate
from models.data.textures import load_textures, noise_textures
from models.losses import center_loss, render_loss
from models.metrics import FAILED_POSE, pose_auc, pose_error
from models.network.noposplat import SMALL, NoPoSplat, NoPoSplatConfig
from models.pose import pose_from_centers
from models.views import Views
from models.weights import load_strictly, parse_config, save_network

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
_HELD_OUT_SEED = 2**31  # worlds that training never draws


@dataclass(frozen=True)
class TrainConfig:
    """All that decides what a training run does, except for how long."""

    network: NoPoSplatConfig = SMALL
    size: tuple[int, int] = (128, 128)
    batch: int = 8
    seed: int = 0
    total_steps: int = 100_000  # at which the learning rate has come down to a hundredth
    warmup_steps: int = 200
    learning_rate: float = 4e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    most_norm: float = 100.0  # steps with larger gradients are skipped
    first_difficulty: float = 0.2
    last_difficulty: float = 0.6
    artifacts: float = 0.7  # strength of what phone cameras add
    texture_count: int = 2000
    texture_size: int = 128
    render_from: int | None = None  # step at which drawn views join in; None: never
    opacity_weight: float = 0.01  # together with drawn views


@dataclass
class Run:
    """A training run, the one thing here that changes; every attribute is part of a checkpoint."""

    config: TrainConfig
    network: NoPoSplat
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    step: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class StepReport:
    """One line of the log."""

    step: int
    samples: int  # pairs seen so far
    loss: float
    gradient_norm: float
    learning_rate: float
    samples_per_second: float
    skipped: int  # steps so far


@dataclass(frozen=True)
class Scores:
    """Quality on worlds that were not trained on."""

    depth_error: float  # median relative error in the first view, after one scale
    second_error: float  # the same for the second view's centers, over their true depth
    pose_auc: dict[float, float]  # by threshold in degrees


def start(config: TrainConfig, device: torch.device) -> Run:
    """A new run. The same configuration always starts with the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = NoPoSplat(config.network).to(device)
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )
    generator = torch.Generator(device).manual_seed(config.seed)
    return Run(config, network, optimizer, generator)


def choose_textures(
    config: TrainConfig, folder: Path | None, device: torch.device
) -> Float[Tensor, "texture 3 size size"]:
    """The textures of a run, always the same: from a folder of images, or noise without one."""
    generator = torch.Generator().manual_seed(config.seed)
    if folder is None:
        return noise_textures(min(config.texture_count, 100), config.texture_size, generator).to(
            device
        )
    return load_textures(folder, config.texture_count, config.texture_size, generator).to(device)


def save(run: Run, path: Path) -> None:
    """Write everything needed to go on exactly, whole or not at all."""
    state = {
        "config": json.dumps(asdict(run.config)),
        "network": run.network.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "generator": run.generator.get_state(),
        "step": run.step,
        "skipped": run.skipped,
    }
    unfinished = path.with_name(path.name + ".part")
    try:
        torch.save(state, unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def resume(path: Path, device: torch.device) -> Run:
    """Go on from a checkpoint, on the kind of device that it was written on."""
    state = torch.load(path, map_location=device, weights_only=True)
    values = json.loads(state["config"])
    values["network"] = parse_config(json.dumps(values["network"]))
    for name in ("size", "betas"):
        values[name] = tuple(values[name])
    run = start(TrainConfig(**values), device)
    load_strictly(run.network, state["network"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.generator.set_state(state["generator"].cpu())
    run.step, run.skipped = state["step"], state["skipped"]
    return run


def train(
    run: Run,
    textures: Float[Tensor, "texture 3 _height _width"],
    folder: Path,
    minutes: float | None = None,
    steps: int | None = None,
    save_every_s: float = 120.0,
    log_every: int = 20,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> None:
    """Train for a slice of time or steps, whichever ends first; then save.

    Args:
        run: Changed in place.
        textures: The same ones in every slice, for exact resuming.
        folder: Gets the checkpoint and the log, one JSON object a line.
        minutes: No step begins after this time.
        steps: How many to make.
        save_every_s: Seconds between checkpoints.
        log_every: Steps between lines of the log; losses are averaged over them.
        on_step: Called with every line of the log.
    """
    began = saved = logged = time.monotonic()
    last = run.config.total_steps if steps is None else run.step + steps
    losses: list[tuple[float, float]] = []
    while run.step < last and (minutes is None or time.monotonic() - began < 60 * minutes):
        losses.append(take_step(run, draw_worlds(run, textures)))
        now = time.monotonic()
        if run.step % log_every == 0:
            report = _report(run, losses, now - logged)
            with (folder / LOG).open("a") as log:
                log.write(json.dumps(asdict(report)) + "\n")
            on_step(report)
            logged, losses = now, []
        if now - saved > save_every_s:
            save(run, folder / CHECKPOINT)
            saved = now
    save(run, folder / CHECKPOINT)


def draw_worlds(run: Run, textures: Float[Tensor, "texture 3 _height _width"]) -> WorldBatch:
    """The next batch: harder as training goes on, with a third view if one is to be drawn."""
    config = run.config
    progress = min(1.0, run.step / config.total_steps)
    difficulty = config.first_difficulty + progress * (
        config.last_difficulty - config.first_difficulty
    )
    views = 3 if _renders(run) else 2
    device = next(run.network.parameters()).device
    return generate(config.batch, views, config.size, textures, run.generator, device, difficulty)


def take_step(run: Run, worlds: WorldBatch) -> tuple[float, float]:
    """Improve the network on one batch; the loss, and the gradient's norm before clipping.

    Steps whose gradient is not finite, or far too large, change nothing.
    """
    config, network = run.config, run.network.train()
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(config, run.step)
    photos = degrade(worlds.images, run.generator, config.artifacts)
    prediction = network(Views(photos[:, :2], worlds.intrinsics[:, :2]), autocast=photos.is_cuda)
    pair = WorldBatch(*(value[:, :2] for value in vars(worlds).values()))
    loss = center_loss(prediction, pair)
    if _renders(run):
        loss = loss + render_loss(prediction, worlds, worlds.images)
        loss = loss + config.opacity_weight * prediction.opacities.mean()
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm).item()
    if norm <= config.most_norm:  # false for NaN
        run.optimizer.step()
    else:
        run.skipped += 1
    run.step += 1
    return loss.item(), norm


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = min(1.0, step / config.total_steps)
    return config.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def score(
    network: NoPoSplat,
    textures: Float[Tensor, "texture 3 _height _width"],
    size: tuple[int, int],
    pairs: int,
    difficulty: float = 0.3,
) -> Scores:
    """Measure depth and pose on worlds that training never draws."""
    depth_errors, second_errors, pose_errors = [], [], []
    network.eval()
    for worlds in _held_out(textures, size, pairs, difficulty):
        with torch.no_grad():
            prediction = network(Views(worlds.images, worlds.intrinsics))
        near, there = (worlds.depth[0] < FAR).unbind()
        scale = _median(worlds.depth[0, 0] / prediction.means[0, 0, ..., 2].clamp(min=1e-6), near)
        first = prediction.means[0, 0, ..., 2] * scale / worlds.depth[0, 0]
        depth_errors.append(_median((first - 1).abs(), near))
        world2cam = invert(worlds.cam2world[0, 1])
        second = prediction.means[0, 1] * scale @ world2cam[:3, :3].mT + world2cam[:3, 3]
        second_errors.append(_median((second[..., 2] / worlds.depth[0, 1] - 1).abs(), there))
        found = pose_from_centers(
            prediction.means[0, 1], prediction.opacities[0, 1], worlds.intrinsics[0, 1]
        )
        error = FAILED_POSE if found is None else pose_error(found.world2cam, world2cam)
        pose_errors.append(error.pose_deg)
    aucs = {threshold: pose_auc(pose_errors, threshold) for threshold in (5.0, 10.0, 20.0)}
    return Scores(median(depth_errors), median(second_errors), aucs)


def export(run: Run, path: Path) -> None:
    """Write the network alone, in half precision."""
    samples = run.step * run.config.batch
    about = {
        "name": "small",
        "license": "MIT",
        "description": f"trained on {samples} pairs of procedural views",
        "training": json.dumps({**asdict(run.config), "step": run.step}),
    }
    save_network(run.network, path, about, torch.float16)


def _renders(run: Run) -> bool:
    return run.config.render_from is not None and run.step >= run.config.render_from


def _report(run: Run, losses: list[tuple[float, float]], seconds: float) -> StepReport:
    loss, norm = (sum(values) / len(losses) for values in zip(*losses, strict=True))
    return StepReport(
        step=run.step,
        samples=run.step * run.config.batch,
        loss=loss,
        gradient_norm=norm,
        learning_rate=learning_rate(run.config, run.step),
        samples_per_second=len(losses) * run.config.batch / seconds,
        skipped=run.skipped,
    )


def _held_out(
    textures: Tensor, size: tuple[int, int], pairs: int, difficulty: float
) -> Iterator[WorldBatch]:
    """One pair at a time."""
    generator = torch.Generator().manual_seed(_HELD_OUT_SEED)
    for _ in range(pairs):
        yield generate(1, 2, size, textures, generator, textures.device, difficulty)


def _median(values: Tensor, where: Tensor) -> float:
    return float(values[where].median()) if where.any() else math.nan
