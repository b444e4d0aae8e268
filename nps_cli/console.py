"""Write results to stdout and all else to stderr; rich only where a person is watching."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from nps_cli.errors import NpsError

UNPRINTABLE = "\N{REPLACEMENT CHARACTER}"
MAX_MESSAGE = 1500  # characters of an error
_quiet = _verbose = False


def set_verbosity(*, quiet: bool = False, verbose: bool = False) -> None:
    """Set how much the functions below write to stderr, for the rest of this run."""
    global _quiet, _verbose
    _quiet, _verbose = quiet, verbose and not quiet


@contextmanager
def silenced() -> Iterator[None]:
    """Write only errors within, as with --quiet."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


def print_result(text: str) -> None:
    """Write a result to stdout; characters that it cannot show are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print_bytes((text + "\n").encode(encoding, "backslashreplace"))


def print_bytes(content: bytes) -> None:
    """Write a result to stdout. Raises NpsError if it cannot be written."""
    if sys.stdout is None:
        raise NpsError("stdout is closed, and the result goes there.", hint="Name a file with -o.")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # a reader that has seen enough
        raise
    except OSError as error:
        forget_unwritten()
        raise NpsError(
            f"The result cannot be written to stdout ({error.strerror or error}).",
            hint="Make room, or write it elsewhere.",
        ) from error


def print_json(document: object) -> None:
    """Write a result to stdout as JSON; raise ValueError for NaN and infinity."""
    print_result(json.dumps(document, indent=2, allow_nan=False))


def forget_unwritten() -> None:
    """Send what stdout and stderr cannot write nowhere: Python would try it again at the end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def info(text: str) -> None:
    """Write a message to stderr, unless --quiet."""
    if not _quiet:
        _to_stderr(text)


def debug(text: str) -> None:
    """Write a message to stderr, only with --verbose."""
    if _verbose:
        _to_stderr(text)


def warning(text: str) -> None:
    """Write a warning to stderr, unless --quiet."""
    if not _quiet:
        _to_stderr(text, label="warning: ", style="bold yellow")


def error(message: str, hint: str) -> None:
    """Write an error, and what to try instead, to stderr; even with --quiet.

    A message that quotes a long piece of a file is cut.
    """
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}..."
    _to_stderr(message, label="error: ", style="bold red")
    _to_stderr(hint, label=" hint: ", style="dim")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a result to stdout as a table: boxed on a terminal, aligned columns in a pipe."""
    columns = [printable(column) for column in columns]
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    if sys.stdout is not None and sys.stdout.isatty():
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
        print_result(title)
    for row in [columns, *cells]:
        print_result(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


@contextmanager
def stages() -> Iterator[Callable[[str], None]]:
    """Show the current stage of a run: call the result with its name as each begins.

    A spinner on a terminal; with --verbose also one line per finished stage with its duration.
    """
    current, began = "", time.perf_counter()

    def enter(stage: str) -> None:
        nonlocal current, began
        if current:
            debug(f"{time.perf_counter() - began:7.2f} s  {current}")
        current, began = stage, time.perf_counter()
        show(stage)

    with _spinner() as show:
        yield enter
        enter("")


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar of `total` steps on a terminal: call the result after each."""
    if not _is_watched():
        yield lambda: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    # The time left is estimated from the last ten minutes: one thing may take half a minute.
    terminal = Console(stderr=True)
    with Progress(console=terminal, transient=True, speed_estimate_period=600) as bar:
        task = bar.add_task(escape(label), total=total)
        yield lambda: bar.advance(task)


@contextmanager
def _spinner() -> Iterator[Callable[[str], None]]:
    if not _is_watched():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status("") as status:
        yield lambda text: status.update(Text(text))


def either(*choices: str) -> str:
    """Join choices for a sentence: "a, b or c"."""
    return " or ".join(filter(None, [", ".join(choices[:-1]), choices[-1]]))


def both(*things: str) -> str:
    """Join things for a sentence: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(things[:-1]), things[-1]]))


def count_of(count: int, noun: str) -> str:
    """Return a count with its noun: "no photos", "1 photo", "2 photos"."""
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Replace control characters, ends of lines too, and what cannot be encoded by U+FFFD."""
    return "".join(
        character if character.isprintable() or character == "\t" else UNPRINTABLE
        for character in text
    )


def _is_watched() -> bool:
    return not _quiet and sys.stderr.isatty()


def _to_stderr(text: str, label: str = "", style: str = "") -> None:
    if label and sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        line = Text.assemble((label, style), printable(text))
        Console(stderr=True).print(line, soft_wrap=True)
        return
    try:
        print(label + printable(text), file=sys.stderr, flush=True)
    except OSError:  # closed, or a full disk: nobody is there to be told
        forget_unwritten()
