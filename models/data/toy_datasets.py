"""Small valid data sets from procedural worlds: nothing to download, cameras and depth exact."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
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
from models.data.procedural import Textures, WorldBatch, generate
from models.data.sampling import Sample, frames_between
from models.data.scenes import Scene, decode, encode_jpeg
from models.geometry.camera import to_pixels
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import invert

INDEX = "evaluation.json"
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


def make_chunks(root: Path, options: ToyOptions, textures: Textures) -> None:
    """Write chunks of both stages into a folder, and an evaluation index."""
    index: dict[str, Any] = {}

    def indexed(stage: str) -> Iterator[Scene]:
        for scene, frames in _generate_scenes(options, stage, textures, options.size):
            if stage == "test":
                pair, share = _choose_pair(scene.key, frames, options)
                entry = {"context": pair.context, "target": pair.targets, "overlap": share}
                index[scene.key] = entry
            yield scene

    for stage in ("train", "test"):
        (root / stage).mkdir()
        write_chunks(indexed(stage), root / stage)
    (root / INDEX).write_text(json.dumps(index), encoding="utf-8")


def make_scannet(root: Path, options: ToyOptions, textures: Textures) -> None:
    """Write a folder like that of ScanNet-1500, with a principal point that is off center."""
    height, width = options.size
    larger = height + _CUT_PX, width + _CUT_PX
    names, poses = [], []
    made = _generate_scenes(options, "test", textures, larger)
    for number, (scene, frames) in enumerate(made, start=707):
        first, second = _choose_pair(scene.key, frames, options)[0].context
        folder = root / "scans_test" / f"scene{number:04d}_00"
        (folder / "color").mkdir(parents=True)
        (folder / "intrinsic").mkdir()
        for frame in (first, second):
            cut = encode_jpeg(decode(scene.images[frame]).crop((0, 0, width, height)))
            (folder / "color" / f"{frame}.jpg").write_bytes(cut.numpy().tobytes())
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
    for scene, frames in _generate_scenes(options, "test", textures, options.size):
        pair, share = _choose_pair(scene.key, frames, options)
        photos = []
        for frame in (*pair.context, *pair.targets):
            photo = _photo_entry(scene, frame, options.size)
            (root / photo["image"]).write_bytes(scene.images[frame].numpy().tobytes())
            photos.append(photo)
        entries.append({
            "id": scene.key,
            "scene": scene.key,
            "difficulty": _DIFFICULTIES[overlap_bin(share)],
            "images": [photo["image"] for photo in photos[:2]],
            **{name: [photo[name] for photo in photos[:2]] for name in ("size", "K", "w2c")},
            "targets": photos[2:],
        })  # fmt: skip
    (root / "pairs.json").write_text(json.dumps(entries), encoding="utf-8")


def _generate_scenes(
    options: ToyOptions, stage: str, textures: Textures, size: tuple[int, int]
) -> Iterator[tuple[Scene, tuple[DepthMap, ...]]]:
    """Generate worlds whose views all have the same intrinsics, as those of one camera."""
    generator = torch.Generator().manual_seed(2 * options.seed + (stage == "test"))
    count = 0
    while count < options.scenes:
        worlds = generate(1, options.frames, size, textures, generator, textures.device)
        intrinsics = worlds.cameras.intrinsics[0]
        if torch.equal(intrinsics, intrinsics[:1].expand_as(intrinsics)):
            yield _along_a_path(worlds, f"{stage}-{count:03d}")
            count += 1


def _along_a_path(worlds: WorldBatch, key: str) -> tuple[Scene, tuple[DepthMap, ...]]:
    """Order the views of a world along the principal axis of their centers."""
    cameras = worlds.cameras[0].to(torch.device("cpu"))
    centers = cameras.center - cameras.center.mean(0)
    axis = torch.linalg.svd(centers, full_matrices=False).Vh[0]
    order = (centers @ axis).argsort()
    frames = tuple(worlds.depth_map(0, view) for view in order.tolist())
    images = tuple(_encode(frame.image) for frame in frames)
    return Scene(key, images, cameras.intrinsics[order], cameras.world2cam[order]), frames


def _choose_pair(
    key: str, frames: tuple[DepthMap, ...], options: ToyOptions
) -> tuple[Sample, float]:
    """Choose two frames whose overlap is nearest to a sampled one, and targets between them.

    Returns:
        The frames, and the overlap of the two.
    """
    rng = np.random.default_rng([options.seed, *key.encode()])
    wanted = rng.uniform(0.1, 0.8)
    pairs = combinations(range(options.frames), 2)
    candidates = [pair for pair in pairs if pair[1] - pair[0] > options.targets]
    chosen = [candidates[index] for index in rng.permutation(len(candidates))[:_MAX_CANDIDATES]]
    shares = [overlap(frames[left], frames[right]) for left, right in chosen]
    best = int(np.argmin(np.abs(np.array(shares) - wanted)))
    left, right = chosen[best]
    return Sample((left, right), frames_between(left, right, options.targets)), shares[best]


def _photo_entry(scene: Scene, frame: int, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "image": f"images/{scene.key}_{frame:05d}.jpg",
        "size": [size[1], size[0]],
        "K": to_pixels(scene.intrinsics[frame], size).tolist(),
        "w2c": scene.world2cam[frame].tolist(),
    }


def _encode(image: Float[Tensor, "3 height width"]) -> UInt8[Tensor, " _bytes"]:
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return encode_jpeg(Image.fromarray(pixels))
