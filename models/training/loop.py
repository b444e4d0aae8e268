"""Training for a slice of time or steps, with logs, pictures and checkpoints."""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.training import processes
from models.training.config import NetworkT
from models.training.run import CHECKPOINT, Run, Step, save, take_step
from models.training.tensorboard import Board

LOG = "log.jsonl"


@dataclass(frozen=True)
class StepReport:
    """One line of the log; losses are averages since the line before, over all processes."""

    step: int
    samples: int  # examples seen so far
    loss: float
    gradient_norm: float
    learning_rate: float  # of the first group of parameters
    samples_per_second: float
    drawing: float  # share of the time that went into making batches, not into learning
    skipped: int  # steps so far
    details: dict[str, float]  # what else the part's loss tells


def train(
    run: Run[NetworkT],
    draw: Callable[[], Any],
    folder: Path,
    minutes: float | None = None,
    steps: int | None = None,
    save_every_s: float = 120.0,
    log_every: int = 20,
    picture_every: int | None = None,
    board: Board | None = None,
    on_step: Callable[[StepReport], None] = lambda report: None,
    on_picture: Callable[[int, Float[Tensor, "3 height width"]], None] = lambda step, picture: None,
) -> None:
    """Train for a slice of time or steps, whichever ends first; then save.

    Of several processes the first one writes and calls back.

    Args:
        run: Changed in place.
        draw: Gives the batch of the run's next step; for exact resuming, always the same one.
        folder: Gets the checkpoint and the log, one JSON object a line.
        minutes: No step begins after this time.
        steps: How many to make.
        save_every_s: Seconds between checkpoints.
        log_every: Steps between lines of the log.
        picture_every: Steps between pictures, where the part has any.
        board: TensorBoard's log, if it is wanted too.
        on_step: Called with every line of the log.
        on_picture: Called with every picture and its step.
    """
    began = saved = logged = time.monotonic()
    device, first = run.generator.device, processes.rank() == 0
    last = run.config.total_steps if steps is None else run.step + steps
    made: list[Step] = []
    drawing = 0.0
    while run.step < last and not processes.any_of(_is_over(began, minutes), device):
        asked = time.monotonic()
        batch = draw()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        drawn = time.monotonic()
        made.append(take_step(run, batch))
        now = time.monotonic()
        drawing += drawn - asked
        run.seconds += now - asked
        if run.step % log_every == 0:
            report = _report(run, made, now - logged, drawing)
            if first:
                _write(report, folder, board)
                on_step(report)
            logged, made, drawing = now, [], 0.0
        if picture_every and run.step % picture_every == 0 and first:
            picture = run.config.picture(run.network, batch)
            if picture is not None:
                on_picture(run.step, picture)
                if board:
                    board.add_picture(run.step, picture)
        if processes.any_of(now - saved > save_every_s, device):
            save(run, folder / CHECKPOINT)
            saved = now
    save(run, folder / CHECKPOINT)


def _is_over(began: float, minutes: float | None) -> bool:
    return minutes is not None and time.monotonic() - began >= 60 * minutes


def _write(report: StepReport, folder: Path, board: Board | None) -> None:
    with (folder / LOG).open("a") as log:
        log.write(json.dumps(asdict(report)) + "\n")
    if board:
        values = {key: value for key, value in asdict(report).items() if key != "details"}
        board.add_numbers(report.step, values | report.details)


def _report(run: Run[NetworkT], made: list[Step], seconds: float, drawing: float) -> StepReport:
    names = list(made[0].details)
    own = [
        _mean(step.loss for step in made),
        *(_mean(step.details[name] for step in made) for name in names),
    ]
    loss, *details = processes.average(torch.tensor(own, device=run.generator.device)).tolist()
    samples = run.config.samples_per_step() * processes.count()
    return StepReport(
        step=run.step,
        samples=run.step * samples,
        loss=loss,
        gradient_norm=_mean(step.gradient_norm for step in made),
        learning_rate=run.optimizer.param_groups[0]["lr"],
        samples_per_second=len(made) * samples / seconds,
        drawing=drawing / seconds,
        skipped=run.skipped,
        details=dict(zip(names, details, strict=True)),
    )


def _mean(values: Iterable[float]) -> float:
    """Of those that are finite: a skipped step does not hide the others."""
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else math.nan
