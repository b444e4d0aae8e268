"""Register the commands; turn `NpsError` into a message and an exit code."""

import logging
import re
import shlex
import sys
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nps_cli import __version__, console
from nps_cli.commands.batch import batch
from nps_cli.commands.convert import convert
from nps_cli.commands.data import data
from nps_cli.commands.doctor import doctor
from nps_cli.commands.evaluate import evaluate
from nps_cli.commands.inspect import inspect
from nps_cli.commands.pick import pick
from nps_cli.commands.pose import pose
from nps_cli.commands.reconstruct import reconstruct
from nps_cli.commands.render import render
from nps_cli.commands.train import train
from nps_cli.commands.view import view
from nps_cli.commands.weights import weights
from nps_cli.device import is_out_of_memory, keep_freed_memory
from nps_cli.errors import EXIT_IMPOSSIBLE, NpsError, UsageError
from nps_cli.formats import is_scene

ONE_PER_PHOTO = ("--fov", "--focal-35mm")
NUMBERS = r"\d+(\.\d*)?(,\d+(\.\d*)?)*"


class _Commands(TyperGroup):
    """The commands; a photo or scene in place of one is answered by the command that takes it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command of the first argument; raise UsageError for a file."""
        first = Path(args[0])
        if args[0] not in self.commands and (first.suffix or first.exists()):
            words = shlex.join(args)
            command = "view" if is_scene(first) else "reconstruct"
            rest = "" if command == "view" or "-o" in args else " -o scene.ply"
            raise UsageError(
                f"{args[0]} is no command of nps.", hint=f"Try: nps {command} {words}{rest}"
            )
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_Commands,
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
        bool, typer.Option("--version", "-V", callback=_print_version, help="Show the version.")
    ] = False,
) -> None:
    """3D Gaussian scenes and camera poses from two or three phone photos.

    Start with: nps reconstruct a.jpg b.jpg -o scene.ply
    """


def show_help(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="Such as weights fetch.")
    ] = None,
) -> None:
    """Show the help of nps, or of a command."""
    app([*(command or []), "--help"], prog_name="nps")


for command in (reconstruct, pose, pick, batch, render, view, inspect, convert, doctor):
    app.command()(command)
app.command("help")(show_help)
app.add_typer(train, name="train")
app.add_typer(data, name="data")
app.add_typer(evaluate, name="evaluate")
app.add_typer(weights, name="weights")


def main(argv: list[str] | None = None) -> None:
    """Run `nps`; raise SystemExit: 2 for a wrong command line, 1 for what a person can fix."""
    console.set_verbosity()
    keep_freed_memory()
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # no words about its folder for caches
    try:
        app(repeat_options(sys.argv[1:] if argv is None else argv), prog_name="nps")
    except NpsError as error:
        console.error(str(error), error.hint)
        sys.exit(error.exit_code)
    except OSError as error:
        console.forget_unwritten()
        where = f" ({error.filename})" if error.filename else ""
        console.error(f"{error.strerror or error}{where}.", "Check that place, or make room there.")
        sys.exit(EXIT_IMPOSSIBLE)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        hint = (
            "Close other programs, or ask for less: fewer photos, a smaller --resolution or --size."
        )
        console.error("There is not enough memory for this.", hint)
        sys.exit(EXIT_IMPOSSIBLE)


def repeat_options(arguments: list[str]) -> list[str]:
    """Repeat the options of one number per photo: `--fov 60 70` and `--fov 60,70` too.

    A further number that is also the name of a file is left to be a photo.
    """
    waiting, repeated = deque(arguments), list[str]()
    while waiting and waiting[0] != "--":
        option, equals, value = waiting.popleft().partition("=")
        if option not in ONE_PER_PHOTO:
            repeated.append(option + equals + value)
            continue
        if equals:
            waiting.appendleft(value)
        elif not waiting:
            repeated.append(option)
        values = [waiting.popleft()] if waiting else []
        while waiting and re.fullmatch(NUMBERS, waiting[0]) and not Path(waiting[0]).exists():
            values.append(waiting.popleft())
        for number in ",".join(values).split(",") if values else ():
            repeated += [option, number]
    return [*repeated, *waiting]
