"""Read what `nps batch` is given: lists, folders, videos and patterns, to named scenes."""

import csv
import glob
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from models.files.regular import read_regular
from nps_cli.errors import NpsError
from nps_cli.formats.video_reader import is_video
from nps_cli.photos.find import PHOTO_SUFFIXES, is_pattern, natural_order

SUMMARY = "batch.json"  # beside the scenes' folders
LIST_SUFFIXES = (".csv", ".tsv", ".txt")
NAME, COMMENT = "name", "#"
MAX_LIST_BYTES, MAX_NAME_BYTES = 2**24, 200


@dataclass(frozen=True)
class Scene:
    """Two or three photos, or one source to choose them from, and a name for the results."""

    name: str
    photos: tuple[Path, ...]


def read_scenes(sources: list[Path]) -> list[Scene]:
    """Return the scenes of all sources, in their order, with distinct names fit for files.

    A list (.csv) has one line per scene. A folder with photos is a scene, as is a video; of a
    folder without, its folders and videos are. Raises NpsError for a source that names no scene.
    """
    scenes: list[Scene] = []
    for source in sources:
        if is_pattern(source):
            found = [Path(name) for name in glob.glob(str(source), recursive=True)]
            found = [path for path in found if path.is_dir() or is_video(path)]
            if not found:
                raise NpsError(
                    f"{source} matches no folder and no video.",
                    hint="Check the pattern; a scene is a folder of photos, or a video.",
                )
            scenes += [Scene(_stem(path), (path,)) for path in sorted(found, key=natural_order)]
        elif source.suffix.lower() in LIST_SUFFIXES:
            scenes += _read_list(source)
        elif source.is_dir():
            scenes += _scenes_of(source)
        elif is_video(source):
            scenes.append(Scene(_stem(source), (source,)))
        else:
            reason = (
                "is no list (.csv), no folder and no video" if source.exists() else "is missing"
            )
            raise NpsError(
                f"{source} {reason}.",
                hint="Give a list with the photos of one scene on each line, or folders.",
            )
    return list(_with_distinct_names(scenes))


def _scenes_of(folder: Path) -> list[Scene]:
    try:
        paths = sorted(folder.iterdir(), key=natural_order)
    except OSError as error:
        raise NpsError(f"{folder}: {error.strerror}.", hint="Check the path.") from error
    paths = [path for path in paths if not path.name.startswith(".")]
    if any(path.suffix.lower() in PHOTO_SUFFIXES for path in paths):
        return [Scene(_stem(folder.resolve()), (folder,))]
    scenes = [Scene(_stem(path), (path,)) for path in paths if path.is_dir() or is_video(path)]
    if not scenes:
        raise NpsError(
            f"{folder} has no photos, folders or videos.",
            hint="Give a list with the photos of one scene on each line, or folders.",
        )
    return scenes


def _read_list(path: Path) -> list[Scene]:
    """Read a list: photos, or a folder or a video, separated by commas, semicolons or tabs.

    Paths are relative to the list. A first line without any of them names the columns; that of
    the column `name` are the scenes' names.
    """
    try:
        text = read_regular(path, MAX_LIST_BYTES).decode("utf-8-sig")
        lines = [line for line in text.splitlines() if line.strip() and line[0] != COMMENT]
        separator = max(",;\t", key="".join(lines[:1]).count)
        read = csv.reader(lines, delimiter=separator, strict=True)
        rows = [[cell.strip() for cell in row] for row in read]
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise NpsError(
            f"{path} cannot be read as a list ({reason}).",
            hint="It is text, with the photos of one scene on each line, separated by commas.",
        ) from error
    names_at = None
    if rows and not any("." in cell or "/" in cell for cell in rows[0]):
        if not any((path.parent / cell).exists() for cell in rows[0] if cell):
            header = [cell.lower() for cell in rows.pop(0)]
            names_at = header.index(NAME) if NAME in header else None
    if not rows:
        raise NpsError(f"{path} lists nothing.", hint="Give a line per scene: left.jpg,right.jpg")
    return [_scene_of(path, row, names_at) for row in rows if any(row)]


def _scene_of(path: Path, row: list[str], names_at: int | None) -> Scene:
    cells = [cell for place, cell in enumerate(row) if cell and place != names_at]
    photos = tuple(path.parent / cell for cell in cells)
    if len(photos) not in (1, 2, 3):
        raise NpsError(
            f"{path}: {len(photos)} photos in the line {','.join(row)!r:.200}.",
            hint="A line has two or three photos, or a folder or video to choose them from.",
        )
    named = row[names_at] if names_at is not None and names_at < len(row) else ""
    return Scene(named or "-".join(map(_stem, photos)), photos)


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.stem


def _with_distinct_names(scenes: list[Scene]) -> Iterator[Scene]:
    """Yield the scenes; of equal names, the later ones are numbered."""
    taken = {SUMMARY}
    for scene in scenes:
        letters = re.sub(r"[^\w.-]", "_", scene.name).encode()[:MAX_NAME_BYTES]
        plain = letters.decode(errors="ignore").strip(".") or "scene"
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.lower())
        yield replace(scene, name=name)
