"""`nps train`: a network from procedural worlds, in slices that resume exactly."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nps_cli import console, options
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    import torch

    from models.train import Run, StepReport


def train(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the checkpoint and the log."),
    ],
    procedural: Annotated[
        bool,
        typer.Option("--procedural", help="Train on random ray-traced worlds; the only data yet."),
    ] = False,
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
        str, typer.Option(metavar="WxH", help="Training images, multiples of 16 pixels.")
    ] = "128x128",
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Pairs per step.")] = 8,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="M", min=0, show_default=False, help="Stop after this time."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, show_default=False, help="Stop after so many steps."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out, if there is one.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="Write .safetensors at the end."),
    ] = None,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train the small network; stop at any time, and resume exactly."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    if not procedural:
        raise typer.BadParameter("is needed: there is no other data.", param_hint="--procedural")
    wanted_size = _parse_size(size)
    from models import train as training
    from nps_cli.device import pick_device
    from nps_cli.output import check_target

    if export:
        check_target(export, force=force)
    chosen = pick_device(device)
    run = _run(out, wanted_size, batch, chosen, go_on=resume, force=force)
    loaded = training.choose_textures(run.config, textures, chosen)
    training.train(run, loaded, out, minutes, steps, on_step=_tell)
    console.say(f"wrote {out / training.CHECKPOINT} (step {run.step}, {run.skipped} skipped)")
    if export:
        training.export(run, export)
        console.say(f"wrote {export}")
    again = f" --textures {options.quoted(textures)}" if textures else ""
    console.say(f"go on: nps train --procedural{again} --out {options.quoted(out)} --resume")


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if not match or any(int(side) % 16 or int(side) < 32 for side in match.groups()):
        raise typer.BadParameter(
            f"{text!r} is not WIDTHxHEIGHT, both multiples of 16 from 32, such as 128x128.",
            param_hint="--size",
        )
    return int(match[2]), int(match[1])


def _run(
    out: Path, size: tuple[int, int], batch: int, device: "torch.device", *,
    go_on: bool, force: bool,
) -> "Run":  # fmt: skip
    """A new run, or the one in the folder; its own size and batch then hold."""
    from models import train as training

    checkpoint = out / training.CHECKPOINT
    if go_on and checkpoint.exists():
        try:
            return training.resume(checkpoint, device)
        except (RuntimeError, ValueError, KeyError) as error:
            raise NpsError(
                f"{checkpoint} is not a checkpoint of this version: {error}",
                hint="Start again in another folder.",
            ) from error
    if checkpoint.exists() and not force:
        raise NpsError(
            f"{checkpoint} exists.", hint="Add --resume to go on, or --force to start again."
        )
    out.mkdir(parents=True, exist_ok=True)
    return training.start(training.TrainConfig(size=size, batch=batch), device)


def _tell(report: "StepReport") -> None:
    console.say(
        f"step {report.step}: loss {report.loss:.4f}, {report.samples} pairs, "
        f"{report.samples_per_second:.1f} pairs/s"
    )
