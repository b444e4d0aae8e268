"""Intrinsics that a person gives, instead of EXIF."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nps_cli.errors import NpsError
from nps_cli.photos.exif import FILM_DIAGONAL_MM

Matrix = list[list[float]]  # 3x3


@dataclass(frozen=True)
class GivenIntrinsics:
    """At most one of the three, with one value for all photos or one per photo.

    Attributes:
        focal_35mm: 35 mm-equivalent focal lengths.
        fov_deg: Horizontal fields of view of the upright photos.
        file: JSON with `intrinsics_px`, `width` and `height` for the upright photo: an object, a
            list of them, or a pose document.
    """

    focal_35mm: tuple[float, ...] = ()
    fov_deg: tuple[float, ...] = ()
    file: Path | None = None

    def __post_init__(self) -> None:
        if bool(self.focal_35mm) + bool(self.fov_deg) + (self.file is not None) > 1:
            raise NpsError(
                "The focal length is given in more than one way.",
                hint="Use only one of --focal-35mm, --fov and --intrinsics.",
            )

    def for_photos(self, sizes: list[tuple[int, int]]) -> list[Matrix] | None:
        """Return normalized intrinsics for upright photos of these (height, width), if given."""
        count = len(sizes)
        if self.file is not None:
            cameras = _one_each(_read_cameras(self.file), count, str(self.file))
            pairs = zip(cameras, sizes, strict=True)
            return [_normalize(camera, size, self.file) for camera, size in pairs]
        if self.focal_35mm:
            values = _one_each(list(self.focal_35mm), count, "--focal-35mm")
            diagonals = [math.hypot(*size) / FILM_DIAGONAL_MM for size in sizes]
            focals = [value * scale for value, scale in zip(values, diagonals, strict=True)]
        elif self.fov_deg:
            values = _one_each(list(self.fov_deg), count, "--fov")
            halves = [math.tan(math.radians(value / 2)) for value in values]
            focals = [size[1] / 2 / half for size, half in zip(sizes, halves, strict=True)]
        else:
            return None
        return [pinhole(focal, size) for focal, size in zip(focals, sizes, strict=True)]


def pinhole(focal_px: float, size: tuple[int, int]) -> Matrix:
    """Return normalized intrinsics of square pixels and a central principal point."""
    height, width = size
    return [[focal_px / width, 0.0, 0.5], [0.0, focal_px / height, 0.5], [0.0, 0.0, 1.0]]


def _one_each(values: list[Any], count: int, where: str) -> list[Any]:
    if len(values) not in (1, count):
        raise NpsError(
            f"{where} gives {len(values)} cameras for {count} photos.",
            hint="Give one for all photos, or one per photo in the same order.",
        )
    return values if len(values) == count else values * count


def _read_cameras(file: Path) -> list[Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or f"not JSON: {error}"
        raise NpsError(
            f"{file} cannot be read ({reason}).", hint="--intrinsics takes a JSON file."
        ) from error
    if isinstance(document, dict):
        document = document.get("views", [document])
    if not isinstance(document, list) or not document:
        raise NpsError(f"{file} holds no cameras.", hint=_FORMAT)
    return document


_FORMAT = 'A camera is {"intrinsics_px": 3x3, "width": pixels, "height": pixels}.'


def _normalize(camera: Any, size: tuple[int, int], file: Path) -> Matrix:
    """Divide by the size the camera is for, which must be the photo's up to a scale."""
    height, width = size
    try:
        given_width, given_height = float(camera["width"]), float(camera["height"])
        rows = [[float(value) for value in row] for row in camera["intrinsics_px"]]
        (fx, skew, cx), (zero, fy, cy), last = rows
        proper = zero == 0 and last == [0, 0, 1] and min(fx, fy, given_width, given_height) > 0
    except (KeyError, TypeError, ValueError) as error:
        raise NpsError(f"{file} holds something that is not a camera.", hint=_FORMAT) from error
    if not proper or not all(map(math.isfinite, (fx, skew, cx, fy, cy, given_width, given_height))):
        raise NpsError(f"{file} holds impossible intrinsics: {rows}.", hint=_FORMAT)
    scale = width / given_width
    if abs(given_height * scale - height) > 1 + scale:  # a pixel of rounding at either size
        raise NpsError(
            f"{file} has a camera of {given_width:g} x {given_height:g} pixels for an upright "
            f"photo of {width} x {height}.",
            hint="Give intrinsics for the upright photo; only its scale may differ.",
        )
    return [
        [fx / given_width, skew / given_width, cx / given_width],
        [0.0, fy / given_height, cy / given_height],
        last,
    ]
