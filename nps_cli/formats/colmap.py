"""A COLMAP model: a folder with cameras, images and points3D, as text or binary."""

import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli.errors import NpsError
from nps_cli.formats.poses import photo_cameras

if TYPE_CHECKING:
    from torch import Tensor

    from models.reconstruction import Reconstruction
    from nps_cli.photos.load import Photo

PINHOLE = 1  # COLMAP's number of this camera model
BINARY_FILES = ("cameras.bin", "images.bin", "points3D.bin")  # COLMAP reads these before text


@dataclass(frozen=True)
class _Image:
    """A photo: quaternion and translation of `world2cam`, and (x, y, point's number) as seen."""

    pose: list[float]
    name: str
    observations: list[tuple[float, float, int]]


@dataclass(frozen=True)
class _Point:
    """A point: x, y, z; its color; the mean error in pixels; (image, place) of observations."""

    position: list[float]
    rgb: list[int]
    error: float
    track: list[tuple[int, int]]


def image_names(paths: list[Path]) -> list[str]:
    """Return names of photos as COLMAP wants them: relative to the folder that has them all."""
    parents = [path.resolve().parent / path.name for path in paths]
    folder = os.path.commonpath([path.parent for path in parents])
    return [path.relative_to(folder).as_posix() for path in parents]


def fit_text(names: list[str]) -> bool:
    """Return False if a name needs a binary model: COLMAP's text files end names at a space."""
    return not any(re.search(r"\s|[\udc80-\udcff]", name) for name in names)


def check_model(folder: Path) -> None:
    """Raise NpsError if a folder holds a binary model, which COLMAP would read in place of ours."""
    found = next((name for name in BINARY_FILES if (folder / name).exists()), None)
    if found is not None:
        raise NpsError(
            f"{folder} holds {found}, which COLMAP reads in place of text.",
            hint="Choose another folder, or delete the binary model there.",
        )


def write_colmap(
    document: dict[str, Any],
    names: list[str],
    photos: "list[Photo]",
    reconstruction: "Reconstruction",
    folder: Path,
    *,
    force: bool,
) -> None:
    """Write a pose document's views, each with a PINHOLE camera, and a reconstruction's points.

    A model is text wherever its names allow that. `names` are those of `image_names`. Pixels are
    those of the full upright photos; like ours, COLMAP's are counted from the outer corner of the
    first, whose center is at (0.5, 0.5).
    """
    from nps_cli.output import whole_folder

    cameras = [_camera(view) for view in document["views"]]
    images = _images(document["views"], names, reconstruction.observations.detach().double().cpu())
    points = _points(photos, reconstruction)
    encode = _encode_text if fit_text(names) else _encode_binary
    with whole_folder(folder, force=force) as temporary:
        for name, content in encode(cameras, images, points).items():
            (temporary / name).write_bytes(content)


def _camera(view: dict[str, Any]) -> list[float]:
    """Return width, height, fx, fy, cx, cy."""
    (fx, _, cx), (_, fy, cy), _ = view["intrinsics_px"]
    return [view["width"], view["height"], fx, fy, cx, cy]


def _images(views: list[dict[str, Any]], names: list[str], observations: "Tensor") -> list[_Image]:
    images = []
    for view, name, coordinates in zip(views, names, observations.tolist(), strict=True):
        seen = [
            (x * view["width"], y * view["height"], number)
            for number, (x, y) in enumerate(coordinates, start=1)
            if x == x  # not NaN
        ]
        images.append(_Image([*view["quaternion_wxyz"], *view["translation"]], name, seen))
    return images


def _points(photos: "list[Photo]", reconstruction: "Reconstruction") -> list[_Point]:
    import torch

    from models.sfm.tracks import mean_colors, reprojection_errors_px

    points = reconstruction.points.detach().double().cpu()
    observations = reconstruction.observations.detach().double().cpu()
    colors = mean_colors([photo.image.double().cpu() for photo in photos], observations)
    cameras = [
        replace(camera, intrinsics=camera.intrinsics.double(), world2cam=camera.world2cam.double())
        for camera in photo_cameras(photos, reconstruction)
    ]
    errors = reprojection_errors_px(points, observations, cameras)
    observed = errors.isfinite()
    indices = torch.where(observed, observed.cumsum(1) - 1, -1)  # POINT2D_IDX in images.txt
    bytes_rgb = (colors * 255).round().clamp(0, 255).int()
    columns = (points, bytes_rgb, errors.nanmean(0), indices.T)
    found = []
    for point, rgb, error, places in zip(*(column.tolist() for column in columns), strict=True):
        track = [(view, place) for view, place in enumerate(places, start=1) if place >= 0]
        found.append(_Point(point, rgb, error, track))
    return found


def _encode_text(
    cameras: list[list[float]], images: list[_Image], points: list[_Point]
) -> dict[str, bytes]:
    tables: dict[str, list[str]] = {
        "cameras.txt": ["# CAMERA_ID MODEL WIDTH HEIGHT FX FY CX CY"],
        "images.txt": [
            "# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME",
            "# then, on a line of its own: X Y POINT3D_ID of every observation",
        ],
        "points3D.txt": [
            "# POINT3D_ID X Y Z R G B ERROR, then IMAGE_ID and POINT2D_IDX of every observation"
        ],
    }
    for number, camera in enumerate(cameras, start=1):
        tables["cameras.txt"].append(f"{number} PINHOLE {_row(camera)}")
    for number, image in enumerate(images, start=1):
        seen = " ".join(f"{_row([x, y])} {point}" for x, y, point in image.observations)
        tables["images.txt"] += [f"{number} {_row(image.pose)} {number} {image.name}", seen]
    for number, each in enumerate(points, start=1):
        track = " ".join(f"{view} {place}" for view, place in each.track)
        values = _row([*each.position, *each.rgb, each.error])
        tables["points3D.txt"].append(f"{number} {values} {track}")
    return {name: "".join(f"{line}\n" for line in lines).encode() for name, lines in tables.items()}


def _encode_binary(
    cameras: list[list[float]], images: list[_Image], points: list[_Point]
) -> dict[str, bytes]:
    tables = {name: bytearray(struct.pack("<Q", 0)) for name in BINARY_FILES}
    for number, (width, height, *lens) in enumerate(cameras, start=1):
        packed = struct.pack("<iiQQ4d", number, PINHOLE, int(width), int(height), *lens)
        tables["cameras.bin"] += packed
    for number, image in enumerate(images, start=1):
        tables["images.bin"] += struct.pack("<I7dI", number, *image.pose, number)
        tables["images.bin"] += os.fsencode(image.name) + b"\0"
        tables["images.bin"] += struct.pack("<Q", len(image.observations))
        for x, y, point in image.observations:
            tables["images.bin"] += struct.pack("<ddQ", x, y, point)
    for number, each in enumerate(points, start=1):
        values = (*each.position, *each.rgb, each.error, len(each.track))
        tables["points3D.bin"] += struct.pack("<Q3d3BdQ", number, *values)
        for view, place in each.track:
            tables["points3D.bin"] += struct.pack("<II", view, place)
    counts = len(cameras), len(images), len(points)
    for name, count in zip(BINARY_FILES, counts, strict=True):
        struct.pack_into("<Q", tables[name], 0, count)
    return {name: bytes(content) for name, content in tables.items()}


def _row(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.12g}" for number in numbers)
