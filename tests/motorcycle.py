"""A real pair of photos: the Middlebury 2014 motorcycle, rectified, as scikit-image ships it."""

from pathlib import Path

from PIL import Image

from nps_cli.demo import default_pair

SIZE = (250, 370)  # height, width: half of the original, for speed


def write_small_pair(folder: Path) -> list[str]:
    """Write both photos, reduced, and their calibration; return the arguments that name them."""
    arguments = default_pair(folder)
    for photo in arguments[:2]:
        with Image.open(photo) as image:
            reduced = image.convert("RGB").resize(SIZE[::-1], Image.Resampling.BOX)
        reduced.save(photo)
    return arguments
