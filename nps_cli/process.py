"""The process of `nps`: how it ends on a signal, and standard streams that are closed."""

import os
import signal
import sys
from types import FrameType

TYPE_CHECKING = False  # typing's takes longer to import than a hurried person takes for Ctrl-C
if TYPE_CHECKING:
    from typing import Any, NoReturn

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # of those that the system has
SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"  # a spinner hides it

_process = os.getpid()
_received: int | None = None  # the signal that ends this run


def handle_signals() -> None:
    """End on a signal with 128 + its number, without a traceback, and leave nothing unfinished.

    The run is unwound by KeyboardInterrupt or SystemExit; call `end_if_stopped` after it. Where
    that could abort the process or print a traceback (during an import, in a destructor), or if a
    second signal comes, it ends at once.
    """
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    sys.unraisablehook = _report_unraisable


def end_if_stopped() -> None:
    """End the process at once if a signal was received: threads may still be at work."""
    if _received is not None:
        _end(_received)


def open_closed_streams() -> None:
    """Open /dev/null in place of standard streams that are closed.

    Otherwise the next file to be opened would take such a stream's number, and all that a library
    prints would land in it. `sys.stdout` stays None: `console` refuses to lose a result.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if number == 0 else os.O_WRONLY)  # the least free one
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")


def _stop(number: int, frame: FrameType | None) -> None:
    global _received
    if os.getpid() != _process:  # a worker, forked
        os._exit(128 + number)
    if _received is not None or _is_importing(frame):
        _end(number)
    _received = number
    if hasattr(signal, "alarm"):
        signal.alarm(0)  # Ray's own handler, called before, aborts after three seconds
    _end_workers()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def _report_unraisable(problem: "Any") -> None:
    """End the process if a signal's exception got lost; print any other as usual."""
    end_if_stopped()
    sys.__unraisablehook__(problem)


def _end_workers() -> None:
    if "multiprocessing" in sys.modules:
        from multiprocessing import active_children

        for worker in active_children():
            worker.terminate()


def _end(number: int) -> "NoReturn":
    for name in SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    remove_unfinished = getattr(sys.modules.get("models.files.atomic"), "remove_unfinished", None)
    if remove_unfinished is not None:  # that module has been imported, and not only begun
        remove_unfinished()
    _end_workers()
    if sys.stderr.isatty():
        os.write(2, SHOW_CURSOR.encode())
    os._exit(128 + number)
