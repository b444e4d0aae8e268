"""`nps evaluate`: poses and novel views on photos whose cameras are known."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nps_cli import console, options
from nps_cli.errors import EXIT_UNTRUSTED, NpsError

if TYPE_CHECKING:
    from torch import Tensor

    from models.data.pairs import PhotoPair
    from models.evaluate import PairResult, ReconstructFn
    from models.reconstruct import Reconstruction
    from models.scores import ImageScore, PairScores, PoseSummary, Summary
    from nps_cli.loading import NetworkChoice

POSE_COLUMNS = ("AUC@5/10/20", "without low parallax", "median error")
VIEW_COLUMNS = ("targets", "at the true pose", "aligned", "view 1")
ABSENT = "-"


def evaluate(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS.json",
            exists=True,
            dir_okay=False,
            show_default=False,
            help="A list of pairs: photos, their cameras, further photos to predict.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", show_default=False, help="The report: .json."),
    ] = None,
    pose: Annotated[bool, typer.Option("--pose", help="Score relative poses.")] = False,
    views: Annotated[
        bool, typer.Option("--views", help="Score novel views. Without either flag: both.")
    ] = False,
    align: Annotated[
        bool, typer.Option(help="Score targets also at the pose where the scene fits them best.")
    ] = True,
    triples: Annotated[
        bool, typer.Option("--triples", help="Take entries with three photos too.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default=False, help="At most N, from all scenes."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", show_default=False, help="Processes. Default: one a core, or GPU."
        ),
    ] = None,
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
    from models.evaluate import EvaluationConfig, evaluate_pairs
    from models.scores import summarize
    from nps_cli.device import pick_device
    from nps_cli.loading import NetworkChoice, check_outputs, framing_for, open_network
    from nps_cli.output import whole_file

    check_outputs(out, folder=save, force=force)
    pairs = _load(data, triples, limit)
    where = pick_device(device)
    choice = NetworkChoice(weights, device, precision, crop)
    _, info = open_network(weights, where)
    jobs = jobs or (1 if where.type == "cuda" else min(os.cpu_count() or 1, len(pairs)))
    config = EvaluationConfig(views=views or not pose, align=align, pictures=save is not None)
    open_reconstruct = partial(_open_reconstruct, choice, refine, resolution)
    began = time.perf_counter()
    results = evaluate_pairs(pairs, open_reconstruct, config, jobs)
    scores = _collect(results, len(pairs), save, force)
    summaries = summarize(scores)
    document = {
        "format": "nps-evaluation",
        "version": 1,
        "data": str(data),
        "weights": {"name": info.name, "sha256": info.sha256},
        "options": {
            "refine": refine,
            "resolution": resolution,
            "align": align,
            "jobs": jobs,
            "precision": precision,
            "crop": framing_for(info, crop).crop,
        },
        "seconds": round(time.perf_counter() - began, 1),
        "summary": [asdict(summary) for summary in summaries],
        "pairs": [asdict(score) for score in scores],
    }
    if out is not None:
        with whole_file(out, force=force) as path:
            path.write_text(dumps(document, indent=1, allow_nan=False), encoding="utf-8")
    if json:
        console.emit_json(document)
    else:
        _print(summaries, pose=pose or not views, views=config.views)
    for path in filter(None, (out, save)):
        console.say(f"wrote {path}")
    if all(score.failure is not None for score in scores):
        raise typer.Exit(EXIT_UNTRUSTED)


def _load(data: Path, triples: bool, limit: int | None) -> "list[PhotoPair]":
    from models.data.pairs import load_pairs, spread_over_scenes

    try:
        entries = load_pairs(data)
    except (OSError, ValueError) as error:
        raise NpsError(str(error), hint="`nps evaluate --help` says what it takes.") from error
    pairs = [pair for pair in entries if triples or len(pair.views) == 2]
    if not pairs:
        raise NpsError(f"{data} holds only triples.", hint="Take them too with --triples.")
    return spread_over_scenes(pairs, limit or len(pairs))


def _open_reconstruct(choice: "NetworkChoice", refine: bool, resolution: int) -> "ReconstructFn":
    """Load everything once per process; what there was to say was said by the first."""
    from models.reconstruct import reconstruct
    from nps_cli.device import pick_device
    from nps_cli.loading import framing_for, open_network, open_refinement
    from nps_cli.memory import keep_freed_memory

    keep_freed_memory()
    where = pick_device(choice.device)
    network, info = open_network(choice.weights, where, precision=choice.precision)
    framing = framing_for(info, choice.crop)
    refinement = open_refinement(where) if refine else None

    def run(photos: "list[Tensor]", intrinsics: "Tensor") -> "Reconstruction":
        on_device = [photo.to(where) for photo in photos]
        return reconstruct(
            on_device,
            intrinsics.to(where),
            network,
            refinement,
            resolution=resolution,
            framing=framing,
        )

    return run


def _collect(
    results: "Iterator[PairResult]", total: int, save: Path | None, force: bool
) -> "list[PairScores]":
    """Gather the scores as they come, name failures, and save pictures."""
    from nps_cli.formats.video import write_png
    from nps_cli.output import whole_folder

    scores = []
    with ExitStack() as stack:
        folder = stack.enter_context(whole_folder(save, force=force)) if save else None
        advance = stack.enter_context(console.counted("evaluating", total))
        try:
            for result in results:
                scores.append(result.scores)
                if result.scores.failure is not None:
                    console.warn(f"{result.scores.id} failed: {result.scores.failure}")
                if folder is not None and result.picture is not None:
                    name = re.sub(r"[^\w.-]", "_", result.scores.id)
                    write_png(result.picture, folder / f"{name}.png")
                advance()
        except ValueError as error:
            raise NpsError(str(error), hint="Correct the list, or the photo.") from error
    return scores


def _print(summaries: "list[Summary]", *, pose: bool, views: bool) -> None:
    columns = ["group", "pairs", "failed"]
    columns += POSE_COLUMNS if pose else ()
    columns += VIEW_COLUMNS if views else ()
    rows = [_row(summary, pose=pose, views=views) for summary in summaries]
    console.print_table("", [*columns, "seconds"], rows)


def _row(summary: "Summary", *, pose: bool, views: bool) -> list[str]:
    row = [summary.group, str(summary.pairs), str(len(summary.failed))]
    if pose:
        row += [_auc(summary.pose), _auc(summary.pose_without_low_parallax)]
        row += [f"{summary.pose.median_deg:.1f} deg"]
    if views and summary.views is not None:
        found = summary.views
        row += [str(found.targets), *map(_image, (found.posed, found.aligned, found.first_view))]
    return [*row, f"{summary.median_seconds:.1f}"]


def _auc(pose: "PoseSummary | None") -> str:
    if pose is None:
        return ABSENT
    return "/".join(f"{100 * share:.0f}" for share in (pose.auc5, pose.auc10, pose.auc20))


def _image(score: "ImageScore | None") -> str:
    return ABSENT if score is None else f"{score.psnr:.1f} dB {score.ssim:.2f}"
