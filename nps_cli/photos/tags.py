"""EXIF tags by exifread, or by Pillow where exifread finds none. GPS tags are left out."""

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import exifread
from exifread.core.ifd_tag import IfdTag
from PIL import ImageFile

from nps_cli.photos.exif import DIGITAL_ZOOM, FOCAL_PLANE_DIAGONAL, ORIENTATION

EXIF_DIRECTORY = 0x8769
MAX_READS = 200_000  # ten times what cameras need; a malicious count asks for 4,000,000,000
MAX_READ_BYTES = 1 << 16
MAKER_NOTES = {  # those that tell what standard tags may not
    "MakerNote DigitalZoom": DIGITAL_ZOOM,  # Olympus; Canon, as text
    "MakerNote DigitalZoomFactor": DIGITAL_ZOOM,  # Nikon
    "MakerNote FocalPlaneDiagonal": FOCAL_PLANE_DIAGONAL,  # Olympus
}


def read_tags(image: ImageFile.ImageFile) -> dict[int, object]:
    """Return the tags of an opened image's main and Exif directory; none if they are garbage."""
    exif = image.info.get("exif")
    if isinstance(exif, bytes):
        tags = _by_exifread(BytesIO(exif.removeprefix(b"Exif\0\0")))
    else:
        tags = read_file_tags(Path(str(image.filename))) if image.format == "TIFF" else {}
    return tags or _by_pillow(image)


def read_file_tags(path: Path) -> dict[int, object]:
    """Return the tags of any file that exifread knows, raw files among them; else none."""
    with path.open("rb") as stream:
        return _by_exifread(stream)


def orientation_of(image: ImageFile.ImageFile, otherwise: object = None) -> int | None:
    """Return Pillow's orientation, 1 to 8, or else another one; some decoders apply and drop it."""
    value = _by_pillow(image).get(ORIENTATION, otherwise)
    return value if isinstance(value, int) and 1 <= value <= 8 else None


class _Bounded:
    """A stream that ends after a number of reads, so that no count or loop in it is endless."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream, self.reads_left = stream, MAX_READS
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise OSError("more EXIF than any camera writes")
        return self.stream.read(min(size, MAX_READ_BYTES))


def _by_exifread(stream: BinaryIO) -> dict[int, object]:
    try:
        found = exifread.process_file(_Bounded(stream), extract_thumbnail=False)  # type: ignore[arg-type]
    except Exception:  # damaged EXIF raises anything at all; a photo is fine without it
        return {}
    tags = {
        entry.tag: _plain(entry.values)
        for directory in ("Image ", "EXIF ")
        for name, entry in found.items()
        if name.startswith(directory) and isinstance(entry, IfdTag)
    }
    for name, tag in MAKER_NOTES.items():
        if name in found:
            tags.setdefault(tag, _plain(found[name].values))
    return tags


def _plain(values: object) -> object:
    """Return the only value of several, text of bytes; '2x' is the number 2."""
    while isinstance(values, list | tuple) and len(values) == 1:
        values = values[0]
    if isinstance(values, bytes):
        return values.decode("latin-1")
    return values[:-1] if isinstance(values, str) and values in ("2x", "4x") else values


def _by_pillow(image: ImageFile.ImageFile) -> dict[int, object]:
    try:
        exif = image.getexif()
        return {**exif, **exif.get_ifd(EXIF_DIRECTORY)}
    except Exception:  # as above
        return {}
