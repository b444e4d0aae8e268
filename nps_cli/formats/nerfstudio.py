"""A transforms.json as nerfstudio and instant-ngp read it."""

import os
from pathlib import Path
from typing import Any

CAMERA = "PINHOLE"


def file_paths(photos: list[Path], document: Path | None) -> list[str]:
    """The photos as a document may name them: a relative path is made relative to the document.

    Where there is none (stdout), or where no path leads from one to the other, they stay as given.
    """
    return [_from(document, photo) if document else photo.as_posix() for photo in photos]


def transforms(document: dict[str, Any], files: list[str]) -> dict[str, Any]:
    """A pose document's views as transforms.json has them, ready for JSON.

    `transform_matrix` goes from the camera to the world; the camera has OpenGL's axes: +x right,
    +y up, and it looks along -z. The world stays that of the pose document, the first photo's
    camera in OpenCV's axes. Pixels are counted from the outer corner of the first.
    """
    return {
        "camera_model": CAMERA,
        "frames": [_frame(view, file) for view, file in zip(document["views"], files, strict=True)],
    }


def _frame(view: dict[str, Any], file: str) -> dict[str, Any]:
    (fx, _, cx), (_, fy, cy), _ = view["intrinsics_px"]
    *rows, last = view["cam2world"]
    return {
        "file_path": file,
        "fl_x": fx,
        "fl_y": fy,
        "cx": cx,
        "cy": cy,
        "w": view["width"],
        "h": view["height"],
        "transform_matrix": [*([x, -y, -z, center] for x, y, z, center in rows), last],
    }


def _from(document: Path, photo: Path) -> str:
    if photo.is_absolute():
        return photo.as_posix()
    whole = photo.parent.resolve() / photo.name
    try:
        relative = os.path.relpath(whole, document.parent.resolve())
    except ValueError:  # on another drive
        return whole.as_posix()
    return Path(relative).as_posix()
