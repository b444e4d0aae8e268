"""A transforms.json as nerfstudio and instant-ngp read it."""

import os
from pathlib import Path
from typing import Any

CAMERA_MODEL = "PINHOLE"


def file_paths(photos: list[Path], document: Path | None) -> list[str]:
    """Return the photos as a document names them: relative paths become relative to the document.

    Where there is none (stdout), or where no path leads from one to the other, they stay as given.
    """
    return [_relative_to(document, photo) if document else photo.as_posix() for photo in photos]


def transforms(document: dict[str, Any], files: list[str]) -> dict[str, Any]:
    """Return a pose document's views as transforms.json has them, ready for JSON.

    `transform_matrix` goes from the camera to the world; the camera has OpenGL's axes: +x right,
    +y up, and it looks along -z. The world stays that of the pose document, the first photo's
    camera in OpenCV's axes. Pixels are counted from the outer corner of the first.
    """
    return {
        "camera_model": CAMERA_MODEL,
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


def _relative_to(document: Path, photo: Path) -> str:
    if photo.is_absolute():
        return photo.as_posix()
    absolute = photo.parent.resolve() / photo.name
    try:
        relative = os.path.relpath(absolute, document.parent.resolve())
    except ValueError:  # on another drive
        return absolute.as_posix()
    return Path(relative).as_posix()
