"""Intrinsics that a person gives, instead of EXIF."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli import console
from nps_cli.errors import NpsError
from nps_cli.photos.exif import FILM_DIAGONAL_MM

if TYPE_CHECKING:
    from models.geometry.camera import Camera

Matrix = list[list[float]]  # 3x3


@dataclass(frozen=True)
class GivenIntrinsics:
    """At most one of the three, with one value for all photos or one per photo.

    Attributes:
        focal_35mm: 35 mm-equivalent focal lengths.
        fov_deg: Horizontal fields of view of the upright photos.
        file: JSON with `intrinsics_px`, `width` and `height` for the upright photo: an object, a
            list of them, or a pose document; a transforms.json or a cameras.json.
    """

    focal_35mm: tuple[float, ...] = ()
    fov_deg: tuple[float, ...] = ()
    file: str | Path | None = None

    def __post_init__(self) -> None:
        if bool(self.focal_35mm) + bool(self.fov_deg) + (self.file is not None) > 1:
            raise NpsError(
                "The focal length is given in more than one way.",
                hint="Use only one of --focal-35mm, --fov and --intrinsics.",
            )

    def for_photos(
        self, sizes: list[tuple[int, int]], names: Sequence[str] = ()
    ) -> list[Matrix] | None:
        """Return normalized intrinsics for upright photos of these (height, width), if given.

        A file that names its photos gives those of these `names`, in any order.
        """
        count = len(sizes)
        if self.file is not None:
            cameras = _one_each(_read_cameras(Path(self.file), names), count, str(self.file))
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


def _read_cameras(file: Path, names: Sequence[str]) -> "list[Camera]":
    """Return the cameras of photos by their names, or else all cameras of a file, in its order."""
    from models.data.camera_files import read_cameras

    try:
        images = read_cameras(file, posed=False)
    except ValueError as error:
        raise NpsError(f"{error}.", hint=_FORMAT) from error
    by_name = {Path(image.name).stem: image for image in images}
    wanted = [Path(name).stem for name in names]
    if len(by_name) == len(images) and set(wanted) <= by_name.keys():
        images = [by_name[name] for name in wanted]
    elif all(image.name and _is_same_lens(image.camera, images[0].camera) for image in images):
        images = images[:1]
    if any(any(image.distortion) for image in images):
        console.warning(f"{file}: the distortion of the lens is left out")
    return [image.camera for image in images]


def _is_same_lens(camera: "Camera", other: "Camera") -> bool:
    return camera.size == other.size and camera.intrinsics.equal(other.intrinsics)


_FORMAT = (
    'A camera is {"intrinsics_px": 3x3, "width": pixels, "height": pixels}; transforms.json of '
    "nerfstudio and cameras.json of 3D Gaussian Splatting work too."
)


def _normalize(camera: "Camera", size: tuple[int, int], file: str | Path) -> Matrix:
    """Return the intrinsics for a photo of this (height, width), the camera's up to a scale."""
    (height, width), (given_height, given_width) = size, camera.size
    scale = width / given_width
    if abs(given_height * scale - height) > 1 + scale:  # a pixel of rounding at either size
        raise NpsError(
            f"{file} has a camera of {given_width} x {given_height} pixels for an upright "
            f"photo of {width} x {height}.",
            hint="Give intrinsics for the upright photo; only its scale may differ.",
        )
    return camera.intrinsics.tolist()
