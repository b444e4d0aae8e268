"""Files to opened images, not yet decoded; what cannot be a photo is refused."""

import os
import stat
from io import BytesIO
from pathlib import Path

import pillow_heif
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from nps_cli.errors import NpsError
from nps_cli.photos.raw import is_raw, largest_preview

MAX_PIXELS = 178_956_970  # Pillow's own limit for what it takes for an attack
MAX_JPEG_PIXELS = 1 << 28  # decoded at a smaller scale, so that phones' 200 megapixels fit
MIN_SIDE_PX = 16
MAX_ASPECT = 8.0
VECTOR_FORMATS = ("EPS", "WMF")  # Pillow would run other programs to rasterize these


def open_image(path: Path) -> ImageFile.ImageFile:
    """Open a photo without decoding it; of a raw file, its largest preview.

    Raises:
        NpsError: The file cannot be read, or it is a drawing or too large.
        Exception: It is damaged, or no image.
    """
    _check_is_file(path)
    pillow_heif.register_heif_opener()
    try:
        file: ImageFile.ImageFile
        file = Image.open(BytesIO(largest_preview(path)) if is_raw(path) else path)
    except Image.DecompressionBombError:
        with path.open("rb") as stream:
            if stream.read(2) != b"\xff\xd8":
                raise
        file = JpegImageFile(path)
    if file.format in VECTOR_FORMATS:
        raise NpsError(f"{path} is a drawing ({file.format}), not a photo.", hint="Give photos.")
    limit = MAX_JPEG_PIXELS if isinstance(file, JpegImageFile) else MAX_PIXELS
    if file.width * file.height > limit:
        raise too_large(path, limit)
    return file


def check_resolution(path: Path, size: tuple[int, int], max_side: int) -> None:
    """Refuse a (width, height) that is too small for a photo, or will be once it is reduced."""
    if min(reduced_size(size, max_side)) < MIN_SIDE_PX:
        raise _too_small(path, size)


def check_aspect(path: Path, size: tuple[int, int]) -> None:
    """Refuse a (width, height) that is too narrow for a photo, whatever its camera."""
    if max(size) > MAX_ASPECT * min(size):
        raise _too_small(path, size)


def reduced_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Return the size after the long side was reduced to `max_side`, if it is longer."""
    scale = min(1.0, max_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def too_large(path: Path, limit: int = MAX_PIXELS) -> NpsError:
    """Return the error for a file with more pixels than the limit."""
    return NpsError(
        f"{path} has more than {limit // 10**6} megapixels.",
        hint="Reduce it first; about 1 megapixel is all that is used.",
    )


def _too_small(path: Path, size: tuple[int, int]) -> NpsError:
    return NpsError(
        f"{path} is too small or too narrow: {size[0]} x {size[1]} pixels.",
        hint=f"Give photos of {MIN_SIDE_PX} pixels or more on the short side, "
        f"and at most {MAX_ASPECT:g} times as long.",
    )


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
