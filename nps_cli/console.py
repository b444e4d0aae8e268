"""Results go to stdout, all else to stderr; rich only where a person is watching."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum


class Verbosity(IntEnum):
    """How much goes to stderr. Errors always do."""

    quiet = 0
    normal = 1
    verbose = 2


_verbosity = Verbosity.normal


def set_verbosity(*, quiet: bool = False, verbose: bool = False) -> None:
    """Set how much the functions below say, for the rest of this run."""
    global _verbosity
    _verbosity = Verbosity.quiet if quiet else Verbosity.verbose if verbose else Verbosity.normal


def emit(text: str) -> None:
    """Write a result to stdout."""
    print(text, flush=True)


def emit_json(document: object) -> None:
    """Write a result to stdout as JSON; NaN and infinity are errors, not output."""
    emit(json.dumps(document, indent=2, allow_nan=False))


def say(text: str) -> None:
    """Tell a person something on stderr."""
    if _verbosity >= Verbosity.normal:
        _to_stderr(text)


def detail(text: str) -> None:
    """Tell a person who asked for more (--verbose) something on stderr."""
    if _verbosity >= Verbosity.verbose:
        _to_stderr(text)


def warn(text: str) -> None:
    """Tell a person what may be wrong with the result."""
    if _verbosity >= Verbosity.normal:
        _to_stderr(text, label="warning: ", style="bold yellow")


def fail(message: str, hint: str) -> None:
    """Tell a person why nothing was done, and what to try; even with --quiet."""
    _to_stderr(message, label="error: ", style="bold red")
    _to_stderr(hint, label=" hint: ", style="dim")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a result to stdout as a table: boxed for a person, aligned columns for a pipe."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, title=title or None, title_justify="left")
        for row in cells:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    if title:
        emit(title)
    for row in [list(columns), *cells]:
        emit("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Show which stage of a run is under way: call the result with a few words as each begins.

    A spinner on a terminal; with --verbose also one line per finished stage with its duration.
    """
    current, began = "", time.perf_counter()

    def enter(stage: str) -> None:
        nonlocal current, began
        if current:
            detail(f"{time.perf_counter() - began:7.2f} s  {current}")
        current, began = stage, time.perf_counter()
        show(stage)

    with _spinner() as show:
        yield enter
        enter("")


@contextmanager
def counted(label: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar while `total` things are done: call the result after each."""
    if not _is_watched():
        yield lambda: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    # The time left is estimated from the last ten minutes: one thing may take half a minute.
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, speed_estimate_period=600) as progress:
        task = progress.add_task(escape(label), total=total)
        yield lambda: progress.advance(task)


@contextmanager
def _spinner() -> Iterator[Callable[[str], None]]:
    if not _is_watched():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(text))


def printable(text: str) -> str:
    """The text with what could steer a terminal, or cannot be encoded, made visible instead."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for character in text
    )


def _is_watched() -> bool:
    return _verbosity >= Verbosity.normal and sys.stderr.isatty()


def _to_stderr(text: str, label: str = "", style: str = "") -> None:
    if label and sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        line = Text.assemble((label, style), printable(text))
        Console(stderr=True).print(line, soft_wrap=True)
    else:
        print(label + printable(text), file=sys.stderr, flush=True)
