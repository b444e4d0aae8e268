"""`nps train`: the paper's experiments and ablations, and the embedded parts, in exact slices."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nps_cli import console, options

if TYPE_CHECKING:
    from models.training.config import TrainConfig


class Part(StrEnum):
    """What can be trained."""

    network = "network"
    stereo = "stereo"


def train(
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the checkpoint and the logs."),
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[KIND=]DIR",
            show_default=False,
            help="A data set in the published layout: DIR/train/*.torch. Repeat for several, "
            "each with a batch of its own. KIND (re10k, acid, dl3dv, ..., own) is the preset's, or "
            "own.",
        ),
    ] = None,
    procedural: Annotated[
        bool, typer.Option("--procedural", help="Train on random ray-traced worlds instead.")
    ] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="An experiment of the paper: re10k, acid, dl3dv, re10k-3view, re10k-dl3dv, "
            "re10k-dl3dv-512 or re10k-1x8; the options here change it. With --data: re10k. Or how "
            "the embedded network is trained on worlds: embedded, on a GPU; embedded-tiny, small "
            "enough to rehearse that on a CPU.",
        ),
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="One change to it: no-intrinsics, global-add, dense-0, dense-2, dense-4, "
            "dense-4-decoder, no-rgb-shortcut, linear-heads, transform-then-fuse, 3-views; or all "
            "of them side by side, small, on procedural worlds: all.",
        ),
    ] = None,
    part: Annotated[
        Part,
        typer.Option(
            help="Of the embedded weights: the network that knows scenes, or the stereo part that "
            "refines them."
        ),
    ] = Part.network,
    textures: options.Textures = None,
    panoramas: options.Panoramas = None,
    meshes: options.Meshes = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WxH",
            show_default=False,
            help="Training images, multiples of 16 pixels. Worlds: repeat for several, drawn in "
            "turn. Default: the recipe's own.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            show_default=False,
            help="Examples per step, process and data set. Default: the recipe's own.",
        ),
    ] = None,
    total_steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            show_default=False,
            help="Steps over all slices, at which the learning rate has come down. Default: the "
            "recipe's own.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(metavar="R", min=0, show_default=False, help="Default: the recipe's own."),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            show_default=False,
            help="Of a preset's network: published, small, tiny, or embedded, whose Gaussians "
            "start in front of their pixels. Default: published.",
        ),
    ] = None,
    centers: Annotated[
        float | None,
        typer.Option(
            metavar="W",
            min=0,
            show_default=False,
            help="Worlds: weight of the distance to true centers, which a preset has not.",
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
            ".pth. Default: random.",
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
        typer.Option(metavar="N", min=0, help="Measure on N worlds never trained on, at the end."),
    ] = 0,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="How often --ablation all trains each.")
    ] = 2,
    pictures: Annotated[
        int, typer.Option(metavar="N", min=0, help="Steps between pictures in the log; 0: none.")
    ] = 500,
    log_every: Annotated[
        int, typer.Option(metavar="N", min=1, help="Steps between lines of the log.")
    ] = 20,
    lpips: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            show_default=False,
            help="vgg16-397923af.pth. Default: torch's cache, where `nps weights fetch lpips-vgg` "
            "puts it.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            show_default=False,
            help="Processes that read data sets ahead. Default: one a core, 4 at most.",
        ),
    ] = None,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a network; stop at any time, and resume exactly. Under torchrun: several at once."""
    if bool(data) == procedural:
        raise typer.BadParameter("either data sets or --procedural.", param_hint="--data")
    given = {
        "sizes": _parse_sizes(size),
        "batch": batch,
        "total_steps": total_steps,
        "learning_rate": learning_rate,
    }
    own = preset if procedural and preset and preset.startswith("embedded") else None
    if procedural and (preset or ablation) and not own:
        given["center_weight"] = centers
    elif centers is not None:
        raise typer.BadParameter("is for presets on --procedural worlds.", param_hint="--centers")
    settings = {name: value for name, value in given.items() if value is not None}
    from models.training import processes
    from nps_cli.device import joined_processes
    from nps_cli.output import check_target
    from nps_cli.training import runs, setup

    with joined_processes(device) as chosen:
        console.set_verbosity(quiet=quiet or processes.rank() > 0, verbose=verbose)
        if export:
            check_target(export, force=force)
        if ablation == "all":
            runs.compare_ablations(
                out, textures, settings, score or 32, seeds, chosen, go_on=resume
            )
            return
        roots = setup.parse_roots(data or [])
        config: TrainConfig[Any]
        if own:
            config = setup.embedded(own, settings)
        elif roots or preset or ablation:
            config = setup.experiment(preset, roots, network, settings)
            config = setup.ablated(config, ablation) if ablation else config
        else:
            config = _embedded(part, settings)
        perceptual = setup.find_perceptual(config, lpips)
        if workers is None:
            workers = min(4, os.cpu_count() or 1)
        run = setup.begin(config, out, init, chosen, perceptual, go_on=resume, force=force)
        runs.train_slice(
            run, out, roots, setup.Made(textures, panoramas, meshes),
            workers=workers, minutes=minutes, steps=steps,
            log_every=log_every, pictures=pictures, score=score, export=export,
        )  # fmt: skip


def _embedded(part: Part, settings: dict[str, Any]) -> "TrainConfig[Any]":
    """The recipe of the embedded weights."""
    from models.training.run import PARTS

    return PARTS[part](**settings)


def _parse_sizes(texts: list[str] | None) -> tuple[tuple[int, int], ...] | None:
    return tuple(options.parse_size(text, multiple_px=16) for text in texts) if texts else None
