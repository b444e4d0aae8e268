"""`nps evaluate`: poses and novel views on photos whose cameras are known."""

import re
import shutil
from enum import StrEnum
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nps_cli import console, options
from nps_cli.errors import EXIT_UNTRUSTED

if TYPE_CHECKING:
    from models.evaluation.evaluate import ReconstructFn
    from nps_cli.formats.evaluation import Evaluation
    from nps_cli.weights.networks import NetworkChoice

SUFFIXES = (".json", ".csv", ".md")
ENOUGH = 0.7  # Gaussians for a pixel to align by: 0.4 of the time, and 0.03 dB off on average


class EngineChoice(StrEnum):
    """What starts the processes."""

    processes = "processes"
    ray = "ray"


def _shard(value: str) -> str:
    found = re.fullmatch(r"(\d+)/(\d+)", value)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise typer.BadParameter(f"{value!r} is no I/N with I from 1 to N, like 2/4.")
    return value


def _report(value: Path | None) -> Path | None:
    if value is not None and value.suffix not in SUFFIXES:
        raise typer.BadParameter(f"{value} ends in none of {', '.join(SUFFIXES)}.")
    return value


def evaluate(
    data: Annotated[
        list[Path],
        typer.Argument(
            metavar="DATA",
            exists=True,
            show_default=False,
            help="A list of pairs (.json), or the root of a data set in a published layout; "
            "or reports (.json) of all shards of an evaluation, which are merged.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            *("--out", "-o"),
            metavar="FILE",
            callback=_report,
            show_default=False,
            help="The report: .json, .csv or .md. If the run is interrupted, the same command "
            "goes on where it stopped.",
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            show_default=False,
            help="Which frames of a data set are shown and predicted. "
            "Default: evaluation.json in its root.",
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option(metavar="NAME", help="Whose filters hold for a data set: re10k, dtu, ...")
    ] = "own",
    context: Annotated[
        int, typer.Option(min=2, max=3, help="Photos shown of every scene of a data set.")
    ] = 2,
    pose: Annotated[bool, typer.Option("--pose", help="Score relative poses.")] = False,
    views: Annotated[
        bool, typer.Option("--views", help="Score novel views. Without either flag: both.")
    ] = False,
    align: Annotated[
        bool, typer.Option(help="Score targets also at the pose where the scene fits them best.")
    ] = True,
    size: Annotated[
        int, typer.Option(min=16, max=2048, help="Pixels of the compared squares' sides.")
    ] = 256,
    paper: Annotated[
        bool,
        typer.Option(
            "--paper",
            help="The published protocol: the network alone sees the squares, its scale is taken "
            "as it is, its poses are aligned. For published weights.",
        ),
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Evaluate also without refinement, and compare.")
    ] = False,
    details: Annotated[
        bool, typer.Option("--details", help="Print distributions, the worst pairs and times too.")
    ] = False,
    triples: Annotated[
        bool, typer.Option("--triples", help="Take entries with three photos too.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default=False, help="At most N, from all scenes."),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N", callback=_shard, help="Only the I-th of N shares of the pairs."
        ),
    ] = "1/1",
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", show_default=False, help="Processes. Default: one a core, or GPU."
        ),
    ] = None,
    engine: Annotated[
        EngineChoice,
        typer.Option(help="What starts them; ray uses the cluster that RAY_ADDRESS names."),
    ] = EngineChoice.processes,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default=False, help="Also pictures: photo, rendering, aligned."
        ),
    ] = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    crop: options.Crop = None,
    refine: options.Refine = True,
    resolution: options.Resolution = 512,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Measure poses and novel views on photos whose cameras are known."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    from nps_cli.formats.evaluation import is_report, merge, read_report
    from nps_cli.output import check_outputs
    from nps_cli.weights.networks import NetworkChoice

    check_outputs(out, folder=save, force=force)
    refine = refine and not paper
    show = partial(_show, out, pose or not views, views or not pose, details, json, force)
    if all(map(is_report, data)):
        reports = [(path, read_report(path)) for path in data]
        return show(merge(reports) if len(reports) > 1 else reports[0][1])
    if len(data) > 1:
        raise typer.BadParameter("takes one list or data set, or several reports to merge.")
    if compare and not refine:
        raise typer.BadParameter("--compare needs refinement to compare with.")
    from models.evaluation.evaluate import EvaluationConfig
    from nps_cli.evaluation.inputs import load_data
    from nps_cli.evaluation.runner import ALONE, USUAL, Request, carry_out

    published = paper or (data[0].is_dir() and not (data[0] / "pairs.json").is_file())
    config = EvaluationConfig(
        views=views or not pose,
        align=align,
        align_by=None if paper else ENOUGH,
        size=size,
        pictures=save is not None,
        published_crop=published,
        own_unit=paper,
    )
    facts = {"refine": refine, "resolution": resolution, "views": config.views, "align": align}
    facts |= {"size": size, "paper": paper, "published_crop": published}
    choice = NetworkChoice(weights, device, precision, crop)
    opened = partial(_open_reconstruct, choice, resolution, paper)
    ways = {USUAL: partial(opened, refine)} | ({ALONE: partial(opened, False)} if compare else {})
    which, of = map(int, shard.split("/"))
    unfinished = None if out is None else out.with_name(f".{out.name}.unfinished")
    evaluation = carry_out(
        Request(
            data=str(data[0]),
            loaded=load_data(data[0].resolve(), index, kind, context, triples, limit),
            shard=(which, of),
            config=config,
            options=facts,
            ways=ways,
            choice=choice,
            views=context,
            jobs=jobs,
            engine=engine.value,
            unfinished=unfinished,
            save=save,
            force=force,
        )
    )
    show(evaluation)
    if unfinished is not None:
        shutil.rmtree(unfinished, ignore_errors=True)
    if save is not None:
        console.info(f"wrote {save}")
    if all(score.failure is not None for score in evaluation.scores):
        raise typer.Exit(EXIT_UNTRUSTED)


