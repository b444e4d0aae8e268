"""Training for a slice of time or steps, with a log and checkpoints."""

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

from jaxtyping import Float
from torch import Tensor

from models.training.config import NetworkT
from models.training.run import CHECKPOINT, Run, Step, next_worlds, save, take_step

LOG = "log.jsonl"


@dataclass(frozen=True)
class StepReport:
    """One line of the log; losses are averages since the line before."""

    step: int
    samples: int  # pairs seen so far
    loss: float
    gradient_norm: float
    learning_rate: float
    samples_per_second: float
    skipped: int  # steps so far
    details: dict[str, float]  # what else the part's loss tells


def train(
    run: Run[NetworkT],
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
        log_every: Steps between lines of the log.
        on_step: Called with every line of the log.
    """
    began = saved = logged = time.monotonic()
    last = run.config.total_steps if steps is None else run.step + steps
    made: list[Step] = []
    while run.step < last and (minutes is None or time.monotonic() - began < 60 * minutes):
        made.append(take_step(run, next_worlds(run, textures)))
        now = time.monotonic()
        if run.step % log_every == 0:
            report = _report(run, made, now - logged)
            with (folder / LOG).open("a") as log:
                log.write(json.dumps(asdict(report)) + "\n")
            on_step(report)
            logged, made = now, []
        if now - saved > save_every_s:
            save(run, folder / CHECKPOINT)
            saved = now
    save(run, folder / CHECKPOINT)


def _report(run: Run[NetworkT], made: list[Step], seconds: float) -> StepReport:
    return StepReport(
        step=run.step,
        samples=run.step * run.config.batch,
        loss=_mean(step.loss for step in made),
        gradient_norm=_mean(step.gradient_norm for step in made),
        learning_rate=run.config.rate(run.step),
        samples_per_second=len(made) * run.config.batch / seconds,
        skipped=run.skipped,
        details={name: _mean(step.details[name] for step in made) for name in made[0].details},
    )


def _mean(values: Iterable[float]) -> float:
    """Of those that are finite: a skipped step does not hide the others."""
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else math.nan
