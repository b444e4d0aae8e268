"""A COLMAP model as text: a folder with cameras.txt, images.txt and points3D.txt."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli.errors import NpsError
from nps_cli.formats.poses import photo_cameras

if TYPE_CHECKING:
    from torch import Tensor

    from models.reconstruction import Reconstruction
    from nps_cli.photos.load import Photo

BINARY_FILES = ("cameras.bin", "images.bin", "points3D.bin")  # COLMAP reads these before text


def image_names(paths: list[Path]) -> list[str]:
    """Return names of photos as COLMAP wants them: relative to the folder that has them all.

    Raises NpsError for names with spaces, which COLMAP cannot read.
    """
    parents = [path.resolve().parent / path.name for path in paths]
    folder = os.path.commonpath([path.parent for path in parents])
    names = [path.relative_to(folder).as_posix() for path in parents]
    with_space = next((name for name in names if name.split() != [name]), None)
    if with_space is not None:
        raise NpsError(
            f"COLMAP cannot read the name {with_space!r}: its text files end names at a space.",
            hint="Rename the photo or its folder, or use --format nerfstudio.",
        )
    return names


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

    `names` are those of `image_names`. Pixels are those of the full upright photos; like ours,
    COLMAP's are counted from the outer corner of the first, whose center is at (0.5, 0.5).
    """
    from nps_cli.output import whole_folder

    views = document["views"]
    observations = reconstruction.observations.detach().double().cpu()
    tables = {
        "cameras.txt": _cameras(views),
        "images.txt": _images(views, names, observations),
        "points3D.txt": _points(photos, reconstruction, observations),
    }
    with whole_folder(folder, force=force) as temporary:
        for name, lines in tables.items():
            text = "".join(f"{line}\n" for line in lines)
            (temporary / name).write_text(text, encoding="utf-8")


def _cameras(views: list[dict[str, Any]]) -> Iterator[str]:
    yield "# CAMERA_ID MODEL WIDTH HEIGHT FX FY CX CY"
    for number, view in enumerate(views, start=1):
        (fx, _, cx), (_, fy, cy), _ = view["intrinsics_px"]
        yield f"{number} PINHOLE {view['width']} {view['height']} {_row([fx, fy, cx, cy])}"


def _images(views: list[dict[str, Any]], names: list[str], observations: "Tensor") -> Iterator[str]:
    yield "# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME"
    yield "# then, on a line of its own: X Y POINT3D_ID of every observation"
    for number, (view, name) in enumerate(zip(views, names, strict=True), start=1):
        pose = _row([*view["quaternion_wxyz"], *view["translation"]])
        yield f"{number} {pose} {number} {name}"
        numbered = enumerate(observations[number - 1].tolist(), start=1)
        yield " ".join(
            f"{_row([x * view['width'], y * view['height']])} {point}"
            for point, (x, y) in numbered
            if x == x  # not NaN
        )


def _points(
    photos: "list[Photo]", reconstruction: "Reconstruction", observations: "Tensor"
) -> Iterator[str]:
    import torch

    from models.sfm.tracks import mean_colors, reprojection_errors_px

    points = reconstruction.points.detach().double().cpu()
    colors = mean_colors([photo.image.double().cpu() for photo in photos], observations)
    cameras = [
        replace(camera, intrinsics=camera.intrinsics.double(), world2cam=camera.world2cam.double())
        for camera in photo_cameras(photos, reconstruction)
    ]
    errors = reprojection_errors_px(points, observations, cameras)
    observed = errors.isfinite()
    indices = torch.where(observed, observed.cumsum(1) - 1, -1)  # POINT2D_IDX in images.txt
    yield "# POINT3D_ID X Y Z R G B ERROR, then IMAGE_ID and POINT2D_IDX of every observation"
    bytes_rgb = (colors * 255).round().clamp(0, 255).int()
    columns = (points, bytes_rgb, errors.nanmean(0), indices.T)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for number, (point, rgb, error, track) in enumerate(rows, start=1):
        elements = [f"{view} {index}" for view, index in enumerate(track, start=1) if index >= 0]
        yield f"{number} {_row([*point, *rgb, error])} {' '.join(elements)}"


def _row(numbers: Iterable[float]) -> str:
    return " ".join(f"{number:.12g}" for number in numbers)
