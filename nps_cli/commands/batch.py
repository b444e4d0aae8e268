"""`nps batch`: many scenes from one start."""

import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from models.options import SCENE, Options, PoseMethod
from nps_cli import __version__, console, options
from nps_cli.errors import EXIT_UNTRUSTED, NpsError
from nps_cli.formats import READABLE, WRITABLE

if TYPE_CHECKING:
    from nps_cli.batch import Outcome
    from nps_cli.weights.networks import NetworkChoice

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
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes. Default: one a core, or GPU.")
    ] = None,
    engine: Annotated[
        Literal["processes", "ray"],
        typer.Option(help="What starts them; ray uses the cluster that RAY_ADDRESS names."),
    ] = "processes",
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
    from nps_cli.batch import Conditions, find_finished, run, write_summary
    from nps_cli.batch_list import read_scenes
    from nps_cli.output import check_target
    from nps_cli.weights.networks import NetworkChoice

    scenes = read_scenes(sources)
    check_target(out, force=True)
    if out.exists() and not out.is_dir():
        raise NpsError(f"{out} is not a folder.", hint="Choose another name.")
    given = options.given_intrinsics(focal_35mm, fov, intrinsics)
    choice = NetworkChoice(weights, device, precision, crop)
    on_cuda, sha256 = _check_networks(choice, engine)
    method = PoseMethod.matches if refine else PoseMethod.pnp
    conditions = Conditions(given, choice, sha256, Options(method, resolution, seed), f".{format}")
    finished = find_finished(scenes, conditions, out, force=force)
    out.mkdir(exist_ok=True)
    if finished:
        console.info(f"{len(finished)} of {len(scenes)} scenes are finished already")
    waiting = [scene for scene in scenes if scene.name not in finished]
    if jobs is None and engine == "processes":
        jobs = 1 if on_cuda else max(1, min(os.cpu_count() or 1, len(waiting)))
    outcomes = dict(finished)
    with console.progress("reconstructing", len(waiting)) as advance:
        started = time.perf_counter()
        results = run(waiting, conditions, out, jobs=jobs, engine=engine, gpus=on_cuda, force=force)
        for done, outcome in enumerate(results, start=1):
            outcomes[outcome.name] = outcome
            each_s = (time.perf_counter() - started) / done
            _say(outcome, f"{done} of {len(waiting)}", each_s * (len(waiting) - done))
            advance()
    document = _summary([outcomes[scene.name] for scene in scenes], time.perf_counter() - began)
    path = write_summary(document, out)
    if json:
        console.print_json(document)
    else:
        _show(document)
    console.info(f"wrote {path}")
    good = next((each for each in outcomes.values() if each.status == "done"), None)
    if good is not None and f".{format}" in READABLE:
        scene = options.quoted(out / good.name / f"scene.{format}")
        console.info(f"next: nps view {scene}")
    if document["counts"]["failed"]:
        raise typer.Exit(1)
    if document["counts"]["untrusted"]:
        raise typer.Exit(EXIT_UNTRUSTED)


def _check_networks(choice: "NetworkChoice", engine: str) -> tuple[bool, str]:
    """Return whether there is a GPU, and the hash of the weights; refuse what no scene could use.

    What there is to say about networks is said here, once.
    """
    from importlib.util import find_spec

    from nps_cli.device import pick_device
    from nps_cli.weights.networks import open_network

    if engine == "ray" and find_spec("ray") is None:
        raise NpsError("Ray is not installed.", hint="pip install ray, or leave out --engine.")
    device = pick_device(choice.device)
    _, weights = open_network(choice.weights, device)
    console.info(f"weights: {weights.name} (sha256 {weights.sha256[:12]})")
    return device.type == "cuda", weights.sha256


def _say(outcome: "Outcome", number: str, left_s: float) -> None:
    """Report a scene that ended, and the time left for those that wait."""
    left = f" ({_duration(left_s)} left)" if left_s else ""
    if outcome.error is not None:
        console.warning(f"{number}: {outcome.name} failed: {outcome.error}{left}")
        return
    result = f"{outcome.gaussians:,} Gaussians in {outcome.seconds:.1f} s{left}"
    console.info(f"{number}: {outcome.name}, {result}")
    for problem in outcome.problems:
        console.warning(f"{outcome.name}: {problem}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _summary(outcomes: "list[Outcome]", seconds: float) -> dict[str, Any]:
    """Return the document about all scenes of a batch."""
    statuses = [outcome.status for outcome in outcomes]
    return {
        "format": "nps-batch",
        "version": 1,
        "generator": f"nps {__version__}",
        "seconds": round(seconds, 3),
        "counts": {status: statuses.count(status) for status in ("done", "untrusted", "failed")},
        "scenes": [asdict(outcome) for outcome in outcomes],
    }


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
