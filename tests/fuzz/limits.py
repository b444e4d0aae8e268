"""Runs of the command line in this process, with limits on time and memory, and what must hold."""

import faulthandler
import functools
import gc
import io
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import NamedTuple, NoReturn

STALLED_SECONDS = 100  # without using the CPU that much: the process ends
MAX_MESSAGE = 4000  # characters on stderr


class Limits(NamedTuple):
    """What a command may use: CPU time, and memory beyond what is there before."""

    cpu_seconds: int
    memory_bytes: int


SMALL_FILE, PICTURES = Limits(5, 300 << 20), Limits(30, 1 << 30)


class TooSlow(BaseException):
    """Nobody who catches exceptions catches it."""


def check_run(argv: list[str], limits: Limits | None = SMALL_FILE) -> None:
    """Run a command, and assert that it succeeds, or fails as `nps` promises to."""
    try:
        with _limited(limits) if limits else nullcontext():
            code, out, err = _run(argv)
    except TooSlow as error:
        raise AssertionError(f"too slow: nps {' '.join(argv)}") from error
    shown = f"nps {' '.join(argv)}\nexit code {code}\n{err[:MAX_MESSAGE]}"
    assert code in (0, 1, 3), shown
    assert "Traceback" not in err and len(err) <= MAX_MESSAGE, shown
    if code == 1 and "report" not in out:
        assert "error" in out + err and "hint" in out + err, shown
    if code == 0 and "--json" in argv:
        json.loads(out, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} in JSON")


def _run(argv: list[str]) -> tuple[int, str, str]:
    from nps_cli.app import main

    streams = sys.stdin, sys.stdout, sys.stderr
    sys.stdin, sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(3))
    code = 0
    try:
        main(argv)
    except SystemExit as exit:
        code = int(exit.code or 0)
    finally:
        (_, out, err), (sys.stdin, sys.stdout, sys.stderr) = (
            (sys.stdin, sys.stdout, sys.stderr),
            streams,
        )
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode(errors="replace"))
    return code, texts[0], texts[1]


@contextmanager
def _limited(limits: Limits) -> Iterator[None]:
    """Raise TooSlow, MemoryError or AssertionError where the code inside takes too much."""

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        raise TooSlow

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = _status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    resource.setrlimit(
        resource.RLIMIT_AS, (_status_bytes("VmSize") + 4 * limits.memory_bytes, hard)
    )
    former = signal.signal(signal.SIGPROF, stop)
    faulthandler.dump_traceback_later(STALLED_SECONDS, exit=True, file=sys.__stderr__)
    signal.setitimer(signal.ITIMER_PROF, limits.cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGPROF, former)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    taken = _status_bytes("VmHWM") - before
    if taken > limits.memory_bytes:
        gc.collect()
        raise AssertionError(f"{taken >> 20} MB of memory")


def _status_bytes(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").open() if line.startswith(f"{name}:"))
    return int(line.split()[1]) << 10


def parse_once() -> None:
    """Keep typer's commands: to build them takes longer than a case."""
    import typer.main

    if not hasattr(typer.main.get_command, "cache_info"):
        typer.main.get_command = functools.cache(typer.main.get_command)


def empty(folder: Path) -> None:
    """Delete what a case left in a folder, if it is a folder that cases are in."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            os.rmdir(path)
        else:
            path.unlink()
