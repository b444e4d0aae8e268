"""Looking through a whole data set for what is bad in it."""

from collections.abc import Iterator
from pathlib import Path

from models.data.chunks import INDEX, STAGES, open_chunk, read_index
from models.data.pairs import PhotoPair
from models.data.report import Report
from models.data.scenes import Scene, decode, find_bad_frames, read_size


def find_stages(root: Path) -> list[Path]:
    """The folders of a data set that hold chunks."""
    return [root / stage for stage in STAGES if any((root / stage).glob("*.torch"))]


def check_chunks(folder: Path, report: Report, *, whole: bool) -> Iterator[str]:
    """Read every chunk, camera and image header in a folder of chunks, one chunk at a step.

    Args:
        folder: Of one stage.
        report: Grows by "chunk"s, "scene"s and "frame"s used and skipped.
        whole: Decode all images, rather than their headers.

    Yields:
        The name of the chunk that comes next.

    Raises:
        ValueError: If there is no chunk, or the index is none.
    """
    indexed = (folder / INDEX).exists()
    for name, keys in read_index(folder, report).items():
        yield name
        chunk = open_chunk(folder / name)
        report.skipped.update(chunk.skipped)
        report.use("chunk", not any(skipped.kind == "chunk" for skipped in chunk.skipped))
        for key in set(keys) - chunk.scenes.keys():
            report.skip("scene", f"{folder.name}/{name}:{key}", f"{INDEX} says it is here")
        for key, scene in chunk.scenes.items():
            if indexed and key not in keys:
                report.skip("scene", f"{folder.name}/{name}:{key}", f"not here by {INDEX}")
            else:
                report.use("scene")
                _check_frames(scene, f"{folder.name}/{name}:{key}", report, whole=whole)


def check_photos(pairs: list[PhotoPair], report: Report) -> Iterator[str]:
    """Decode every photo of a list of pairs, one pair at a step.

    Args:
        pairs: The list.
        report: Grows by "photo"s used and skipped.

    Yields:
        The id of the pair that comes next.
    """
    for pair in pairs:
        yield pair.id
        for photo in (*pair.views, *pair.targets):
            try:
                photo.load()
                report.use("photo")
            except ValueError as error:
                report.skip("photo", f"{pair.id}:{photo.name}", str(error))


def _check_frames(scene: Scene, where: str, report: Report, *, whole: bool) -> None:
    bad = find_bad_frames(scene.intrinsics, scene.world2cam)
    for frame, encoded in enumerate(scene.images):
        if frame not in bad:
            try:
                decode(encoded) if whole else read_size(encoded)
                report.use("frame")
                continue
            except ValueError as error:
                bad[frame] = str(error)
        report.skip("frame", f"{where}:{frame}", bad[frame])
