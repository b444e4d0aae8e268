"""Scene files, by suffix; `-` stands for stdin and stdout, and a .ply."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli.console import either
from nps_cli.errors import NpsError
from nps_cli.formats.provenance import SceneCamera, read_cameras, write_comments
from nps_cli.output import whole_file

if TYPE_CHECKING:
    from models.geometry.gaussians import Gaussians
    from models.weights import WeightsInfo

__all__ = ["SceneCamera", "check_format", "is_scene", "load_scene", "read_cameras", "save_scene"]
STREAM = "-"
READABLE = (".ply", ".spz", ".splat")
WRITABLE = (*READABLE, ".glb", ".html")


def is_scene(path: Path) -> bool:
    """Return True if a path names a scene that can be read."""
    return str(path) == STREAM or path.suffix.lower() in READABLE


def check_format(path: Path) -> None:
    """Raise NpsError if no scene can be written under this name."""
    if str(path) != STREAM and path.suffix.lower() not in WRITABLE:
        raise NpsError(
            f"{path}: scenes of this kind are not known.",
            hint=f"Use a name that ends in {either(*WRITABLE)}.",
        )


def save_scene(
    gaussians: "Gaussians",
    path: str | Path,
    cameras: Sequence[SceneCamera] = (),
    weights: "WeightsInfo | None" = None,
    *,
    sh_degree: int | None = None,
    force: bool = False,
) -> None:
    """Write a scene whole or not at all.

    A .ply and a .glb take the cameras of its photos and its weights along, a page the cameras;
    the others have no place for them.
    """
    from nps_cli.formats.glb import encode_glb
    from nps_cli.formats.page import encode_page
    from nps_cli.formats.ply import encode_ply
    from nps_cli.formats.splat import encode_splat
    from nps_cli.formats.spz import encode_spz

    path = Path(path)
    check_format(path)
    comments = write_comments(cameras, weights)
    match path.suffix.lower():
        case ".spz":
            content = encode_spz(gaussians)
        case ".splat":
            content = encode_splat(gaussians)
        case ".glb":
            content = encode_glb(gaussians, comments)
        case ".html":
            content = encode_page(gaussians, cameras)
        case _:
            content = encode_ply(gaussians, comments, sh_degree)
    if str(path) == STREAM:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        with whole_file(path, force=force) as file:
            file.write_bytes(content)


def load_scene(path: Path) -> "tuple[Gaussians, list[str]]":
    """Return a scene and its comments, for `read_cameras`; only a .ply has any.

    Raises NpsError if the file cannot be read.
    """
    from nps_cli.formats.ply import decode_ply
    from nps_cli.formats.splat import decode_splat
    from nps_cli.formats.spz import decode_spz

    if not is_scene(path):
        raise NpsError(
            f"{path}: scenes of this kind cannot be read.",
            hint=f"Give a file that ends in {either(*READABLE)}.",
        )
    if str(path) == STREAM:
        return decode_ply(sys.stdin.buffer.read(), "the scene on stdin")
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = f"{path} cannot be read ({error.strerror})."
        raise NpsError(reason, hint="Check the path.") from error
    match path.suffix.lower():
        case ".spz":
            return decode_spz(content, str(path)), []
        case ".splat":
            return decode_splat(content, str(path)), []
        case _:
            return decode_ply(content, str(path))
