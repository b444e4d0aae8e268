"""A scene as a web page that shows it: one file, and nothing is fetched from elsewhere."""

import base64
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import transform_points
from models.geometry.trajectory import mean_camera, orbit_amplitude_deg, scene_center
from models.render.constants import NEAR
from nps_cli.formats.provenance import SceneCamera, guessed_camera
from nps_cli.formats.spz import pack_spz

PAGE = Path(__file__).with_name("viewer.html")


def save_page(gaussians: Gaussians, path: Path, cameras: Sequence[SceneCamera] = ()) -> None:
    """Write a page whose visitors orbit the scene, and step into the photos' cameras.

    The scene is in it as an .spz, whose harmonics but the constant one are not shown.
    """
    scene = base64.b64encode(pack_spz(gaussians, sh_degree=0)).decode()
    title = " and ".join(camera.photo for camera in cameras) or "A scene"
    text = PAGE.read_text(encoding="utf-8")
    for mark, value in (  # from the end: what is put in may hold an earlier mark's letters
        ("SCENE", scene),
        ("FACTS", json.dumps(_facts(gaussians, cameras)).replace("<", "\\u003c")),
        ("TITLE", escape(title)),
    ):
        text = text.replace(mark, value, 1)
    path.write_text(text, encoding="utf-8")


def _facts(gaussians: Gaussians, cameras: Sequence[SceneCamera]) -> dict[str, Any]:
    """What the page has to know beside the Gaussians."""
    import torch

    photos = list(cameras) or [guessed_camera(gaussians)]
    poses = torch.stack([camera.world2cam for camera in photos])
    intrinsics = torch.stack([camera.intrinsics for camera in photos])
    cameras_of_photos = Camera(intrinsics, poses, (photos[0].height, photos[0].width))
    center = scene_center(gaussians, cameras_of_photos)
    home = _camera(photos[0]) | {"world2cam": mean_camera(cameras_of_photos).world2cam.tolist()}
    return {
        "near": NEAR,
        "center": center.tolist(),
        "reach": float(transform_points(center[None], poses[0]).norm()),
        "amplitude": math.radians(orbit_amplitude_deg(cameras_of_photos, center)),
        "home": home,
        "photos": [_camera(camera) for camera in cameras],
    }


def _camera(camera: SceneCamera) -> dict[str, Any]:
    return {
        "width": camera.width,
        "height": camera.height,
        "intrinsics": camera.intrinsics.tolist(),
        "world2cam": camera.world2cam.tolist(),
    }
