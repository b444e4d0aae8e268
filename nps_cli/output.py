"""Write outputs whole or not at all, never over inputs, nor over others without --force."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from models.files.atomic import atomic_write, temporary_beside
from nps_cli import console
from nps_cli.errors import NpsError, UsageError


def check_suffix(path: Path, suffixes: Sequence[str]) -> None:
    """Raise UsageError unless a name ends in one of the suffixes, of which one may be empty."""
    if path.suffix.lower() not in suffixes:
        kinds = console.either(*filter(None, suffixes))
        raise UsageError(f"{path} does not end in {kinds}.", hint="Give a name that does.")


def check_target(path: Path, *, force: bool) -> None:
    """Raise NpsError if a file or folder could not be written, before any work goes into it.

    A device or pipe (/dev/null) is always accepted. A folder that exists is accepted if it is
    empty, or with `force`.
    """
    try:
        if _is_stream(path):
            return
        _refuse_loop(path)
        target = Path(os.path.realpath(path)) if path.is_symlink() else path
        folder = target.parent
        if not folder.is_dir():
            raise NpsError(
                f"There is no folder {folder}.", hint=f"Try: mkdir -p {quote(str(folder))}"
            )
        if not os.access(folder, os.W_OK | os.X_OK):
            raise NpsError(f"The folder {folder} may not be written to.", hint="Choose another.")
        occupied = path.is_file() or (path.is_dir() and any(path.iterdir()))
    except OSError as error:
        raise _unwritable(path, error) from error
    if occupied and not force:
        raise NpsError(f"{path} exists.", hint="Choose another name, or overwrite with --force.")


def check_outputs(
    *files: Path | None,
    folder: Path | None = None,
    inputs: Sequence[str | Path | None] = (),
    force: bool,
) -> None:
    """Refuse outputs that could not be written, or would destroy something, before any work.

    Args:
        files: Outputs; None where none is wanted.
        folder: One more, a folder.
        inputs: Files and folders that are read; None, and names that are no files, are ignored. An
            output that is one of them, also by a link, is refused even with `force`, and so is a
            folder that holds one.
        force: Accept files and folders that exist.

    Raises:
        NpsError: For the first output that is refused, or that is named for two.
    """
    wanted = [path for path in (*files, folder) if path is not None]
    places = [os.path.realpath(path) for path in wanted]
    for path, place in zip(wanted, places, strict=True):
        for read in inputs:
            if read is not None:
                _refuse_input(path, Path(read))
        check_target(path, force=force)
        (_refuse_file if path is folder else _refuse_folder)(path)
        if places.count(place) > 1:
            raise NpsError(f"{path} is named for two outputs.", hint="Choose another name for one.")


@contextmanager
def naming_finished(finished: Sequence[object]) -> Iterator[None]:
    """Name what was written already where an output could not be, in its NpsError or beside."""
    try:
        yield
    except BaseException as error:
        if not finished:
            raise
        there = f"Written before, and whole: {', '.join(map(str, finished))}."
        if isinstance(error, NpsError):
            raise NpsError(f"{error} {there}", hint=error.hint) from error
        console.warning(there)  # of a signal, of too little memory
        raise


@contextmanager
def whole_file(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary path in the same folder, with the same suffix; rename it at the end.

    If the block raises, nothing is left behind and an old file stays as it was. Raises NpsError
    for what `check_target` refuses, also if it only appears before the end, and for errors of the
    file system.
    """
    check_target(path, force=force)
    _refuse_folder(path)
    try:
        if _is_stream(path):  # never to be replaced by a file
            yield path
            return
        target = Path(os.path.realpath(path))  # through a symbolic link to its target
        with atomic_write(target, replace=force) as temporary:
            yield temporary
    except FileExistsError as error:
        raise _appeared(path) from error
    except OSError as error:
        raise _unwritable(path, error) from error


@contextmanager
def whole_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary folder; at the end its files move to the folder `path`.

    With `force`, files of the same names are replaced and all others stay, in subfolders too.
    Without, a folder that is not empty at the end is an NpsError.
    """
    check_target(path, force=force)
    _refuse_file(path)
    target = Path(os.path.realpath(path))
    try:
        with temporary_beside(target) as temporary:
            temporary.mkdir()
            yield temporary
            target.mkdir(exist_ok=True)
            if not force and any(target.iterdir()):
                raise _appeared(path)
            for file in sorted(temporary.rglob("*")):
                moved = target / file.relative_to(temporary)
                if file.is_dir():
                    moved.mkdir(exist_ok=True)
                else:
                    file.replace(moved)
    except OSError as error:
        raise _unwritable(path, error) from error


def _refuse_input(path: Path, read: Path) -> None:
    """Raise NpsError if an output is an input, by any of its names, or a folder that holds it."""
    try:
        if not path.exists() or _is_stream(path) or not read.exists():
            return
        is_same = path.samefile(read)
        holds = (
            path.is_dir() and Path(os.path.realpath(path)) in Path(os.path.realpath(read)).parents
        )
    except OSError:  # a name too long: no file
        return
    if is_same:
        raise NpsError(
            f"{path} would be overwritten, but is read{'' if path == read else f' as {read}'}.",
            hint="Choose another name for the output.",
        )
    if holds:
        raise NpsError(
            f"The folder {path} holds {read}, which is read.",
            hint="Choose a folder of its own for the output.",
        )


def _refuse_folder(path: Path) -> None:
    if path.is_dir():
        raise NpsError(f"{path} is a folder.", hint="Give the name of a file, perhaps inside it.")


def _refuse_file(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise NpsError(f"{path} is not a folder.", hint="Choose another name.")


def _refuse_loop(path: Path) -> None:
    """Raise OSError for a name too long, and for symbolic links that lead in a circle."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass


def _is_stream(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()


def _appeared(path: Path) -> NpsError:
    return NpsError(
        f"{path} appeared while nps was running, and was not touched.",
        hint="Choose another name, or overwrite with --force.",
    )


def _unwritable(path: Path, error: OSError) -> NpsError:
    return NpsError(
        f"{path} cannot be written ({error.strerror or error}).",
        hint="Choose another place, or make room there.",
    )
