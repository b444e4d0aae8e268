"""Read scene files: find out by content which format one has, and open it."""

import gzip
import io
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from nps_cli.errors import NpsError
from nps_cli.formats import kinds

if TYPE_CHECKING:
    from models.geometry.gaussians import Gaussians
    from nps_cli.formats.scene_file import SceneFile, Source

STREAM = "-"
GIVE_SCENE = "Give a scene of Gaussians: .ply, .spz, .splat, .glb, .sog or .ksplat."
MAX_STREAM_BYTES = 1 << 31  # of archives from stdin, which are read whole


def is_scene(path: Path) -> bool:
    """Return True if a file is a scene by its content, or by its name where it cannot be read."""
    from nps_cli.formats import is_readable

    if str(path) == STREAM or is_readable(path):
        return True
    try:
        with _open_file(path) as file:
            head = file.read(kinds.HEAD_BYTES)
    except NpsError:
        return False
    return kinds.scene_kind(head, path.suffix) is not None


def load_scene(path: str | Path, *, guesses: bool = True) -> "tuple[Gaussians, list[str]]":
    """Return a scene and its comments, for `read_cameras`; a .ply and a .glb may have some.

    Without `guesses`, only what photos show. Raises NpsError if the file cannot be read, or does
    not say what is a guess.
    """
    from nps_cli.formats.scene_file import collect

    with open_scene(Path(path)) as (scene, name):
        gaussians = collect(scene, name)
    if not guesses and gaussians.guessed is None:
        raise NpsError(
            f"{name} does not say which of its Gaussians are guesses.",
            hint="Scenes of nps reconstruct do, as .ply or .glb; leave out --no-guesses.",
        )
    return gaussians if guesses else gaussians.without_guesses(), scene.comments


@contextmanager
def open_scene(path: Path) -> "Iterator[tuple[SceneFile, str]]":
    """Yield a scene whose Gaussians are read as they are needed, and its name for messages.

    Raises NpsError if the file cannot be read, or is no scene.
    """
    from nps_cli.formats.scene_file import Source

    if str(path) == STREAM:
        name = "the scene on stdin"
        stream = io.BufferedReader(cast(io.RawIOBase, sys.stdin.buffer))
        yield _open_source(Source(cast(BinaryIO, stream), name, None), ""), name
        stream.detach()
        return
    with _open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        yield _open_source(Source(file, str(path), size), path.suffix), str(path)


def _open_file(path: Path) -> BinaryIO:
    """Open a regular file; raise NpsError for all else, without waiting for a pipe."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise NpsError(
                f"{path} is no regular file.", hint="Give a file, or - to read a scene from stdin."
            )
        return path.open("rb")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise NpsError(f"{path} cannot be read ({reason}).", hint="Check the path.") from error


def _open_source(source: "Source", suffix: str) -> "SceneFile":
    from nps_cli.formats.glb_reader import open_glb
    from nps_cli.formats.ksplat import open_ksplat
    from nps_cli.formats.ply import open_ply
    from nps_cli.formats.scene_file import Source, expansion_limit
    from nps_cli.formats.sog import open_sog
    from nps_cli.formats.splat import open_splat
    from nps_cli.formats.spz import open_spz

    head = _peek(source)
    kind = kinds.scene_kind(head, suffix)
    if kind is not None and kind != kinds.PLY and source.limit is None:
        source = _hold(source)
    match kind:
        case kinds.PLY:
            return open_ply(source)
        case kinds.SPZ:
            return open_spz(source)
        case kinds.GLB:
            return open_glb(source)
        case kinds.ZIP:
            return open_sog(source)
        case kinds.KSPLAT:
            return open_ksplat(source)
        case kinds.GZIP:
            unpacked = gzip.GzipFile(fileobj=source.file)
            inner = io.BufferedReader(cast(io.RawIOBase, unpacked))
            limit = expansion_limit(source.limit or 0)
            return _open_unpacked(Source(cast(BinaryIO, inner), source.name, limit))
    if suffix.lower() == kinds.SPLAT_SUFFIX:
        return open_splat(source)
    raise NpsError(
        f"{source.name} is {kinds.name_kind(head)}, not a scene that nps reads.", hint=GIVE_SCENE
    )


def _open_unpacked(source: "Source") -> "SceneFile":
    """Open what gzip holds: an .spz, or a .ply.gz."""
    from nps_cli.formats.ply import open_ply
    from nps_cli.formats.spz import open_spz

    head = _peek(source)
    match kinds.scene_kind(head, ""):
        case kinds.PLY:
            return open_ply(source)
        case kinds.SPZ:
            return open_spz(source)
    raise NpsError(
        f"{source.name} is compressed by gzip, and no scene is in it: what is in it is "
        f"{kinds.name_kind(head)}.",
        hint=GIVE_SCENE,
    )


def _peek(source: "Source") -> bytes:
    """Return the first bytes, which stay in the file."""
    with source.damage_named():
        return cast(io.BufferedReader, source.file).peek(kinds.HEAD_BYTES)[: kinds.HEAD_BYTES]


def _hold(source: "Source") -> "Source":
    """Read a stream whole, so that one can go back in it."""
    from nps_cli.formats.scene_file import Source

    content = source.file.read(MAX_STREAM_BYTES + 1)
    if len(content) > MAX_STREAM_BYTES:
        raise NpsError(f"{source.name} is too large to be read whole.", hint="Give a file.")
    held = io.BufferedReader(cast(io.RawIOBase, io.BytesIO(content)))
    return Source(cast(BinaryIO, held), source.name, len(content))
