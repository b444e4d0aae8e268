"""A scene as a web page that shows it: one file, and nothing is fetched from elsewhere."""

import base64
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from models.geometry.camera import Camera, stack_cameras
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import transform_points
from models.geometry.trajectory import guess_camera, mean_camera, orbit_amplitude_deg, scene_center
from models.render.constants import MIN_DEPTH
from nps_cli.formats.provenance import SceneCamera, camera_facts
from nps_cli.formats.spz import encode_spz

TEMPLATE = Path(__file__).with_name("viewer.html")


def encode_page(gaussians: Gaussians, cameras: Sequence[SceneCamera] = ()) -> Iterator[bytes]:
    """Yield, in pieces, a page whose visitors orbit the scene, and step into the photos' cameras.

    The scene is in it as an .spz of SH degree 0: the page shows no view-dependent color.
    """
    title = " and ".join(photo.name for photo in cameras) or "A scene"
    facts = _facts(gaussians.sample(), [photo.camera for photo in cameras])
    before, after = TEMPLATE.read_text(encoding="utf-8").split("SCENE", 1)
    before = before.replace("FACTS", json.dumps(facts).replace("<", "\\u003c"), 1)
    yield before.replace("TITLE", escape(title), 1).encode()
    yield from _base64(encode_spz(gaussians, sh_degree=0))
    yield after.encode()


def _base64(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Encode pieces as if they were one."""
    left = b""
    for piece in pieces:
        left += piece
        whole = len(left) // 3 * 3
        yield base64.b64encode(left[:whole])
        left = left[whole:]
    yield base64.b64encode(left)


def _facts(gaussians: Gaussians, cameras: list[Camera]) -> dict[str, Any]:
    """Return what the page's script reads beside the Gaussians."""
    known = cameras or [guess_camera(gaussians)]
    batch = stack_cameras([camera.framed(known[0].size) for camera in known])
    center = scene_center(gaussians, batch)
    return {
        "near": MIN_DEPTH,
        "center": center.tolist(),
        "reach": float(transform_points(center[None], known[0].world2cam).norm()),
        "amplitude": math.radians(orbit_amplitude_deg(batch, center)),
        "home": camera_facts(mean_camera(batch)),
        "photos": [camera_facts(camera) for camera in cameras],
    }
