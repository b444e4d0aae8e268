"""Stereo photos: files that hold what the left and the right eye see."""

from pathlib import Path

from PIL import Image

from nps_cli.photos.opening import open_image
from nps_cli.photos.pixels import without_warnings

DISPARITY = "Multi-Frame Image: (Disparity)"
MAX_ITEM_BYTES = 1 << 16  # of the boxes that list the pictures of a HEIC file


def is_stereo_photo(path: Path) -> bool:
    """Return whether a file can be opened and holds a left and a right picture."""
    try:
        with without_warnings(), open_image(path) as image:
            return len(stereo_frames(path, image)) == 2
    except Exception:  # what is wrong with it will be said when it is loaded
        return False


def stereo_frames(path: Path, image: Image.Image) -> tuple[int, ...]:
    """Return the numbers of the left and the right picture, or (0,) if the file is no stereo photo.

    Other pictures of a file do not count: previews, depth and gain maps, frames of animations.
    """
    if getattr(image, "n_frames", 1) != 2:
        return (0,)
    if image.format == "MPO":
        entries = getattr(image, "mpinfo", {}).get(0xB002, [])
        return (0, 1) if all(e["Attribute"]["MPType"] == DISPARITY for e in entries) else (0,)
    return (0, 1) if image.format == "HEIF" and _has_stereo_pair(path) else (0,)


def _has_stereo_pair(path: Path) -> bool:
    """Return whether the file groups two of its pictures as a stereo pair (`ster` in `grpl`)."""
    with path.open("rb") as file:
        head = file.read(MAX_ITEM_BYTES)
    groups = head.find(b"grpl")
    return groups > 0 and head.find(b"ster", groups) > 0
