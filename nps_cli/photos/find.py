"""Find photos in a folder, or by a pattern such as photos/*.jpg."""

import glob
import re
from pathlib import Path

from nps_cli.console import count_of
from nps_cli.errors import NpsError

PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".mpo"),
    *(".heic", ".heif", ".hif", ".avif"),
)
MAX_NAMED = 3


def is_pattern(path: Path) -> bool:
    """Return True if a path is a pattern, and no file of that very name exists."""
    return glob.has_magic(str(path)) and not path.exists()


def find_photos(source: Path) -> list[Path]:
    """Return the photos of a folder, hidden files and subfolders left out, or of a pattern.

    They are in the order of their names, numbers counted as such: frame_9 before frame_10. Raises
    NpsError where there are fewer than two.
    """
    found = [Path(name) for name in glob.glob(str(source), recursive=True)]
    if not is_pattern(source):
        try:
            found = [path for path in source.iterdir() if not path.name.startswith(".")]
        except OSError as error:
            raise NpsError(f"{source}: {error.strerror}.", hint="Check the path.") from error
    photos = [path for path in found if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()]
    if len(photos) < 2:
        raise NpsError(
            f"{source} holds {count_of(len(photos), 'photo')}.",
            hint=_advice(source, sorted(found)),
        )
    return sorted(photos, key=natural_order)


def natural_order(path: Path) -> list[tuple[int, str]]:
    """Split a path so that its numbers sort by value."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _advice(source: Path, found: list[Path]) -> str:
    folders = [path for path in found if path.is_dir()]
    if folders:
        named = ", ".join(path.name for path in folders[:MAX_NAMED])
        return f"It has folders ({named}): name one, or reconstruct all with `nps batch`."
    if found and not is_pattern(source):
        named = ", ".join(path.name for path in found[:MAX_NAMED])
        return f"It holds {named}. Give a folder with two or more photos, or a video."
    return "Give two or more photos of one place, their folder, or a video."
