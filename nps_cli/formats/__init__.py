"""Scene files: written by suffix, read by content; `-` stands for stdout, as a .ply, and stdin."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli.console import either, print_bytes
from nps_cli.errors import UsageError
from nps_cli.formats.provenance import SceneCamera, read_cameras, write_comments
from nps_cli.formats.read import is_scene, load_scene, open_scene
from nps_cli.output import whole_file

if TYPE_CHECKING:
    from models.geometry.gaussians import Gaussians
    from models.weights import WeightsInfo

__all__ = [
    "SceneCamera",
    "check_format",
    "is_scene",
    "load_scene",
    "open_scene",
    "read_cameras",
    "save_scene",
]
STREAM = "-"
READABLE = (".ply", ".spz", ".splat", ".glb", ".sog", ".ksplat")
WRITABLE = (".ply", ".spz", ".splat", ".glb", ".sog", ".html")


def is_readable(path: Path) -> bool:
    """Return True if `load_scene` reads what `save_scene` writes under this name."""
    return path.suffix.lower() in READABLE


def check_format(path: Path) -> None:
    """Raise UsageError if no scene can be written under this name."""
    if str(path) != STREAM and path.suffix.lower() not in WRITABLE:
        raise UsageError(
            f"{path}: scenes of this kind are not known.",
            hint=f"Use a name that ends in {either(*WRITABLE)}.",
        )


def save_scene(
    gaussians: "Gaussians",
    path: str | Path,
    cameras: Sequence[SceneCamera] = (),
    weights: "WeightsInfo | None" = None,
    *,
    comments: Sequence[str] = (),
    sh_degree: int | None = None,
    force: bool = False,
) -> None:
    """Write a scene whole or not at all.

    A .ply and a .glb take the cameras of its photos and its weights along, a page the cameras;
    the others have no place for them, nor for further `comments`.
    """
    path = Path(path)
    check_format(path)
    lines = [*write_comments(cameras, weights), *comments]
    pieces = _encode(gaussians, path.suffix.lower(), cameras, lines, sh_degree)
    if str(path) == STREAM:
        for piece in pieces:
            print_bytes(piece)
        return
    with whole_file(path, force=force) as file, file.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)


def _encode(
    gaussians: "Gaussians",
    suffix: str,
    cameras: Sequence[SceneCamera],
    comments: list[str],
    sh_degree: int | None,
) -> Iterator[bytes]:
    from nps_cli.formats.glb import encode_glb
    from nps_cli.formats.page import encode_page
    from nps_cli.formats.ply import encode_ply
    from nps_cli.formats.sog import encode_sog
    from nps_cli.formats.splat import encode_splat
    from nps_cli.formats.spz import encode_spz

    match suffix:
        case ".spz":
            return encode_spz(gaussians)
        case ".splat":
            return encode_splat(gaussians)
        case ".glb":
            return encode_glb(gaussians, comments)
        case ".sog":
            return encode_sog(gaussians)
        case ".html":
            return encode_page(gaussians, cameras)
        case _:
            return encode_ply(gaussians, comments, sh_degree)
