"""Atomic writes: a file appears whole or not at all."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_unfinished: set[tuple[int, Path]] = set()  # process, and temporary file or folder


@contextmanager
def atomic_write(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the same folder, with the same suffix; rename it at the end.

    If the block raises, nothing is left behind and an old file stays as it was. Raises
    FileExistsError if there is a file at the end that may not be replaced.
    """
    with temporary_beside(path) as temporary:
        yield temporary
        if replace:
            temporary.replace(path)
        else:
            _rename_to_new(temporary, path)


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield an unused hidden path in a folder, with the same suffix; remove it at the end."""
    temporary = path.with_name(f".nps-{secrets.token_hex(6)}{path.suffix}")
    entry = os.getpid(), temporary
    _unfinished.add(entry)
    try:
        yield temporary
    finally:
        _remove(temporary)
        _unfinished.discard(entry)


def remove_unfinished() -> None:
    """Remove every temporary file and folder of this process: it is about to end at once."""
    for process, temporary in list(_unfinished):
        if process == os.getpid():
            _remove(temporary)


def _rename_to_new(temporary: Path, path: Path) -> None:
    """Rename a file; raise FileExistsError if the name is taken, also by a moment."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        path.touch(exist_ok=False)  # takes the name
        temporary.replace(path)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)
