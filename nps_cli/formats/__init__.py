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

__all__ = [
    "SceneCamera",
    "check_format",
    "is_scene",
    "load_scene",
    "read_cameras",
    "save_scene",
]
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
    from nps_cli.formats.glb import save_glb
    from nps_cli.formats.page import save_page
    from nps_cli.formats.ply import save_ply
    from nps_cli.formats.splat import save_splat
    from nps_cli.formats.spz import save_spz

    path = Path(path)
    check_format(path)
    comments = write_comments(cameras, weights)
    if str(path) == STREAM:
        save_ply(gaussians, sys.stdout.buffer, comments, sh_degree)
        sys.stdout.buffer.flush()
        return
    with whole_file(path, force=force) as file:
        match path.suffix.lower():
            case ".ply":
                save_ply(gaussians, file, comments, sh_degree)
            case ".spz":
                save_spz(gaussians, file)
            case ".splat":
                save_splat(gaussians, file)
            case ".glb":
                save_glb(gaussians, file, comments)
            case ".html":
                save_page(gaussians, file, cameras)


def load_scene(path: Path) -> "tuple[Gaussians, list[str]]":
    """Return a scene and its comments, for `read_cameras`; only a .ply has any.

    Raises NpsError if the file cannot be read.
    """
    from nps_cli.formats.ply import load_ply
    from nps_cli.formats.splat import load_splat
    from nps_cli.formats.spz import load_spz

    if not is_scene(path):
        raise NpsError(
            f"{path}: scenes of this kind cannot be read.",
            hint=f"Give a file that ends in {either(*READABLE)}.",
        )
    if str(path) == STREAM:
        return load_ply(sys.stdin.buffer)
    try:
        match path.suffix.lower():
            case ".spz":
                return load_spz(path), []
            case ".splat":
                return load_splat(path), []
            case _:
                return load_ply(path)
    except OSError as error:
        raise NpsError(
            f"{path} cannot be read ({error.strerror}).", hint="Check the path."
        ) from error
