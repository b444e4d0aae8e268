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
    import torch

    from models.geometry.camera import Camera

    try:
        facts = json.loads(line.removeprefix("view "))
        name, size = str(facts["photo"]), (int(facts["height"]), int(facts["width"]))
        intrinsics = torch.tensor(facts["intrinsics"], dtype=torch.float32)
        world2cam = torch.tensor(facts["world2cam"], dtype=torch.float32)
        if (tuple(intrinsics.shape), tuple(world2cam.shape)) != ((3, 3), (4, 4)):
            raise ValueError("matrices of the wrong size")
        if not (intrinsics.isfinite().all() and world2cam.isfinite().all()):
            raise ValueError("matrices that are not finite")
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NpsError(
            "The scene's record of its photos is damaged.",
            hint="Reconstruct the scene again, or delete its `comment view` lines.",
        ) from error
    return SceneCamera(name, Camera(intrinsics, world2cam, size))


def _float32_rows(matrix: "Tensor") -> list[list[float]]:
    """Return the rows with the nine digits that tell every float32 from its neighbors."""
    return [[float(f"{value:.9g}") for value in row] for row in matrix.tolist()]
