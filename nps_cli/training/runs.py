"""Training runs with their records, and the ablations side by side."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli import console
from nps_cli.errors import NpsError
from nps_cli.options import quoted
from nps_cli.training.options import AblationOptions, RunOptions
from nps_cli.training.setup import DataSet, batches

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from models.training.ablation_study import Result
    from models.training.loop import StepReport
    from models.training.run import Run
    from models.training.tensorboard import TensorBoard

RESULTS, TABLE, HISTORY = "results.jsonl", "ablations.md", "history.jsonl"


def train_run(
    run: "Run[Any]",
    options: RunOptions,
    data_sets: list[DataSet] | None = None,
    workers: int = 0,
    worlds: Path | None = None,
) -> None:
    """Train for the time or steps of the options; export, validate, and print how to go on.

    `worlds` is a folder of encoded ones, from which the embedded network learns.
    """
    from models.data.report import Report
    from models.training import loop, processes
    from models.training import run as training
    from models.training.anchors import fit_start
    from models.training.embedded import EmbeddedTraining
    from models.training.encoded_worlds import encoded_batches
    from nps_cli.formats.video import write_png
    from nps_cli.output import whole_file

    out, report = options.out, Report()
    tensorboard = _open_tensorboard(out) if processes.rank() == 0 else None

    def on_report(line: "StepReport") -> None:
        _print_report(line)
        if tensorboard:
            tensorboard.add_report(line)

    def on_image(step: int, image: "Tensor") -> None:
        (out / "pictures").mkdir(exist_ok=True)
        write_png(image, out / "pictures" / f"{step:07d}.png")
        if tensorboard:
            tensorboard.add_image(step, image)

    try:
        assets = training.load_run_assets(
            run.config, run.device, options.textures, options.panoramas, options.meshes
        )
    except ValueError as error:
        raise NpsError(
            str(error), hint=f"`nps train {options.command} --help` says what worlds are made of."
        ) from error
    if isinstance(run.config, EmbeddedTraining) and worlds and run.step == 0:
        console.info("fitting where centers start")
        examples = encoded_batches(run.config, assets, worlds)
        fit_start(run.network, run.average, examples, run.config.fit_steps)
    loop.train(
        run, batches(run, data_sets or [], assets, workers, report, worlds), out,
        options.minutes, options.steps, log_every=options.log_every,
        image_every=options.pictures or None, on_report=on_report, on_image=on_image,
    )  # fmt: skip
    if tensorboard:
        tensorboard.close()
    for line in report.lines() if data_sets else []:
        console.info(line)
    console.info(f"wrote {out / training.CHECKPOINT} (step {run.step}, {run.skipped} skipped)")
    if options.export and processes.rank() == 0:
        with whole_file(options.export, force=options.force) as unfinished:
            training.export(run, unfinished)
        console.info(f"wrote {options.export}")
    if options.score and processes.rank() == 0:
        scores = run.config.validate(run.average, assets, options.score)
        _add_to_history(run, scores, options.score, out / HISTORY)
    console.info(f"go on: nps train {options.arguments()} --out {quoted(out)} --resume")


def compare_ablations(options: AblationOptions, device: "torch.device") -> None:
    """Train and validate all ablations; every result is written at once, and not made twice."""
    from models.files.json_reader import convert, parse_json
    from models.training.ablation_study import SMALL_SCALE, Result, run_study, table
    from models.training.ablations import ABLATIONS
    from models.training.run import load_run_assets

    out, file = options.out, options.out / RESULTS
    if file.exists() and not options.resume:
        raise NpsError(f"{file} exists.", hint="Add --resume to go on, or choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    lines = file.read_text().splitlines() if file.exists() else []
    try:
        results = [convert(parse_json(line), Result) for line in lines]
    except ValueError as error:
        raise NpsError(f"{file} is damaged: {error}.", hint="Delete its last line.") from error
    experiment = replace(SMALL_SCALE, **options.changes())
    assets = load_run_assets(experiment, device, options.textures)

    def on_result(result: "Result") -> None:
        with file.open("a") as log:
            log.write(json.dumps(asdict(result)) + "\n")
        results.append(result)
        scores = ", ".join(f"{name} {value:.3f}" for name, value in result.scores.items())
        console.info(f"{result.ablation}, seed {result.seed}: {scores}")

    done = {(result.ablation, result.seed) for result in results}
    for seed in range(options.seeds):
        missing = [name for name in ABLATIONS if (name, seed) not in done]
        if missing:
            run_study(experiment, missing, [seed], options.score, assets, on_result)
    (out / TABLE).write_text(table(results))
    console.print_result(table(results))
    console.info(f"wrote {out / TABLE}")


def _open_tensorboard(folder: Path) -> "TensorBoard | None":
    from models.training.tensorboard import TensorBoard

    try:
        return TensorBoard(folder / "tensorboard")
    except ImportError:
        console.debug("TensorBoard is not installed (pip install tensorboard): log.jsonl only")
        return None


def _add_to_history(run: "Run[Any]", scores: dict[str, float], pairs: int, history: Path) -> None:
    """Append the scores to a file of JSON lines, and print them."""
    row = {"step": run.step, "hours": run.seconds / 3600, "scores": scores}
    with history.open("a") as file:
        file.write(json.dumps(row) + "\n")
    rows = [(name, f"{value:.4f}") for name, value in scores.items()]
    console.print_table("", ("measure", f"of {pairs} pairs"), rows)


def _print_report(report: "StepReport") -> None:
    details = "".join(f", {name} {value:.3f}" for name, value in report.details.items())
    skipped = f", {report.skipped} steps skipped" if report.skipped else ""
    console.info(
        f"step {report.step}: loss {report.loss:.4f}{details}, {report.samples} pairs, "
        f"{report.samples_per_second:.1f} pairs/s ({report.batch_time:.0%} of it batches){skipped}"
    )
