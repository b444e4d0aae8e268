"""A scene as a web page that shows it: one file, and nothing is fetched from elsewhere."""

import base64
import json
import math
from collections.abc import Sequence
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


def encode_page(gaussians: Gaussians, cameras: Sequence[SceneCamera] = ()) -> bytes:
    """Return a page whose visitors orbit the scene, and step into the photos' cameras.

    The scene is in it as an .spz of SH degree 0: the page shows no view-dependent color.
    """
    scene = base64.b64encode(encode_spz(gaussians, sh_degree=0)).decode()
    title = " and ".join(photo.name for photo in cameras) or "A scene"
    facts = _facts(gaussians, [photo.camera for photo in cameras])
    text = TEMPLATE.read_text(encoding="utf-8")
    for placeholder, value in (  # last one first: a value may hold the name of an earlier one
        ("SCENE", scene),
        ("FACTS", json.dumps(facts).replace("<", "\\u003c")),
        ("TITLE", escape(title)),
    ):
        text = text.replace(placeholder, value, 1)
    return text.encode()


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
