"""`nps train`: the network or the stereo part from procedural worlds, in exact slices."""

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nps_cli import console, options
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    import torch

    from models.training.loop import StepReport
    from models.training.run import Run


class Part(StrEnum):
    """What can be trained."""

    network = "network"
    stereo = "stereo"


def train(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the checkpoint and the log."),
    ],
    procedural: Annotated[
        bool,
        typer.Option("--procedural", help="Train on random ray-traced worlds; the only data yet."),
    ] = False,
    part: Annotated[
        Part,
        typer.Option(help="The network that knows scenes, or the stereo part that refines them."),
    ] = Part.network,
    textures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            show_default=False,
            help="Images to cut textures from. Default: noise.",
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WxH",
            show_default=False,
            help="Training images, multiples of 16 pixels. Repeat for several, drawn in turn. "
            "Default: the part's own.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            show_default=False,
            help="Pairs per step. Default: 8 for the network, 4 for stereo.",
        ),
    ] = None,
    total_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            show_default=False,
            help="Steps over all slices, at which the learning rate has come down. "
            "Default: 100000 for the network, 20000 for stereo.",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="M", min=0, show_default=False, help="Stop after this time."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, show_default=False, help="Stop after so many steps."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            show_default=False,
            help="Start a network from weights of ours, a published NoPoSplat .ckpt, or MASt3R's "
            ".pth, in their size. Default: a small one, random.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out, if there is one.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="Write .safetensors at the end."),
    ] = None,
    score: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Measure on N pairs never trained on, at the end."),
    ] = 0,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a part of the program; stop at any time, and resume exactly."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    if not procedural:
        raise typer.BadParameter("is needed: there is no other data.", param_hint="--procedural")
    if init and part is not Part.network:
        raise typer.BadParameter("starts the network only: --part network.", param_hint="--init")
    given = {"sizes": _parse_sizes(size), "batch": batch, "total_steps": total_steps}
    from models.training import loop
    from models.training import run as training
    from nps_cli.device import pick_device
    from nps_cli.output import check_target

    if export:
        check_target(export, force=force)
    chosen = pick_device(device)
    run = _run(out, part, given, init, chosen, go_on=resume, force=force)
    loaded = training.choose_textures(run.config, textures, chosen)
    loop.train(run, loaded, out, minutes, steps, on_step=_tell)
    console.say(f"wrote {out / training.CHECKPOINT} (step {run.step}, {run.skipped} skipped)")
    if export:
        training.export(run, export)
        console.say(f"wrote {export}")
    if score:
        scores = run.config.score(run.average, loaded, score)
        rows = [(name, f"{value:.4f}") for name, value in scores.items()]
        console.print_table("", ("measure", f"of {score} pairs"), rows)
    again = f" --textures {options.quoted(textures)}" if textures else ""
    console.say(
        f"go on: nps train --procedural --part {part}{again} --out {options.quoted(out)} --resume"
    )


def _parse_sizes(texts: list[str] | None) -> tuple[tuple[int, int], ...] | None:
    return tuple(_parse_size(text) for text in texts) if texts else None


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if not match or any(int(side) % 16 or int(side) < 32 for side in match.groups()):
        raise typer.BadParameter(
            f"{text!r} is not WIDTHxHEIGHT, both multiples of 16 from 32, such as 128x128.",
            param_hint="--size",
        )
    return int(match[2]), int(match[1])


def _run(
    out: Path, part: Part, given: dict[str, Any], init: Path | None, device: "torch.device", *,
    go_on: bool, force: bool,
) -> "Run[Any]":  # fmt: skip
    """A new run with the given settings, or the one in the folder, whose own settings hold."""
    from models.training import run as training

    checkpoint = out / training.CHECKPOINT
    if go_on and checkpoint.exists():
        try:
            run = training.resume(checkpoint, device)
        except ValueError as error:
            raise NpsError(str(error), hint="Start again in another folder.") from error
        if run.config.part != part:
            raise NpsError(
                f"{checkpoint} is a run of the {run.config.part} part.",
                hint=f"Add --part {run.config.part}, or choose another folder.",
            )
        return run
    if checkpoint.exists() and not force:
        raise NpsError(
            f"{checkpoint} exists.", hint="Add --resume to go on, or --force to start again."
        )
    settings = {name: value for name, value in given.items() if value is not None}
    if init is None:
        run = training.start(training.PARTS[part](**settings), device)
    else:
        run = _start_from(init, settings, device)
    out.mkdir(parents=True, exist_ok=True)
    return run


def _start_from(init: Path, settings: dict[str, Any], device: "torch.device") -> "Run[Any]":
    from models.training import run as training
    from models.training.network import NetworkTraining
    from models.weights import load_initial, load_strictly

    try:
        network, license = load_initial(init)
    except ValueError as error:
        raise NpsError(str(error), hint="`nps train --help` says what --init takes.") from error
    console.say(f"license of weights trained from {init}: {license}")
    config = NetworkTraining(network=network.config, license=license, **settings)
    run = training.start(config, device)
    for each in (run.network, run.average):
        load_strictly(each, network.state_dict())
    return run


def _tell(report: "StepReport") -> None:
    details = "".join(f", {name} {value:.3f}" for name, value in report.details.items())
    console.say(
        f"step {report.step}: loss {report.loss:.4f}{details}, {report.samples} pairs, "
        f"{report.samples_per_second:.1f} pairs/s"
    )
