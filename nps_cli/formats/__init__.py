"""Scene files, by suffix; `-` stands for stdin and stdout."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli.errors import NpsError
from nps_cli.formats.provenance import SceneCamera, read_cameras, write_comments
from nps_cli.output import whole_file

if TYPE_CHECKING:
    from models.gaussians import Gaussians
    from models.weights import WeightsInfo

__all__ = ["SceneCamera", "check_format", "load_scene", "read_cameras", "save_scene"]
STREAM = "-"


def check_format(path: Path) -> None:
    """Refuse a scene's name whose suffix is none we know."""
    if str(path) != STREAM and path.suffix.lower() != ".ply":
        raise NpsError(
            f"{path}: scenes of this kind are not known.", hint="Use a name that ends in .ply."
        )


def save_scene(
    gaussians: "Gaussians",
    path: Path,
    cameras: Sequence[SceneCamera] = (),
    weights: "WeightsInfo | None" = None,
    *,
    sh_degree: int | None = None,
    force: bool = False,
) -> None:
    """Write a scene whole or not at all, with the cameras of its photos, and its weights."""
    from nps_cli.formats.ply import save_ply

    check_format(path)
    comments = write_comments(cameras, weights)
    if str(path) == STREAM:
        save_ply(gaussians, sys.stdout.buffer, comments, sh_degree)
        sys.stdout.buffer.flush()
        return
    with whole_file(path, force=force) as file:
        save_ply(gaussians, file, comments, sh_degree)


def load_scene(path: Path) -> "tuple[Gaussians, list[str]]":
    """Read a scene and its comments, for `read_cameras`."""
    from nps_cli.formats.ply import load_ply

    check_format(path)
    return load_ply(sys.stdin.buffer if str(path) == STREAM else path)
