"""`.torch` chunks of encoded sequences, as RE10K, ACID, DL3DV, DTU and ScanNet++ are published.

`root/{train,test}/NNNNNN.torch` hold about 100 MB each: a list of dicts with `key`, `url`,
`timestamps`, `cameras` (per frame: fx, fy, cx, cy, normalized; two zeros; 3x4 world-to-camera by
rows) and `images` (encoded bytes). `root/{train,test}/index.json` tells which chunk has a key.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.report import Report, Skipped
from models.data.scenes import Scene
from models.files.json_reader import read_json
from models.files.pickled import has_own_elements, read_pickled

INDEX = "index.json"
STAGES = ("train", "test")
_NUMBERS_PER_CAMERA = 18
_MAX_OPEN_CHUNKS = 8  # per process; images stay on disk until they are decoded


@dataclass(frozen=True)
class Chunk:
    """The scenes of a chunk, by key, and what could not be read."""

    scenes: dict[str, Scene]
    skipped: tuple[Skipped, ...]


@lru_cache(maxsize=_MAX_OPEN_CHUNKS)
def open_chunk(path: Path) -> Chunk:
    """Read the cameras of a chunk; images are mapped into memory and read when they are needed.

    Runs no code: a pickle that wants to is refused. Never raises for what is in the file.
    """
    name = "/".join(path.parts[-2:])
    try:
        entries = read_pickled(path)
        why = f"it holds a {type(entries).__name__}, not a list of scenes"
    except (OSError, ValueError) as error:
        entries, why = None, f"it is truncated or not a chunk: {error}"
    if not isinstance(entries, list):
        return Chunk({}, (Skipped("chunk", name, why),))
    scenes: dict[str, Scene] = {}
    skipped = []
    for place, entry in enumerate(entries):
        key = entry.get("key", place) if isinstance(entry, dict) else place
        try:
            scene = _parse(entry)
            if scene.key in scenes:
                raise ValueError("its key is there twice")
            scenes[scene.key] = scene
        except (KeyError, TypeError, ValueError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            skipped.append(Skipped("scene", f"{name}:{key}", why))
    return Chunk(scenes, tuple(skipped))


def read_index(folder: Path, report: Report) -> dict[str, list[str]]:
    """Read the keys of every chunk in a folder, by the chunk's file name, in order of names.

    Without an `index.json` every chunk is opened. What the index names but is not there is skipped.

    Raises:
        ValueError: If there is no chunk, or the index cannot be understood.
    """
    files = sorted(path.name for path in folder.glob("*.torch"))
    if not files:
        raise ValueError(f"{folder} holds no .torch chunks")
    path = folder / INDEX
    if not path.exists():
        chunks = {name: open_chunk(folder / name) for name in files}
        for chunk in chunks.values():
            report.skipped.update(chunk.skipped)
        return {name: sorted(chunk.scenes) for name, chunk in chunks.items()}
    keys: dict[str, list[str]] = {name: [] for name in files}
    for key, name in _load_index(path).items():
        if name in keys:
            keys[name].append(key)
        else:
            report.skip("scene", key, f"{path} says that it is in {name}, which is not there")
    return keys


def write_chunks(
    scenes: Iterable[Scene], folder: Path, chunk_bytes: int = 100_000_000
) -> dict[str, int]:
    """Write scenes as chunks of about this size, and their index.

    Args:
        scenes: Taken one by one; no more than a chunk of them is held in memory.
        folder: Must exist, such as `root/train`; files of the same names are replaced.
        chunk_bytes: A chunk ends with the scene that reaches this size.

    Returns:
        The number of frames of each scene, by its key.

    Raises:
        ValueError: If two scenes have one key.
    """
    index: dict[str, str] = {}
    frames: dict[str, int] = {}
    waiting: list[dict[str, Any]] = []
    size = written = 0

    def flush() -> None:
        nonlocal size, written
        torch.save(waiting, folder / f"{written:06d}.torch")
        waiting.clear()
        size, written = 0, written + 1

    for scene in scenes:
        if scene.key in index:
            raise ValueError(f"two scenes have the key {scene.key}")
        index[scene.key], frames[scene.key] = f"{written:06d}.torch", len(scene)
        waiting.append(_to_entry(scene))
        size += sum(len(image) for image in scene.images)
        if size >= chunk_bytes:
            flush()
    if waiting:
        flush()
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    return frames


def _parse(entry: Any) -> Scene:
    if not isinstance(entry, dict):
        raise TypeError(f"it is a {type(entry).__name__}, not a dict")
    key, cameras, images = entry["key"], entry["cameras"], entry["images"]
    if not isinstance(key, str) or not isinstance(images, list):
        raise TypeError("its key is no text, or its images are no list")
    if not isinstance(cameras, Tensor) or cameras.shape != (len(images), _NUMBERS_PER_CAMERA):
        shape = list(getattr(cameras, "shape", ()))
        raise ValueError(f"it has {len(images)} images, but cameras of shape {shape}")
    if not cameras.is_floating_point() or not has_own_elements(cameras):
        raise ValueError("its cameras are not numbers, or fewer than it says")
    for image in images:
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 1:
            raise TypeError("an image is not a row of bytes")
        if not has_own_elements(image):
            raise ValueError("an image is larger than the bytes that it has")
    return Scene(key, images, *_from_rows(cameras.float()))


def _from_rows(
    rows: Float[Tensor, "frame 18"],
) -> tuple[Float[Tensor, "frame 3 3"], Float[Tensor, "frame 4 4"]]:
    intrinsics = torch.eye(3).repeat(len(rows), 1, 1)
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = rows[:, 0], rows[:, 1]
    intrinsics[:, :2, 2] = rows[:, 2:4]
    world2cam = torch.eye(4).repeat(len(rows), 1, 1)
    world2cam[:, :3] = rows[:, 6:].unflatten(1, (3, 4))
    return intrinsics, world2cam


def _to_entry(scene: Scene) -> dict[str, Any]:
    rows = torch.zeros(len(scene), _NUMBERS_PER_CAMERA)
    rows[:, :2] = scene.intrinsics.diagonal(dim1=1, dim2=2)[:, :2]
    rows[:, 2:4] = scene.intrinsics[:, :2, 2]
    rows[:, 6:] = scene.world2cam[:, :3].flatten(1)
    return {
        "url": "",
        "timestamps": torch.arange(len(scene)),
        "cameras": rows,
        "images": [image.clone() for image in scene.images],  # a slice would save all it is cut of
        "key": scene.key,
    }


def _load_index(path: Path) -> dict[str, str]:
    index = read_json(path)
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise ValueError(f"{path} does not map keys to names of chunks")
    return index
