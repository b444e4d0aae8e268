"""Checks of a whole data set."""

from collections.abc import Iterator
from pathlib import Path

from models.data.benchmark import load_benchmark
from models.data.chunks import INDEX, STAGES, open_chunk, read_index
from models.data.pairs import PhotoPair, load_pairs
from models.data.report import Report
from models.data.scannet import LIST, load_scannet
from models.data.scenes import Scene, decode, read_size
from models.data.settings import SETTINGS
from models.geometry.checks import find_bad_cameras

_PAIRS = "pairs.json"


def check_dataset(
    path: Path, index: Path | None, dataset: str, report: Report, *, whole: bool
) -> Iterator[str]:
    """Read a data set of any layout as training and evaluation do, one part at a step.

    Args:
        path: A data set of chunks, a folder like ScanNet-1500's, or a list of pairs or its folder.
        index: Check only the pairs that this evaluation index names.
        dataset: Name of the settings that hold for the index.
        report: Grows by "chunk"s, "scene"s, "frame"s and "photo"s used and skipped.
        whole: Decode all images of chunks, rather than their headers.

    Yields:
        The name of the part that comes next.

    Raises:
        ValueError: If there is no data set, or a list or an index cannot be read.
    """
    if path.is_file() or (path / _PAIRS).exists():
        yield from _check_photos(load_pairs(path if path.is_file() else path / _PAIRS), report)
    elif (path / LIST).exists():
        yield from _check_photos(load_scannet(path, report), report)
    elif index is not None:
        if dataset not in SETTINGS:
            raise ValueError(f"{dataset!r} is none of {', '.join(SETTINGS)}.")
        yield from _check_photos(load_benchmark(path, index, SETTINGS[dataset], report), report)
    else:
        stages = [path / stage for stage in STAGES if any((path / stage).glob("*.torch"))]
        if not stages:
            raise ValueError(f"{path} holds no chunks in train or test, and no {LIST}")
        for folder in stages:
            yield from _check_chunks(folder, report, whole)


def _check_chunks(folder: Path, report: Report, whole: bool) -> Iterator[str]:
    """Read every chunk, camera and image header in the folder of a stage, one chunk at a step."""
    indexed = (folder / INDEX).exists()
    for name, keys in read_index(folder, report).items():
        yield name
        chunk = open_chunk(folder / name)
        report.skipped.update(chunk.skipped)
        report.use("chunk", not any(skipped.kind == "chunk" for skipped in chunk.skipped))
        where = f"{folder.name}/{name}"
        for key in set(keys) - chunk.scenes.keys():
            report.skip("scene", f"{where}:{key}", f"{INDEX} says it is here")
        for key, scene in chunk.scenes.items():
            if indexed and key not in keys:
                report.skip("scene", f"{where}:{key}", f"not here by {INDEX}")
            else:
                report.use("scene")
                _check_frames(scene, f"{where}:{key}", report, whole)


def _check_photos(pairs: list[PhotoPair], report: Report) -> Iterator[str]:
    """Decode every photo of a list of pairs, one pair at a step."""
    for pair in pairs:
        yield pair.id
        for photo in (*pair.views, *pair.targets):
            try:
                photo.load()
                report.use("photo")
            except ValueError as error:
                report.skip("photo", f"{pair.id}:{photo.name}", str(error))


def _check_frames(scene: Scene, where: str, report: Report, whole: bool) -> None:
    bad = find_bad_cameras(scene.intrinsics, scene.world2cam)
    for frame, encoded in enumerate(scene.images):
        if frame not in bad:
            try:
                decode(encoded) if whole else read_size(encoded)
                report.use("frame")
                continue
            except ValueError as error:
                bad[frame] = str(error)
        report.skip("frame", f"{where}:{frame}", bad[frame])
