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

    from models.geometry.gaussians import Gaussians
    from models.weights import WeightsInfo


@dataclass(frozen=True)
class SceneCamera:
    """Where one of the scene's photos was taken, and with what camera.

    `width` and `height` are those of the full upright photo; `intrinsics` [3 3] are normalized,
    `world2cam` is [4 4]; both float32.
    """

    photo: str
    width: int
    height: int
    intrinsics: "Tensor"
    world2cam: "Tensor"


def write_comments(
    cameras: Iterable[SceneCamera] = (), weights: "WeightsInfo | None" = None
) -> list[str]:
    """Comment lines for a scene, one per fact."""
    lines = [f"nps {__version__}"]
    if weights:
        lines.append("weights " + json.dumps({"name": weights.name, "sha256": weights.sha256}))
    for camera in cameras:
        facts = {
            "photo": camera.photo,
            "width": camera.width,
            "height": camera.height,
            "intrinsics": _exact(camera.intrinsics),
            "world2cam": _exact(camera.world2cam),
        }
        lines.append("view " + json.dumps(facts, allow_nan=False))
    return lines


def read_cameras(comments: Iterable[str]) -> list[SceneCamera]:
    """The cameras among a scene's comments; none if another program wrote it."""
    return [_parse(line) for line in comments if line.startswith('view {"')]


def guessed_camera(gaussians: "Gaussians") -> SceneCamera:
    """A camera that sees a scene which names no photos."""
    from models.geometry.trajectory import guess_camera

    camera = guess_camera(gaussians)
    height, width = camera.size
    return SceneCamera("", width, height, camera.intrinsics, camera.world2cam)


def _parse(line: str) -> SceneCamera:
    import torch

    try:
        facts = json.loads(line.removeprefix("view "))
        camera = SceneCamera(
            photo=str(facts["photo"]),
            width=int(facts["width"]),
            height=int(facts["height"]),
            intrinsics=torch.tensor(facts["intrinsics"], dtype=torch.float32),
            world2cam=torch.tensor(facts["world2cam"], dtype=torch.float32),
        )
        matrices = camera.intrinsics, camera.world2cam
        if [tuple(matrix.shape) for matrix in matrices] != [(3, 3), (4, 4)]:
            raise ValueError("matrices of the wrong size")
        if not all(bool(matrix.isfinite().all()) for matrix in matrices):
            raise ValueError("matrices that are not finite")
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise NpsError(
            "The scene's record of its photos is damaged.",
            hint="Reconstruct the scene again, or delete its `comment view` lines.",
        ) from error
    return camera


def _exact(matrix: "Tensor") -> list[Any]:
    """Nested lists with as many digits as float32 needs to survive."""
    return [[float(f"{value:.9g}") for value in row] for row in matrix.tolist()]