def _open_reconstruct(
    choice: "NetworkChoice", resolution: int, align: bool, refine: bool
) -> "ReconstructFn":
    """Load everything once per process; what there was to say was said by the first."""
    from models.options import Options, PoseMethod
    from nps_cli.device import keep_freed_memory
    from nps_cli.evaluation.inputs import TimedReconstruct
    from nps_cli.weights.networks import load_networks

    keep_freed_memory()
    networks, _ = load_networks(choice, refine=refine)
    unrefined = PoseMethod.photometric if align else PoseMethod.pnp
    return TimedReconstruct(
        networks, Options(PoseMethod.matches if refine else unrefined, resolution)
    )


def _show(
    out: Path | None,
    pose: bool,
    views: bool,
    details: bool,
    json: bool,
    force: bool,
    evaluation: "Evaluation",
) -> None:
    """Write the report, and print it."""
    from models.evaluation.summary import summarize
    from nps_cli.formats import tables
    from nps_cli.formats.evaluation import write_document
    from nps_cli.output import whole_file

    if out is not None:
        if out.suffix == ".json":
            text = dumps(write_document(evaluation), indent=1, allow_nan=False)
        elif out.suffix == ".csv":
            text = tables.as_csv(evaluation)
        else:
            text = tables.as_markdown(evaluation, pose=pose, views=views)
        with whole_file(out, force=force) as path:
            path.write_text(text, encoding="utf-8")
    if json:
        console.print_json(write_document(evaluation))
    else:
        shown = [tables.overview(summarize(evaluation.scores), pose=pose, views=views)]
        for table in shown + (tables.details(evaluation) if details else []):
            console.print_table(table.title, table.columns, table.rows)
    console.info(tables.count_used(evaluation))
    if out is not None:
        console.info(f"wrote {out}")
