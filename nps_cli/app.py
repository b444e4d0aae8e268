"""Register the commands; turn `NpsError` into a message and an exit code."""

import sys
from typing import Annotated

import typer

from nps_cli import __version__, console
from nps_cli.commands.convert import convert
from nps_cli.commands.data import data
from nps_cli.commands.doctor import doctor
from nps_cli.commands.evaluate import evaluate
from nps_cli.commands.inspect import inspect
from nps_cli.commands.pose import pose
from nps_cli.commands.reconstruct import reconstruct
from nps_cli.commands.render import render
from nps_cli.commands.train import train
from nps_cli.commands.view import view
from nps_cli.commands.weights import weights
from nps_cli.device import keep_freed_memory
from nps_cli.errors import NpsError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print_result(f"nps {__version__}")
        raise typer.Exit


@app.callback()
def _nps(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, help="Show the version.")
    ] = False,
) -> None:
    """3D Gaussian scenes and camera poses from two or three phone photos.

    Start with: nps reconstruct a.jpg b.jpg -o scene.ply
    """


for command in (reconstruct, pose, render, view, inspect, convert, doctor):
    app.command()(command)
app.add_typer(train, name="train")
app.add_typer(data, name="data")
app.add_typer(evaluate, name="evaluate")
app.add_typer(weights, name="weights")


def main(argv: list[str] | None = None) -> None:
    """Run `nps`; raise SystemExit: 2 for a wrong command line, 1 for what a person can fix."""
    console.set_verbosity()
    keep_freed_memory()
    try:
        app(argv, prog_name="nps")
    except NpsError as error:
        console.error(str(error), error.hint)
        sys.exit(1)
