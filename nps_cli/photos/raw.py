"""Raw files: the largest photo that the camera put into one beside the sensor's data."""

import mmap
import struct
from collections import Counter
from pathlib import Path

from nps_cli.errors import NpsError

RAW_SUFFIXES = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dng .erf .iiq .kdc .mef .mrw .nef .nrw .orf .pef .raf .raw .rw2 "
    ".rwl .sr2 .srf .srw .x3f".split()
)
MIN_PREVIEW_PX = 640  # long side; smaller ones are thumbnails
MAX_JPEGS, MAX_SEGMENTS = 10_000, 100  # that are looked at; cameras write fewer
MAX_TILES = 4  # more JPEGs of one size are tiles of the sensor's data
START_OF_IMAGE = b"\xff\xd8\xff"
FRAME_HEADERS = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive; not the lossless of raws


def is_raw(path: Path) -> bool:
    """Return whether a file is raw, by its suffix or by the tag of a digital negative."""
    with path.open("rb") as file:
        head = file.read(4096)
    if path.suffix.lower() in RAW_SUFFIXES:
        return not head.startswith(START_OF_IMAGE)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 10:
        return False
    (start,) = struct.unpack_from(order + "I", head, 4)
    if start + 2 > len(head):
        return False
    (count,) = struct.unpack_from(order + "H", head, start)
    places = range(start + 2, min(start + 2 + 12 * count, len(head) - 2), 12)
    return any(struct.unpack_from(order + "H", head, place)[0] == 50706 for place in places)


def largest_preview(path: Path) -> bytes:
    """Return the largest JPEG in a raw file; raise NpsError if there are none but thumbnails."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        sizes: dict[int, tuple[int, int]] = {}
        place = content.find(START_OF_IMAGE)
        for _ in range(MAX_JPEGS):
            if place < 0:
                break
            if size := _frame_size(content, place):
                sizes[place] = size
            place = content.find(START_OF_IMAGE, place + 3)
        count = Counter(sizes.values())
        previews = {place: size for place, size in sizes.items() if count[size] <= MAX_TILES}
        best = max(previews, key=lambda place: previews[place][0] * previews[place][1], default=-1)
        width, height = previews.get(best, (0, 0))
        if max(width, height) < MIN_PREVIEW_PX:
            found = f"no more than a thumbnail ({width} x {height})" if width else "no JPEG"
            raise NpsError(
                f"{path} is a raw file, and holds {found} besides the sensor's data.",
                hint="Export the photo as JPEG or HEIC with a program for raw files, or let the "
                "camera store a JPEG beside it.",
            )
        return content[best:]


def _frame_size(content: mmap.mmap, start: int) -> tuple[int, int] | None:
    """Return the (width, height) of a JPEG that starts here, or None if none does."""
    place = start + 2
    for _ in range(MAX_SEGMENTS):
        if place + 10 > len(content) or content[place] != 0xFF:
            return None
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if marker in FRAME_HEADERS:
            depth, height, width, channels = struct.unpack_from(">BHHB", content, place + 4)
            return (width, height) if depth == 8 and channels == 3 else None
        if marker == 0xDA or not 0xC0 <= marker <= 0xFE or length < 2:
            return None
        place += 2 + length
    return None
