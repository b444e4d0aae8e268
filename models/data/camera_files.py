"""Cameras of photos in a JSON file: a pose document, a transforms.json or a cameras.json."""

from pathlib import Path
from typing import Any

import torch

from models.data.nerfstudio import parse_transforms
from models.data.posed_images import PosedImage
from models.files.json_reader import read_json
from models.geometry.camera import Camera, from_pixels
from models.geometry.checks import check_camera, parse_matrix, parse_number, parse_size
from models.geometry.rigid import invert, rigid_motion


def read_cameras(path: Path, *, posed: bool = True) -> list[PosedImage]:
    """Read cameras in double precision, by OpenCV's axes, and the names of their photos.

    The file is nerfstudio's or instant-ngp's transforms.json; or a camera, a list of cameras or an
    object with `views`. Each of these has `width` and `height`, and `intrinsics_px` with
    `world2cam` or `cam2world`, or, as in the 3DGS authors' cameras.json, `fx`, `fy`, `rotation`
    and `position` (of the camera in the world).

    Args:
        path: The file.
        posed: Refuse cameras without a pose; otherwise they stand at the origin.

    Raises:
        ValueError: If the file holds no cameras, or one that is no pinhole at a rigid pose.
    """
    views = read_json(path)
    if isinstance(views, dict):
        is_transforms = "frames" in views
        views = parse_transforms(views, str(path)) if is_transforms else views.get("views", [views])
    if not isinstance(views, list) or not views:
        raise ValueError(f"{path} holds no cameras")
    images = []
    for number, view in enumerate(views):
        try:
            image = view if isinstance(view, PosedImage) else _parse_view(view, posed)
            check_camera(image.camera)
        except (KeyError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"{path}: view {number} is not a camera ({reason})") from error
        images.append(image)
    return images


def _parse_view(view: Any, posed: bool) -> PosedImage:
    if not isinstance(view, dict):
        raise ValueError(f"it is {view!r:.40}")
    name = str(view.get("photo", view.get("img_name", "")))
    size = parse_size(view["width"], view["height"])
    if "rotation" in view:
        return PosedImage(name, _parse_3dgs(view, size), ())
    intrinsics = from_pixels(parse_matrix(view["intrinsics_px"], 3, 3), size)
    direction = "cam2world" if "cam2world" in view and "world2cam" not in view else "world2cam"
    if direction not in view and not posed:
        return PosedImage(name, Camera(intrinsics, torch.eye(4).to(intrinsics), size), ())
    pose = parse_matrix(view[direction], 4, 4)
    world2cam = pose if direction == "world2cam" else invert(pose)
    return PosedImage(name, Camera(intrinsics, world2cam, size), ())


def _parse_3dgs(view: dict[str, Any], size: tuple[int, int]) -> Camera:
    height, width = size
    fx, fy = parse_number(view["fx"]), parse_number(view["fy"])
    intrinsics_px = [[fx, 0, width / 2], [0, fy, height / 2], [0, 0, 1]]
    intrinsics = from_pixels(torch.tensor(intrinsics_px, dtype=torch.float64), size)
    (position,) = parse_matrix([view["position"]], 1, 3)
    cam2world = rigid_motion(parse_matrix(view["rotation"], 3, 3), position)
    return Camera(intrinsics, invert(cam2world), size)
