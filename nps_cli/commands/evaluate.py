"""`nps evaluate`: score poses and novel views on photos whose cameras are known."""

import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from nps_cli import console, options
from nps_cli.errors import EXIT_UNTRUSTED

if TYPE_CHECKING:
    from models.evaluation.evaluate import ReconstructFn
    from nps_cli.weights.networks import NetworkChoice

SUFFIXES = (".json", ".csv", ".md")
GAUSSIANS_PER_PIXEL = 0.7  # to align by: 0.4 of the time, and 0.03 dB off on average
MERGE = "merge"


class _DataByDefault(TyperGroup):
    """A group whose command `data` is not named: `nps evaluate DATA`, `nps evaluate merge`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> Any:
        """Parse the arguments as those of `merge` or of `data`."""
        if args[:1] == [MERGE]:
            return super().make_context(info_name, args, parent, **extra)
        return self.commands["data"].make_context(info_name, args, parent, **extra)


evaluate = typer.Typer(
    cls=_DataByDefault, help="Score poses and novel views on photos whose cameras are known."
)


def _shard(value: str) -> str:
    found = re.fullmatch(r"(\d+)/(\d+)", value)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise typer.BadParameter(f"{value!r} is no I/N with I from 1 to N, like 2/4.")
    return value


def _reports(values: list[Path] | None) -> list[Path]:
    for value in values or []:
        if value.suffix not in SUFFIXES:
            raise typer.BadParameter(f"{value} ends in none of {', '.join(SUFFIXES)}.")
    return values or []


Out = Annotated[
    list[Path] | None,
    typer.Option(
        *("--out", "--output", "-o"),
        metavar="FILE",
        callback=_reports,
        help="The report: .json, .csv or .md; repeat for several. If the run is interrupted, the "
        "same command goes on where it stopped.",
    ),
]
Pose = Annotated[bool, typer.Option("--pose", help="Score relative poses.")]
Views = Annotated[
    bool, typer.Option("--views", help="Score novel views. Without either flag: both.")
]


@evaluate.command("data")
def evaluate_data(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA",
            exists=True,
            help="A list of pairs (.json), or the root of a data set in a published layout.",
        ),
    ],
    out: Out = None,
    index: Annotated[
        Path | None,
        options.existing_file(
            "Which frames of a data set are shown and predicted. "
            "Default: evaluation.json in its root."
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option(metavar="NAME", help="Whose filters hold for a data set: re10k, dtu, ...")
    ] = "own",
    context: Annotated[
        int, typer.Option(min=2, max=3, help="Photos shown of every scene of a data set.")
    ] = 2,
    pose: Pose = False,
    views: Views = False,
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
    triples: Annotated[
        bool, typer.Option("--triples", help="Take entries with three photos too.")
    ] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="At most N, from all scenes.")
    ] = None,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N", callback=_shard, help="Only the I-th of N shares of the pairs."
        ),
    ] = "1/1",
    jobs: options.Jobs = None,
    engine: options.Engine = "processes",
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also pictures: photo, rendering, aligned.")
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
    """Measure poses and novel views on photos whose cameras are known.

    Reports of shards become one with: nps evaluate merge 1.json 2.json -o all.json
    """
    console.set_verbosity(quiet=quiet, verbose=verbose)
    from models.evaluation.evaluate import EvaluationConfig
    from nps_cli.evaluation.inputs import load_data
    from nps_cli.evaluation.report import report
    from nps_cli.evaluation.runner import ALONE, USUAL, Request, run
    from nps_cli.output import check_outputs
    from nps_cli.weights.networks import NetworkChoice

    outs = out or []
    check_outputs(*outs, folder=save, inputs=[data, index, weights], force=force)
    refine = refine and not paper
    if compare and not refine:
        raise typer.BadParameter("--compare needs refinement to compare with.")
    number, count = map(int, shard.split("/"))
    published_crop = paper or (data.is_dir() and not (data / "pairs.json").is_file())
    config = EvaluationConfig(
        views=views or not pose,
        align=align,
        gaussians_per_pixel=None if paper else GAUSSIANS_PER_PIXEL,
        size=size,
        side_by_side=save is not None,
        published_crop=published_crop,
        keep_scale=paper,
    )
    recorded = {"refine": refine, "resolution": resolution, "views": config.views, "align": align}
    recorded |= {"size": size, "paper": paper, "published_crop": published_crop}
    network = NetworkChoice(weights, device, precision, crop)
    opened = partial(_open_reconstruct, network, resolution, paper)
    progress = outs[0].with_name(f".{outs[0].name}.unfinished") if outs else None
    loaded = load_data(
        data,
        index=index,
        kind=kind,
        context=context,
        triples=triples,
        limit=limit,
        shard=(number, count),
    )
    check_outputs(*outs, folder=save, inputs=loaded.files, force=force)
    request = Request(
        data=loaded,
        config=config,
        recorded=recorded,
        methods={USUAL: partial(opened, refine)}
        | ({ALONE: partial(opened, False)} if compare else {}),
        network=network,
        views=context,
        jobs=jobs,
        engine=engine,
        progress=progress,
        save=save,
        force=force,
    )
    evaluation = run(request)
    if save is not None:
        console.info(f"wrote {save}")
    report(evaluation, outs, pose=pose, views=views, json=json, force=force)
    if progress is not None:
        shutil.rmtree(progress, ignore_errors=True)
    if all(score.failure is not None for score in evaluation.scores):
        raise typer.Exit(EXIT_UNTRUSTED)


@evaluate.command(MERGE)
def merge_reports(
    reports: Annotated[
        list[Path],
        typer.Argument(
            metavar="REPORT",
            exists=True,
            dir_okay=False,
            help="Reports (.json) of all shards of an evaluation.",
        ),
    ],
    out: Out = None,
    pose: Pose = False,
    views: Views = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Merge the reports of an evaluation's shards into the one that a single run would write."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    from nps_cli.evaluation.report import report
    from nps_cli.formats.evaluation import merge, read_report
    from nps_cli.output import check_outputs

    check_outputs(*(out or []), inputs=reports, force=force)
    merged = merge([(path, read_report(path)) for path in reports])
    report(merged, out or [], pose=pose, views=views, json=json, force=force)


def _open_reconstruct(
    choice: "NetworkChoice", resolution: int, align: bool, refine: bool
) -> "ReconstructFn":
    """Load everything once per process; what there was to say was said by the first."""
    from models.options import Options, PoseMethod
    from nps_cli.device import keep_freed_memory
    from nps_cli.evaluation.inputs import TimedReconstruct
    from nps_cli.weights.networks import load_networks

    keep_freed_memory()
    networks, _ = load_networks(*choice, refine=refine)
    unrefined = PoseMethod.photometric if align else PoseMethod.pnp
    return TimedReconstruct(
        networks, Options(PoseMethod.matches if refine else unrefined, resolution)
    )
