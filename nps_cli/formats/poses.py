"""The pose document: cameras of photos, with their convention written into the file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.confidence import PairQuality
    from models.geometry.camera import Camera
    from models.reconstruction import Reconstruction
    from models.weights import WeightsInfo
    from nps_cli.photos.load import Photo

CONVENTION = "OpenCV camera axes (+x right, +y down, +z forward); world = first view's camera"
POSE_SUFFIXES = (".json", "")
MEASURES = "inliers", "inlier_ratio", "photometric_error", "overlap", "confidence", "method"
EXPECTED_SHAPE = (
    'A pose file is {"views": [{"world2cam" or "cam2world": 4x4, "intrinsics_px": 3x3, "width": '
    'pixels, "height": pixels}, ...]}, as `nps pose` writes it; nerfstudio\'s transforms.json and '
    "the cameras.json of 3D Gaussian Splatting work too."
)


def pose_document(
    photos: "list[Photo]", reconstruction: "Reconstruction", weights: "WeightsInfo"
) -> dict[str, Any]:
    """Return the document, ready for JSON.

    `intrinsics_px` are for the full-size upright photo; `quaternion_wxyz` and `translation` are
    those of `world2cam`; a pair's `baseline_direction` is the unit vector from camera `from` to
    camera `to` in the axes of camera `from`, zero where the two are at one place.
    """
    cameras = photo_cameras(photos, reconstruction)
    return {
        "format": "nps-pose",
        "version": 1,
        "convention": CONVENTION,
        "translation_scale": "model",
        "weights": {"name": weights.name, "sha256": weights.sha256},
        "views": [_view(photo, camera) for photo, camera in zip(photos, cameras, strict=True)],
        "pairs": [_pair(pair, cameras) for pair in reconstruction.pairs],
        "problems": list(reconstruction.problems),
    }


def photo_cameras(photos: "list[Photo]", reconstruction: "Reconstruction") -> "list[Camera]":
    """Return the cameras of the full upright photos, with the poses of a reconstruction."""
    return [
        replace(photo.camera, world2cam=camera.world2cam.detach().cpu())
        for photo, camera in zip(photos, reconstruction.cameras, strict=True)
    ]


def write_poses(document: dict[str, Any], path: Path, *, force: bool) -> None:
    """Write a pose document, whole or not at all."""
    from nps_cli.output import whole_file

    with whole_file(path, force=force) as file:
        file.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_poses(path: Path) -> "list[Camera]":
    """Return the cameras of a pose document, or of any file that `read_cameras` understands.

    Raises NpsError if a view is not a camera with a rigid pose.
    """
    from models.data.camera_files import read_cameras

    try:
        return [image.camera.float() for image in read_cameras(path)]
    except ValueError as error:
        raise NpsError(f"{error}.", hint=EXPECTED_SHAPE) from error


def _view(photo: "Photo", camera: "Camera") -> dict[str, Any]:
    from models.geometry.camera import to_pixels
    from models.geometry.rigid import invert, to_wxyz

    height, width = camera.size
    world2cam = camera.world2cam.double()
    intrinsics_px = to_pixels(camera.intrinsics.double(), camera.size)
    return {
        "photo": photo.name,
        "width": width,
        "height": height,
        "intrinsics_px": [[round(value, 6) for value in row] for row in intrinsics_px.tolist()],
        "intrinsics_source": photo.intrinsics_source,
        "world2cam": world2cam.tolist(),
        "cam2world": invert(world2cam).tolist(),
        "quaternion_wxyz": to_wxyz(world2cam[:3, :3]).tolist(),
        "translation": world2cam[:3, 3].tolist(),
    }


def _pair(pair: "PairQuality", cameras: "list[Camera]") -> dict[str, Any]:
    from torch.nn.functional import normalize

    from models.geometry.rigid import invert, rotation_angle

    first, second = (cameras[index].world2cam.double() for index in (pair.first, pair.second))
    rotation = rotation_angle(first[:3, :3], second[:3, :3])
    return {
        "from": pair.first,
        "to": pair.second,
        "rotation_deg": rotation.rad2deg().item(),
        "baseline_direction": normalize((first @ invert(second))[:3, 3], dim=0).tolist(),
        **{name: getattr(pair, name) for name in MEASURES},
    }
