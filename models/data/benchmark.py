"""The published evaluation lists: which frames of which scenes are shown and predicted."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.data.chunks import open_chunk, read_index
from models.data.examples import check_fov, normalize_poses
from models.data.pairs import PhotoPair, PosedPhoto
from models.data.report import Report
from models.data.scenes import Scene, evenly, read_size
from models.data.settings import DataSettings
from models.files.json_reader import read_json
from models.geometry.camera import Camera
from models.geometry.checks import find_bad_cameras
from models.geometry.rigid import invert


def overlap_bin(overlap: float) -> str:
    """Return the published bin of an overlap, compared in float32; "medium" below 0.05 too."""
    value = np.float32(overlap)
    if np.float32(0.05) <= value <= np.float32(0.3):
        return "small"
    if value <= np.float32(0.55):
        return "medium"
    return "large" if value <= np.float32(0.8) else "ignore"


def load_benchmark(
    root: Path,
    index: Path,
    settings: DataSettings,
    report: Report,
    views: int = 2,
    limit: int | None = None,
) -> list[PhotoPair]:
    """Read the pairs that an evaluation index names from the chunks in `root/test`.

    The index is `{key: null | {"context": [a, b], "target": [...], "overlap": number}}`. Photos
    are not decoded yet; poses are those of the data set, relative to the first view's camera, so
    that the published unit is the distance to the last view. `difficulty` is the overlap's bin.

    Args:
        root: Of the data set.
        index: The list, a JSON file.
        settings: Of the data set; its filters hold.
        report: Grows by "pair"s used and skipped.
        views: More than two are spread evenly between the two that the index names.
        limit: At most so many, evenly spread over the index.

    Raises:
        ValueError: If the index or the data set cannot be read at all.
    """
    entries = _load_entries(index)
    if limit is not None:
        entries = {key: entries[key] for key in evenly(list(entries), limit)}
    folder = root / "test"
    chunks = read_index(folder, report)
    for key in entries.keys() - {key for keys in chunks.values() for key in keys}:
        report.skip("pair", key, f"no chunk in {folder} has its scene")
    pairs: dict[str, PhotoPair] = {}
    for name in chunks:
        keys = [key for key in chunks[name] if key in entries]
        if not keys:
            continue
        chunk = open_chunk(folder / name)
        report.skipped.update(chunk.skipped)
        for key in keys:
            try:
                if key not in chunk.scenes:
                    raise ValueError(f"its scene is not in {name}, or cannot be read there")
                scene = chunk.scenes[key]
                pairs[key] = _parse_pair(entries[key], scene, folder / name, settings, views)
            except ValueError as error:
                report.skip("pair", key, str(error))
    report.use("pair", len(pairs))
    return [pairs[key] for key in entries if key in pairs]


def spread_views(first: int, last: int, views: int) -> tuple[int, ...]:
    """Space frames evenly from first to last, in float32 and truncated."""
    return tuple(torch.linspace(first, last, views).long().tolist())


def _load_entries(path: Path) -> dict[str, dict[str, Any]]:
    """Read the scenes of an index that are to be evaluated."""
    index = read_json(path)
    if not isinstance(index, dict) or not all(
        entry is None or (isinstance(entry, dict) and {"context", "target"} <= entry.keys())
        for entry in index.values()
    ):
        raise ValueError(f"{path} does not map keys to `context` and `target` frames")
    return {key: entry for key, entry in index.items() if entry is not None}


def _parse_pair(
    entry: dict[str, Any], scene: Scene, chunk: Path, settings: DataSettings, views: int
) -> PhotoPair:
    context, targets = _parse_frames(entry["context"]), _parse_frames(entry["target"])
    if len(context) not in (2, views):
        raise ValueError(f"its index names {len(context)} context frames")
    if views > len(context):
        context = list(spread_views(context[0], context[1], views))
    frames = [*context, *targets]
    missing = [frame for frame in frames if not 0 <= frame < len(scene)]
    if missing:
        raise ValueError(f"its index names frame {missing[0]}, but there are {len(scene)}")
    bad = find_bad_cameras(scene.intrinsics[frames], scene.world2cam[frames])
    if bad:
        place, why = min(bad.items())
        raise ValueError(f"frame {frames[place]}: {why}")
    check_fov(scene.intrinsics[frames], settings.max_fov_deg)
    normalize_poses(scene.world2cam[frames], len(context), settings.baselines)
    photos = [_find_photo(scene, frame, frames[0], chunk, settings) for frame in frames]
    overlap = entry.get("overlap")
    if not isinstance(overlap, float):  # as the published code: words stand for numbers
        overlap = 0.75 if overlap == "large" else 0.25
    if not 0 <= overlap <= 1:
        raise ValueError(f"its overlap is {overlap:g}")
    return PhotoPair(
        id=scene.key,
        scene=scene.key,
        difficulty=overlap_bin(overlap),
        low_parallax=False,
        views=tuple(photos[: len(context)]),
        targets=tuple(photos[len(context) :]),
        overlap=overlap,
    )


def _find_photo(
    scene: Scene, frame: int, first: int, chunk: Path, settings: DataSettings
) -> PosedPhoto:
    try:
        size = read_size(scene.images[frame])
        settings.check_size(size)
    except ValueError as error:
        raise ValueError(f"frame {frame}: {error}") from error
    relative = scene.world2cam[frame].double() @ invert(scene.world2cam[first].double())
    world2cam = torch.eye(4) if frame == first else relative.float()
    return PosedPhoto(
        chunk, Camera(scene.intrinsics[frame], world2cam, size), frame=(scene.key, frame)
    )


def _parse_frames(numbers: Any) -> list[int]:
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise ValueError(f"its index names frames {numbers!r}")
    return numbers
