"""A photo file of any kind to an upright `Photo` with intrinsics."""

import math
import os
import stat
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pillow_heif
from PIL import Image, UnidentifiedImageError

from nps_cli.errors import NpsError
from nps_cli.photos.exif import (
    FILM_DIAGONAL_MM,
    GUESSED_35MM,
    CameraFacts,
    Source,
    focal_in_pixels,
    read_camera_facts,
)
from nps_cli.photos.intrinsics import GivenIntrinsics, pinhole
from nps_cli.photos.pixels import to_8_bit, to_srgb, without_native_stderr, without_warnings

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from models.geometry.camera import Camera
    from models.geometry.views import View

WORKING_SIDE_PX = 1024
MAX_PIXELS = 178_956_970  # Pillow's own limit for what it takes for an attack
MIN_SIDE_PX = 16
MAX_ASPECT = 8.0
EXIF_DIRECTORY, ORIENTATION = 0x8769, 0x0112
VECTOR_FORMATS = ("EPS", "WMF")  # Pillow would run other programs to rasterize these
TO_UPRIGHT = {  # what undoes each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Photo:
    """A photo as people see it: upright, in sRGB, on white where it is transparent.

    Attributes:
        name: Of the file.
        image: RGB in [0, 1], possibly reduced.
        camera: Of the full upright photo. Its pose is not known: the identity.
        intrinsics_source: What the focal length rests on.
        orientation: The EXIF tag that was found and applied, 1 to 8, or None.
        facts: What EXIF says about the camera.
    """

    name: str
    image: "Float[Tensor, '3 _height _width']"
    camera: "Camera"
    intrinsics_source: Source
    orientation: int | None
    facts: CameraFacts

    @property
    def view(self) -> "View":
        """The image with its camera, as `models.reconstruct` takes it."""
        from models.geometry.views import View

        return View(self.image, self.camera.resized((self.image.shape[1], self.image.shape[2])))

    @property
    def hfov_deg(self) -> float:
        """Horizontal field of view, as if the principal point were central."""
        return math.degrees(2 * math.atan(0.5 / float(self.camera.intrinsics[0, 0])))

    @property
    def focal_35mm(self) -> float:
        """The 35 mm equivalent of the focal length, whatever its source, by the diagonal."""
        height, width = self.camera.size
        focal_px = float(self.camera.intrinsics[0, 0]) * width
        return focal_px * FILM_DIAGONAL_MM / math.hypot(width, height)

    @property
    def intrinsics_note(self) -> str:
        """The source of the focal length, in words that may follow it."""
        match self.intrinsics_source:
            case "exif-35mm":
                return f"{self.facts.focal_35mm:g} mm equivalent from EXIF"
            case "exif-sensor":
                return f"{self.facts.focal_mm:g} mm from EXIF and the sensor's size"
            case "given":
                return "as given"
            case "guessed":
                return f"guessed, {GUESSED_35MM:g} mm equivalent"
            case "estimated":
                return f"estimated from matches, {self.focal_35mm:.0f} mm equivalent"


def load_photos(
    paths: Sequence[str | Path],
    given: GivenIntrinsics | None = None,
    max_side: int = WORKING_SIDE_PX,
) -> list[Photo]:
    """Load photos, each with its own size and camera; what a person said about those wins.

    Photos with a guessed focal length share a focal group if one camera may have taken them: same
    make, model and size, in either orientation.
    """
    photos = [load_photo(Path(path), max_side) for path in paths]
    sizes, names = [photo.camera.size for photo in photos], [photo.name for photo in photos]
    matrices = given and given.for_photos(sizes, names)
    if not matrices:
        return _with_focal_groups(photos)
    import torch

    return [
        replace(
            photo,
            camera=replace(photo.camera, intrinsics=torch.tensor(matrix), focal_group=None),
            intrinsics_source="given",
        )
        for photo, matrix in zip(photos, matrices, strict=True)
    ]


def _with_focal_groups(photos: list[Photo]) -> list[Photo]:
    """Number the physical cameras of photos with a guessed focal length."""
    numbers: dict[tuple[object, ...], int] = {}
    grouped = []
    for photo in photos:
        if photo.intrinsics_source == "guessed":
            key = (*sorted(photo.camera.size), photo.facts.make, photo.facts.model)
            camera = replace(photo.camera, focal_group=numbers.setdefault(key, len(numbers)))
            photo = replace(photo, camera=camera)
        grouped.append(photo)
    return grouped


def load_photo(path: Path, max_side: int = WORKING_SIDE_PX) -> Photo:
    """Load a photo with the intrinsics that its EXIF gives, or else a guess.

    The first frame of an animation, the first picture of an MPO. A truncated file is refused
    unless its decoder finds every pixel.

    Args:
        path: JPEG, PNG, WebP, TIFF, HEIC, AVIF, or what else Pillow decodes by itself.
        max_side: Larger images are reduced by averaging to this long side.
    """
    _check_is_file(path)
    pillow_heif.register_heif_opener()
    try:
        with without_warnings():
            return _decode(path, max_side)
    except NpsError:
        raise
    except UnidentifiedImageError as error:
        raise NpsError(
            f"{path} is not an image, or it is damaged or of an unknown kind.",
            hint="Export the photo as JPEG, PNG or HEIC.",
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path) from error
    except Exception as error:  # decoders raise anything at all on damaged files
        raise NpsError(
            f"{path} cannot be decoded ({_first_line(error)}).",
            hint="The file is damaged or cut short: copy it again, or export it as JPEG.",
        ) from error


def _decode(path: Path, max_side: int) -> Photo:
    with Image.open(path) as file:
        _check_content(path, file, max_side)
        found = file.info.get("original_orientation") or _exif(file).get(ORIENTATION)
        facts = read_camera_facts(_exif(file))
        width, height = file.size
        working = _reduced(file.size, max_side)
        file.draft(None, working)
        with without_native_stderr() if file.format == "TIFF" else nullcontext():
            file.load()
        profile = file.info.get("icc_profile")
        image = to_srgb(to_8_bit(file).resize(working, Image.Resampling.HAMMING), profile)
        orientation = _exif(file).get(ORIENTATION)  # once loaded: some decoders apply it themselves
    if orientation in TO_UPRIGHT:
        image = image.transpose(TO_UPRIGHT[orientation])
        width, height = (width, height) if orientation < 5 else (height, width)
    focal_px, source = focal_in_pixels(facts, (height, width))
    import torch  # takes a second: what is no photo has been refused by now

    from models.geometry.camera import Camera

    return Photo(
        name=path.name,
        image=torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255,
        camera=Camera(
            intrinsics=torch.tensor(pinhole(focal_px, (height, width))),
            world2cam=torch.eye(4),
            size=(height, width),
            focal_group=0 if source == "guessed" else None,
        ),
        intrinsics_source=source,
        orientation=found if isinstance(found, int) and 1 <= found <= 8 else None,
        facts=facts,
    )


def _exif(file: Image.Image) -> dict[int, object]:
    """Tags of the main and the Exif directory (never the GPS one); none if they are garbage."""
    try:
        exif = file.getexif()
        return {**exif, **exif.get_ifd(EXIF_DIRECTORY)}
    except Exception:  # as for pixels; a photo is fine without its EXIF
        return {}


def _reduced(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _check_is_file(path: Path) -> None:
    hint = "Check the path; a photo is a file such as photo.jpg."
    try:
        status = path.stat()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else error.strerror
        raise NpsError(f"{path}: {reason}.", hint=hint) from error
    if stat.S_ISDIR(status.st_mode):
        raise NpsError(f"{path} is a folder, not a photo.", hint=hint)
    if not stat.S_ISREG(status.st_mode):
        raise NpsError(f"{path} is not a regular file.", hint=hint)
    if status.st_size == 0:
        raise NpsError(f"{path} is empty (0 bytes).", hint="Copy the photo again.")
    if not os.access(path, os.R_OK):
        raise NpsError(f"{path} may not be read.", hint=f"Try: chmod u+r {path}")


def _check_content(path: Path, file: Image.Image, max_side: int) -> None:
    """Refuse, before anything is decoded, what cannot be a photo."""
    if file.format in VECTOR_FORMATS:
        raise NpsError(f"{path} is a drawing ({file.format}), not a photo.", hint="Give photos.")
    if file.width * file.height > MAX_PIXELS:
        raise _too_large(path)
    long, short = max(file.size), min(file.size)
    if long > MAX_ASPECT * short or min(_reduced(file.size, max_side)) < MIN_SIDE_PX:
        raise NpsError(
            f"{path} is too small or too narrow: {file.width} x {file.height} pixels.",
            hint=f"Give photos of {MIN_SIDE_PX} pixels or more on the short side, "
            f"and at most {MAX_ASPECT:g} times as long.",
        )


def _too_large(path: Path) -> NpsError:
    return NpsError(
        f"{path} has more than {MAX_PIXELS // 10**6} megapixels.",
        hint="Reduce it first; about 1 megapixel is all that is used.",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
