"""The training loop: steps for a time or a number, with a log, images and checkpoints."""

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.training import processes
from models.training.config import NetworkT
from models.training.run import CHECKPOINT, Run, StepResult, save, take_step

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
    batch_time: float  # fraction of the time that making batches took
    skipped: int  # steps so far
    details: dict[str, float]  # other numbers that the loss returns


def train(
    run: Run[NetworkT],
    batches: Iterator[Any],
    folder: Path,
    minutes: float | None = None,
    steps: int | None = None,
    save_every_s: float = 120.0,
    log_every: int = 20,
    image_every: int | None = None,
    on_report: Callable[[StepReport], None] = lambda report: None,
    on_image: Callable[[int, Float[Tensor, "3 height width"]], None] = lambda step, image: None,
) -> None:
    """Train until a time, a number of steps or the run's end is reached; then save.

    With several processes only the first one writes and calls back.

    Args:
        run: Changed in place.
        batches: From the run's next step on; for exact resuming, a function of the step.
        folder: Where the checkpoint and the log, one JSON object a line, are written.
        minutes: No step begins after this time.
        steps: Steps to take; without it, up to the configuration's `total_steps`.
        save_every_s: Seconds between checkpoints.
        log_every: Steps between lines of the log.
        image_every: Steps between images, if the configuration makes any.
        on_report: Called with every line of the log.
        on_image: Called with the step and every image.
    """
    began = saved = logged = time.monotonic()
    device, is_first = run.device, processes.rank() == 0
    last = run.config.total_steps if steps is None else run.step + steps
    results: list[StepResult] = []
    batch_s = 0.0
    while run.step < last and not processes.any_of(_is_over(began, minutes), device):
        step_began = time.monotonic()
        batch = next(batches)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        batch_s += time.monotonic() - step_began
        results.append(take_step(run, batch))
        now = time.monotonic()
        run.seconds += now - step_began
        if run.step % log_every == 0:
            report = _report(run, results, now - logged, batch_s)
            if is_first:
                with (folder / LOG).open("a") as log:
                    log.write(json.dumps(asdict(report)) + "\n")
                on_report(report)
            logged, results, batch_s = now, [], 0.0
        if image_every and run.step % image_every == 0 and is_first:
            image = run.config.log_image(run.network, batch)
            if image is not None:
                on_image(run.step, image)
        if processes.any_of(now - saved > save_every_s, device):
            save(run, folder / CHECKPOINT)
            saved = now
    save(run, folder / CHECKPOINT)


def _is_over(began: float, minutes: float | None) -> bool:
    return minutes is not None and time.monotonic() - began >= 60 * minutes


def _report(
    run: Run[NetworkT], results: list[StepResult], seconds: float, batch_s: float
) -> StepReport:
    names = list(results[0].details)
    own = [
        _finite_mean(result.loss for result in results),
        *(_finite_mean(result.details[name] for result in results) for name in names),
    ]
    loss, *details = processes.average(torch.tensor(own, device=run.device)).tolist()
    samples = run.config.samples_per_step * processes.count()
    return StepReport(
        step=run.step,
        samples=run.step * samples,
        loss=loss,
        gradient_norm=_finite_mean(result.gradient_norm for result in results),
        learning_rate=run.optimizer.param_groups[0]["lr"],
        samples_per_second=len(results) * samples / seconds,
        batch_time=batch_s / seconds,
        skipped=run.skipped,
        details=dict(zip(names, details, strict=True)),
    )


def _finite_mean(values: Iterable[float]) -> float:
    """Return the mean of finite values: a skipped step does not hide the others."""
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else math.nan
