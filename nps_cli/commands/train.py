"""`nps train`: the paper's experiments and ablations, and the embedded weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from nps_cli import console
from nps_cli.training.options import (
    AblationOptions,
    EmbeddedOptions,
    PaperOptions,
    StereoOptions,
    TrainOptions,
    takes,
)

if TYPE_CHECKING:
    import torch

train = typer.Typer(
    no_args_is_help=True,
    help="Train networks; stop at any time, and resume exactly. Under torchrun: several processes.",
)


@train.command()
@takes(PaperOptions)
def paper(options: PaperOptions) -> None:
    """Train NoPoSplat as in the paper, on data sets or on procedural worlds."""
    if bool(options.data) == options.procedural:
        raise typer.BadParameter("either data sets or --procedural.", param_hint="--data")
    if options.centers is not None and not options.procedural:
        raise typer.BadParameter("is for --procedural worlds.", param_hint="--centers")
    from nps_cli.training import runs, setup

    with _training(options) as device:
        data_sets = setup.parse_data_sets(options.data or [])
        config = setup.paper_config(options, data_sets)
        lpips = setup.find_lpips(options.lpips)
        run = setup.begin(config, options, device, options.init, lpips)
        runs.train_run(run, options, data_sets, options.workers)


@train.command()
@takes(EmbeddedOptions)
def embedded(options: EmbeddedOptions) -> None:
    """Train the embedded network on procedural worlds: centers of pairs of views."""
    from nps_cli.training import runs, setup

    with _training(options) as device:
        run = setup.begin(setup.embedded_config(options, device), options, device)
        runs.train_run(run, options, worlds=options.worlds or options.out / "worlds")


@train.command()
@takes(StereoOptions)
def stereo(options: StereoOptions) -> None:
    """Train the embedded stereo network on procedural worlds."""
    from models.training.stereo import StereoTraining
    from nps_cli.training import runs, setup

    with _training(options) as device:
        runs.train_run(setup.begin(StereoTraining(**options.changes()), options, device), options)


@train.command()
@takes(AblationOptions)
def ablations(options: AblationOptions) -> None:
    """Train all of the paper's ablations side by side, small, on procedural worlds."""
    from nps_cli.training import runs

    with _training(options) as device:
        runs.compare_ablations(options, device)


@contextmanager
def _training(options: TrainOptions) -> "Iterator[torch.device]":
    from models.training import processes
    from nps_cli.device import joined_processes

    with joined_processes(options.device) as device:
        console.set_verbosity(quiet=options.quiet or processes.rank() > 0, verbose=options.verbose)
        yield device
