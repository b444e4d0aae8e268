"""Small valid data sets from procedural worlds: nothing to download, cameras and depth exact."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from models.data.benchmark import overlap_bin
from models.data.chunks import write_chunks
from models.data.overlap import overlap
from models.data.procedural import Assets, Textures, WorldBatch, generate
from models.data.scenes import Scene
from models.data.textures import load_assets
from models.geometry.camera import to_pixels
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import invert

INDEX = "evaluation.json"
_JPEG_QUALITY = 95
_DIFFICULTIES = {"large": "easy", "medium": "medium", "small": "hard", "ignore": "easy"}
_MAX_CANDIDATES = 40  # pairs of frames whose overlap is measured to choose one
_CUT_PX = 4  # from the right and the bottom, so that the principal point is off center


@dataclass(frozen=True, kw_only=True)
class ToyOptions:
    """Size of a toy data set."""

    scenes: int = 4  # for each stage
    frames: int = 8
    size: tuple[int, int] = (256, 320)  # (height, width) of the images
    targets: int = 3
    seed: int = 0


@dataclass(frozen=True)
class ToyScene:
    """Frames along a path, encoded, and with exact depth."""

    scene: Scene
    frames: tuple[DepthMap, ...]


@dataclass(frozen=True)
class ToyPair:
    """Two frames that overlap by about a sampled share, and frames between them."""

    context: tuple[int, int]
    targets: tuple[int, ...]
    overlap: float


def choose_assets(
    textures: Path | None, panoramas: Path | None, meshes: Path | None, seed: int
) -> Assets:
    """Load a few of the textures, and all else; see `load_assets`."""
    generator = torch.Generator().manual_seed(seed)
    count, size = (20, 64) if textures is None else (200, 128)
    return load_assets(textures, panoramas, meshes, count, size, generator)


def make_chunks(root: Path, options: ToyOptions, textures: Textures) -> None:
    """Write chunks of both stages into a folder, and an evaluation index."""
    index: dict[str, Any] = {}

    def indexed(stage: str) -> Iterator[Scene]:
        for toy in _generate_scenes(options, stage, textures, options.size):
            if stage == "test":
                pair = _choose_pair(toy, options)
                index[toy.scene.key] = {
                    "context": pair.context, "target": pair.targets, "overlap": pair.overlap
                }  # fmt: skip
            yield toy.scene

    for stage in ("train", "test"):
        (root / stage).mkdir()
        write_chunks(indexed(stage), root / stage)
    (root / INDEX).write_text(json.dumps(index), encoding="utf-8")


def make_scannet(root: Path, options: ToyOptions, textures: Textures) -> None:
    """Write a folder like that of ScanNet-1500, with a principal point that is off center."""
    height, width = options.size
    larger = height + _CUT_PX, width + _CUT_PX
    names, poses = [], []
    for number, toy in enumerate(_generate_scenes(options, "test", textures, larger), start=707):
        scene, pair = toy.scene, _choose_pair(toy, options)
        first, second = pair.context
        folder = root / "scans_test" / f"scene{number:04d}_00"
        (folder / "color").mkdir(parents=True)
        (folder / "intrinsic").mkdir()
        for frame in pair.context:
            pixels = np.array(Image.open(io.BytesIO(scene.images[frame].numpy().tobytes())))
            cut = Image.fromarray(pixels[:height, :width])
            cut.save(folder / "color" / f"{frame}.jpg", quality=_JPEG_QUALITY)
        camera = np.eye(4)
        camera[:3, :3] = to_pixels(scene.intrinsics[0].double(), larger).numpy()
        np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", camera)
        relative = scene.world2cam[second].double() @ invert(scene.world2cam[first].double())
        names.append([number, 0, first, second])
        poses.append(relative[:3].flatten().numpy())
    np.savez(root / "test.npz", name=np.array(names), rel_pose=np.stack(poses))


def make_pairs(root: Path, options: ToyOptions, textures: Textures) -> None:
    """Write photos and a `pairs.json` beside them."""
    entries = []
    (root / "images").mkdir()
    for toy in _generate_scenes(options, "test", textures, options.size):
        pair, key = _choose_pair(toy, options), toy.scene.key
        frames = [*pair.context, *pair.targets]
        photos = [_photo_entry(toy.scene, frame, options.size) for frame in frames]
        for photo, frame in zip(photos, frames, strict=True):
            (root / photo["image"]).write_bytes(toy.scene.images[frame].numpy().tobytes())
        shown, targets = photos[:2], photos[2:]
        entries.append(
            {
                "id": key,
                "scene": key,
                "difficulty": _DIFFICULTIES[overlap_bin(pair.overlap)],
                "images": [photo["image"] for photo in shown],
                **{name: [photo[name] for photo in shown] for name in ("size", "K", "w2c")},
                "targets": targets,
            }
        )
    (root / "pairs.json").write_text(json.dumps(entries), encoding="utf-8")


def _generate_scenes(
    options: ToyOptions,
    stage: str,
    textures: Textures,
    size: tuple[int, int],
) -> Iterator[ToyScene]:
    """Generate worlds whose views all have the same intrinsics, as those of one camera."""
    generator = torch.Generator().manual_seed(2 * options.seed + (stage == "test"))
    count = 0
    while count < options.scenes:
        worlds = generate(1, options.frames, size, textures, generator, textures.device)
        intrinsics = worlds.cameras.intrinsics[0]
        if torch.equal(intrinsics, intrinsics[:1].expand_as(intrinsics)):
            yield _along_a_path(worlds, f"{stage}-{count:03d}")
            count += 1


def _along_a_path(worlds: WorldBatch, key: str) -> ToyScene:
    """Order the views of a world along the principal axis of their centers."""
    cameras = worlds.cameras[0].to(torch.device("cpu"))
    centers = cameras.center - cameras.center.mean(0)
    axis = torch.linalg.svd(centers, full_matrices=False).Vh[0]
    order = (centers @ axis).argsort()
    frames = tuple(worlds.depth_map(0, view) for view in order.tolist())
    images = tuple(_encode(frame.image) for frame in frames)
    scene = Scene(key, images, cameras.intrinsics[order], cameras.world2cam[order])
    return ToyScene(scene, frames)


def _choose_pair(toy: ToyScene, options: ToyOptions) -> ToyPair:
    """Choose two frames, with room for targets, whose overlap is nearest to a sampled one."""
    rng = np.random.default_rng([options.seed, *toy.scene.key.encode()])
    wanted = rng.uniform(0.1, 0.8)
    gap = options.targets + 1
    candidates = [
        (left, right)
        for left in range(options.frames - gap)
        for right in range(left + gap, options.frames)
    ]
    chosen = rng.permutation(len(candidates))[:_MAX_CANDIDATES]
    frames = toy.frames
    pairs = [
        ToyPair((left, right), (), overlap(frames[left], frames[right]))
        for left, right in (candidates[index] for index in chosen)
    ]
    best = min(pairs, key=lambda pair: abs(pair.overlap - wanted))
    left, right = best.context
    between = np.linspace(left, right, options.targets + 2)[1:-1].round().astype(int)
    return replace(best, targets=tuple(between.tolist()))


def _photo_entry(scene: Scene, frame: int, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "image": f"images/{scene.key}_{frame:05d}.jpg",
        "size": [size[1], size[0]],
        "K": to_pixels(scene.intrinsics[frame], size).tolist(),
        "w2c": scene.world2cam[frame].tolist(),
    }


def _encode(image: Float[Tensor, "3 height width"]) -> UInt8[Tensor, " _bytes"]:
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=_JPEG_QUALITY)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
