"""A slice of training with its records, and the ablations side by side."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli import console, options
from nps_cli.errors import NpsError
from nps_cli.training.setup import Made, Root, lessons, open_board

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from models.training.ablation_study import Result
    from models.training.config import TrainConfig
    from models.training.loop import StepReport
    from models.training.run import Run

RESULTS, TABLE, HISTORY = "results.jsonl", "ablations.md", "history.jsonl"


def train_slice(
    run: "Run[Any]",
    out: Path,
    roots: list[Root],
    made: Made,
    *,
    workers: int,
    minutes: float | None,
    steps: int | None,
    log_every: int,
    pictures: int,
    score: int,
    export: Path | None,
) -> None:
    """Train, and do what is wanted at the end; says how to go on."""
    from models.data.report import Report
    from models.training import loop, processes
    from models.training import run as training
    from nps_cli.formats.video import write_png

    def keep_picture(step: int, picture: "Tensor") -> None:
        (out / "pictures").mkdir(exist_ok=True)
        write_png(picture, out / "pictures" / f"{step:07d}.png")

    report = Report()
    try:
        loaded = training.choose_assets(run.config, run.generator.device, **vars(made))
    except ValueError as error:
        raise NpsError(
            str(error), hint="`nps train --help` says what worlds are made of."
        ) from error
    board = open_board(out) if processes.rank() == 0 else None
    loop.train(
        run, lessons(run, roots, loaded, workers, report), out, minutes, steps,
        log_every=log_every, picture_every=pictures or None, board=board,
        on_step=_tell, on_picture=keep_picture,
    )  # fmt: skip
    if board:
        board.close()
    for line in report.lines() if roots else []:
        console.info(line)
    console.info(f"wrote {out / training.CHECKPOINT} (step {run.step}, {run.skipped} skipped)")
    if export:
        training.export(run, export)
        console.info(f"wrote {export}")
    if score and processes.rank() == 0:
        scores = run.config.score(run.average, loaded, score)
        _remember(run, scores, score, out / HISTORY)
    again = _again(run.config, roots, made)
    console.info(f"go on: nps train {again} --out {options.quoted(out)} --resume")


def compare_ablations(
    out: Path,
    textures: Path | None,
    settings: dict[str, Any],
    pairs: int,
    seeds: int,
    device: "torch.device",
    *,
    go_on: bool,
) -> None:
    """Train and score all ablations; every result is kept at once, and not made twice."""
    from models.training.ablation_study import SMALL_SCALE, Result, run_study, table
    from models.training.ablations import ABLATIONS
    from models.training.run import choose_assets

    file = out / RESULTS
    if file.exists() and not go_on:
        raise NpsError(f"{file} exists.", hint="Add --resume to go on, or choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    lines = file.read_text().splitlines() if file.exists() else []
    results = [Result(**json.loads(line)) for line in lines]
    experiment = replace(SMALL_SCALE, **settings)
    loaded = choose_assets(experiment, device, textures)

    def keep(result: "Result") -> None:
        with file.open("a") as log:
            log.write(json.dumps(asdict(result)) + "\n")
        results.append(result)
        told = ", ".join(f"{name} {value:.3f}" for name, value in result.scores.items())
        console.info(f"{result.ablation}, seed {result.seed}: {told}")

    done = {(result.ablation, result.seed) for result in results}
    for seed in range(seeds):
        missing = [name for name in ABLATIONS if (name, seed) not in done]
        run_study(experiment, missing, [seed], pairs, loaded, keep)
    (out / TABLE).write_text(table(results))
    console.print_result(table(results))
    console.info(f"wrote {out / TABLE}")


def _again(config: "TrainConfig[Any]", roots: list[Root], made: Made) -> str:
    """The options that make the same choice again."""
    from models.training.rendering import RenderTraining

    words = []
    if isinstance(config, RenderTraining):
        words.append(f"--preset {config.preset}")
    else:
        words.append(f"--part {config.part}")
    if roots:
        words += [f"--data {options.quoted(Path(str(root)))}" for root in roots]
    else:
        words.append("--procedural")
    words += [str(made)] if str(made) else []
    return " ".join(words)


def _remember(run: "Run[Any]", scores: dict[str, float], pairs: int, history: Path) -> None:
    """Append the scores to a file of JSON lines, and print them."""
    row = {"step": run.step, "hours": run.seconds / 3600, "scores": scores}
    with history.open("a") as file:
        file.write(json.dumps(row) + "\n")
    rows = [(name, f"{value:.4f}") for name, value in scores.items()]
    console.print_table("", ("measure", f"of {pairs} pairs"), rows)


def _tell(report: "StepReport") -> None:
    details = "".join(f", {name} {value:.3f}" for name, value in report.details.items())
    skipped = f", {report.skipped} steps skipped" if report.skipped else ""
    console.info(
        f"step {report.step}: loss {report.loss:.4f}{details}, {report.samples} pairs, "
        f"{report.samples_per_second:.1f} pairs/s ({report.drawing:.0%} of it worlds){skipped}"
    )
