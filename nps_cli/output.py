"""Write outputs whole or not at all, and never over others without --force."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models.atomic import atomic_write, temporary_beside
from nps_cli.errors import NpsError


def check_target(path: Path, *, force: bool) -> None:
    """Raise NpsError if a file or folder could not be written, before any work goes into it.

    What is neither file nor folder (/dev/null, a pipe) is always accepted. A folder that exists
    is accepted if it is empty, or with `force`.
    """
    folder = path.parent
    try:
        if _is_stream(path):
            return
        if not folder.is_dir():
            raise NpsError(f"There is no folder {folder}.", hint=f"Try: mkdir -p {folder}")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise NpsError(f"The folder {folder} may not be written to.", hint="Choose another.")
        occupied = path.is_file() or (path.is_dir() and any(path.iterdir()))
    except OSError as error:
        raise _unwritable(path, error) from error
    if occupied and not force:
        raise NpsError(f"{path} exists.", hint="Choose another name, or overwrite with --force.")


def check_outputs(*files: Path | None, folder: Path | None = None, force: bool) -> None:
    """Refuse outputs that could not be written, or that name one place twice, before any work."""
    wanted = [path for path in (*files, folder) if path is not None]
    places = [path.resolve() for path in wanted]
    for path in wanted:
        check_target(path, force=force)
        if path is not folder:
            _refuse_folder(path)
        if places.count(path.resolve()) > 1:
            raise NpsError(f"{path} is named for two outputs.", hint="Choose another name for one.")


@contextmanager
def whole_file(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary path in the same folder, with the same suffix; rename it at the end.

    If the block raises, nothing is left behind and an old file stays as it was. Raises NpsError
    for what `check_target` refuses, and for errors of the file system.
    """
    check_target(path, force=force)
    _refuse_folder(path)
    if _is_stream(path):  # never to be replaced by a file
        yield path
        return
    try:
        with atomic_write(path.resolve()) as temporary:  # through a symbolic link to its target
            yield temporary
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def whole_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary folder; at the end its files move to the folder `path`.

    With `force`, files of the same names are replaced and all others stay, in subfolders too.
    """
    check_target(path, force=force)
    if path.exists() and not path.is_dir():
        raise NpsError(f"{path} is not a folder.", hint="Choose another name.")
    target = path.resolve()
    temporary = temporary_beside(target)
    try:
        temporary.mkdir()
        yield temporary
        target.mkdir(exist_ok=True)
        for file in sorted(temporary.rglob("*")):
            moved = target / file.relative_to(temporary)
            if file.is_dir():
                moved.mkdir(exist_ok=True)
            else:
                file.replace(moved)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise NpsError(f"{path} is a folder.", hint="Give the name of a file, perhaps inside it.")


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _unwritable(path: Path, error: OSError) -> NpsError:
    return NpsError(
        f"{path} cannot be written ({error.strerror or error}).",
        hint="Choose another place, or make room there.",
    )
