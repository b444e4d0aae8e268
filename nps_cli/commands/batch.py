"""`nps batch`: many scenes from one start."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.options import SCENE, Options, PoseMethod
from nps_cli import console, options
from nps_cli.errors import EXIT_IMPOSSIBLE, EXIT_UNTRUSTED
from nps_cli.formats import READABLE, WRITABLE

if TYPE_CHECKING:
    from nps_cli.batch import Outcome

FORMATS = tuple(suffix[1:] for suffix in WRITABLE)


def _format(value: str) -> str:
    if value not in FORMATS:
        raise typer.BadParameter(f"{value!r} is not {console.either(*FORMATS)}.")
    return value


def batch(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="LIST.csv|FOLDER...",
            help="A list with the two or three photos of one scene on each line, folders with the "
            "photos of one scene each, or videos.",
        ),
    ],
    out: Annotated[
        Path,
        options.out_option(
            "DIR",
            "A folder per scene, with scene.ply and pose.json, and batch.json about all. If the "
            "run is interrupted, the same command goes on where it stopped.",
        ),
    ],
    format: Annotated[
        str,
        typer.Option(
            metavar="|".join(FORMATS), callback=_format, help="Of the scenes: a file's suffix."
        ),
    ] = "ply",
    jobs: options.Jobs = None,
    engine: options.Engine = "processes",
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    crop: options.Crop = None,
    focal_35mm: options.Focal35mm = None,
    fov: options.Fov = None,
    intrinsics: options.Intrinsics = None,
    refine: options.Refine = True,
    resolution: options.Resolution = SCENE.resolution,
    seed: options.Seed = SCENE.seed,
    force: options.Force = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Turn the photos of many scenes into scenes of 3D Gaussians, with networks loaded once.

    A scene that fails does not end the others; the exit code is 1 then.
    """
    console.set_verbosity(quiet=quiet)
    began = time.perf_counter()
    from nps_cli.batch import Conditions, check, find_finished, run, summarize, write_summary
    from nps_cli.batch_list import read_scenes
    from nps_cli.device import count_workers, pick_device
    from nps_cli.weights.networks import NetworkChoice, open_network

    scenes = read_scenes(sources)
    given = options.given_intrinsics(focal_35mm, fov, intrinsics)
    choice = NetworkChoice(weights, device, precision, crop)
    found_device = pick_device(device)
    _, info = open_network(weights, found_device)
    console.info(f"weights: {info.name} (sha256 {info.sha256[:12]})")
    run_options = Options(PoseMethod.matches if refine else PoseMethod.pnp, resolution, seed)
    conditions = Conditions(given, choice, info.sha256, run_options, f".{format}")
    check(scenes, conditions, out, force=force)
    outcomes = find_finished(scenes, conditions, out, force=force)
    if outcomes:
        console.info(f"{len(outcomes)} of {len(scenes)} scenes are finished already")
    waiting = [scene for scene in scenes if scene.name not in outcomes]
    workers = count_workers(jobs, engine, found_device, len(waiting))
    out.mkdir(exist_ok=True)
    on_cuda = found_device.type == "cuda"
    results = run(waiting, conditions, out, jobs=workers, engine=engine, gpus=on_cuda, force=force)
    for outcome in _followed(results, len(waiting)):
        outcomes[outcome.name] = outcome
    document = summarize([outcomes[scene.name] for scene in scenes], time.perf_counter() - began)
    path = write_summary(document, out)
    console.info(f"wrote {path}")
    if json:
        console.print_json(document)
    else:
        _show(document)
    good = next((each for each in outcomes.values() if each.status == "done"), None)
    if good is not None and f".{format}" in READABLE:
        scene = options.quoted(out / good.name / f"scene.{format}")
        console.info(f"next: nps view {scene}")
    if document["counts"]["failed"]:
        raise typer.Exit(EXIT_IMPOSSIBLE)
    if document["counts"]["untrusted"]:
        raise typer.Exit(EXIT_UNTRUSTED)


def _followed(results: "Iterator[Outcome]", count: int) -> "Iterator[Outcome]":
    """Yield the outcomes of a run, and report each, and the time left for those that wait."""
    done, started = 0, time.perf_counter()
    try:
        with console.progress("reconstructing", count) as advance:
            for done, outcome in enumerate(results, start=1):
                each_s = (time.perf_counter() - started) / done
                left = timedelta(seconds=round(each_s * (count - done)))
                _say(outcome, f"{done} of {count}", f" ({left} left)" if done < count else "")
                advance()
                yield outcome
    except (KeyboardInterrupt, SystemExit):
        console.info(f"interrupted after {done} of {count}: the same command goes on from there")
        raise


def _say(outcome: "Outcome", number: str, left: str) -> None:
    if outcome.error is not None:
        console.warning(f"{number}: {outcome.name} failed: {outcome.error}{left}")
        return
    result = f"{outcome.gaussians:,} Gaussians in {outcome.seconds:.1f} s{left}"
    console.info(f"{number}: {outcome.name}, {result}")
    for problem in outcome.problems:
        console.warning(f"{outcome.name}: {problem}")


def _show(document: dict[str, Any]) -> None:
    rows = []
    for scene in document["scenes"]:
        confidence, gaussians = scene["confidence"], scene["gaussians"]
        rows.append(
            (
                scene["name"],
                scene["status"],
                "-" if gaussians is None else f"{gaussians:,}",
                "-" if confidence is None else f"{confidence:.2f}",
                f"{scene['seconds']:.1f}",
                scene["error"] or " ".join(scene["problems"]),
            )
        )
    columns = ("scene", "status", "Gaussians", "confidence", "seconds", "remarks")
    console.print_table("", columns, rows)
