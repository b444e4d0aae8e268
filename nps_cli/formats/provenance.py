"""Where a scene comes from, as comment lines of a file: generator, weights, photos and cameras.

Each line is a keyword and JSON in plain ASCII, whatever the photos are called.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nps_cli import __version__
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from torch import Tensor

    from models.geometry.camera import Camera
    from models.weights import WeightsInfo


@dataclass(frozen=True)
class SceneCamera:
    """The name of one of a scene's photos, and the camera of the full upright photo."""

    name: str
    camera: "Camera"


def write_comments(
    cameras: Iterable[SceneCamera] = (), weights: "WeightsInfo | None" = None
) -> list[str]:
    """Return the comment lines of a scene, one per fact."""
    lines = [f"nps {__version__}"]
    if weights:
        lines.append("weights " + json.dumps({"name": weights.name, "sha256": weights.sha256}))
    for each in cameras:
        facts = {"photo": each.name, **camera_facts(each.camera)}
        lines.append("view " + json.dumps(facts, allow_nan=False))
    return lines


def other_comments(comments: Iterable[str]) -> list[str]:
    """Return a scene's comments but for cameras and generator, if they fit into any header."""
    ours = ("view {", "nps ")
    return [line for line in comments if line.isascii() and not line.startswith(ours)]


def camera_facts(camera: "Camera") -> dict[str, Any]:
    """Return a camera, its intrinsics normalized, ready for JSON."""
    height, width = camera.size
    return {
        "width": width,
        "height": height,
        "intrinsics": _float32_rows(camera.intrinsics),
        "world2cam": _float32_rows(camera.world2cam),
    }


def read_cameras(comments: Iterable[str]) -> list[SceneCamera]:
    """Return the cameras among a scene's comments; none if another program wrote it."""
    return [_parse(line) for line in comments if line.startswith('view {"')]


def _parse(line: str) -> SceneCamera:
    from models.files.json_reader import parse_json
    from models.geometry.camera import Camera
    from models.geometry.checks import check_camera, parse_matrix, parse_size

    try:
        facts = parse_json(line.removeprefix("view "))
        size = parse_size(facts["width"], facts["height"])
        matrices = parse_matrix(facts["intrinsics"], 3, 3), parse_matrix(facts["world2cam"], 4, 4)
        camera = Camera(*matrices, size)
        check_camera(camera)
        return SceneCamera(str(facts["photo"]), camera.float())
    except (KeyError, TypeError, ValueError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise NpsError(
            f"The scene's record of its photos is damaged ({reason:.200}).",
            hint="Reconstruct the scene again, or delete its `comment view` lines.",
        ) from error


def _float32_rows(matrix: "Tensor") -> list[list[float]]:
    """Return the rows with the nine digits that tell every float32 from its neighbors."""
    return [[float(f"{value:.9g}") for value in row] for row in matrix.tolist()]
