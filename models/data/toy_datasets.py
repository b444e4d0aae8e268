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
from models.data.overlap import seen_from, share_seen
from models.data.procedural import Assets, Textures, WorldBatch, generate
from models.data.scenes import Scene
from models.data.textures import load_assets
from models.geometry.camera import Camera, to_pixels
from models.geometry.rigid import invert

INDEX = "evaluation.json"
_QUALITY = 95  # of JPEGs
_DIFFICULTIES = {"large": "easy", "medium": "medium", "small": "hard", "ignore": "easy"}
_LOOKED_AT = 40  # pairs of frames whose overlap is measured to choose one
_OFF_CENTER = 4  # pixels cut from the right and the bottom, where a principal point is not central


@dataclass(frozen=True, kw_only=True)
class Making:
    """How much is made."""

    scenes: int = 4  # for each stage
    frames: int = 8
    size: tuple[int, int] = (256, 320)  # (height, width) of the images
    targets: int = 3
    seed: int = 0


@dataclass(frozen=True)
class MadeScene:
    """Frames along a path, with what photos do not tell: depth."""

    scene: Scene
    depth: Float[Tensor, "frame height width"]


@dataclass(frozen=True)
class MadePair:
    """Two frames that overlap by about as much as was drawn, and frames between them."""

    context: tuple[int, int]
    targets: tuple[int, ...]
    overlap: float  # share of what either shows that the other shows too, whichever is less


def choose_assets(
    textures: Path | None, panoramas: Path | None, meshes: Path | None, seed: int
) -> Assets:
    """A few of the textures, and all else, that worlds are made of; see `load_assets`."""
    generator = torch.Generator().manual_seed(seed)
    count, size = (20, 64) if textures is None else (200, 128)
    return load_assets(textures, panoramas, meshes, count, size, generator)


def make_chunks(root: Path, making: Making, textures: Textures) -> None:
    """Write chunks of both stages into a folder, and the list of what is tested on, `INDEX`."""
    index: dict[str, Any] = {}

    def noted(stage: str) -> Iterator[Scene]:
        for made in _make_scenes(making, stage, textures, making.size):
            if stage == "test":
                pair = _choose_pair(made, making)
                index[made.scene.key] = {
                    "context": pair.context, "target": pair.targets, "overlap": pair.overlap
                }  # fmt: skip
            yield made.scene

    for stage in ("train", "test"):
        (root / stage).mkdir()
        write_chunks(noted(stage), root / stage)
    (root / INDEX).write_text(json.dumps(index), encoding="utf-8")


def make_scannet(root: Path, making: Making, textures: Textures) -> None:
    """Write a folder like that of ScanNet-1500, with a principal point that is off center."""
    height, width = making.size
    larger = height + _OFF_CENTER, width + _OFF_CENTER
    names, poses = [], []
    for number, made in enumerate(_make_scenes(making, "test", textures, larger), start=707):
        scene, pair = made.scene, _choose_pair(made, making)
        first, second = pair.context
        folder = root / "scans_test" / f"scene{number:04d}_00"
        (folder / "color").mkdir(parents=True)
        (folder / "intrinsic").mkdir()
        for frame in pair.context:
            pixels = np.array(Image.open(io.BytesIO(scene.images[frame].numpy().tobytes())))
            cut = Image.fromarray(pixels[:height, :width])
            cut.save(folder / "color" / f"{frame}.jpg", quality=_QUALITY)
        camera = np.eye(4)
        camera[:3, :3] = to_pixels(scene.intrinsics[0].double(), larger).numpy()
        np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", camera)
        relative = scene.world2cam[second].double() @ invert(scene.world2cam[first].double())
        names.append([number, 0, first, second])
        poses.append(relative[:3].flatten().numpy())
    np.savez(root / "test.npz", name=np.array(names), rel_pose=np.stack(poses))


def make_pairs(root: Path, making: Making, textures: Textures) -> None:
    """Write photos and a `pairs.json` beside them."""
    entries = []
    (root / "images").mkdir()
    for made in _make_scenes(making, "test", textures, making.size):
        pair, key = _choose_pair(made, making), made.scene.key
        frames = [*pair.context, *pair.targets]
        photos = [_photo_entry(made.scene, frame, making.size) for frame in frames]
        for photo, frame in zip(photos, frames, strict=True):
            (root / photo["image"]).write_bytes(made.scene.images[frame].numpy().tobytes())
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


def find_overlap(made: MadeScene, first: int, second: int) -> float:
    """Share of the pixels that show something which the other frame shows too, unoccluded.

    The smaller share of the two frames.
    """
    size = (made.depth.shape[-2], made.depth.shape[-1])
    cameras = Camera(made.scene.intrinsics, made.scene.world2cam, size)
    frames = [(made.depth[frame], cameras[frame]) for frame in (first, second)]
    return min(share_seen(seen_from(*frames[at], *frames[1 - at]), frames[at][0]) for at in (0, 1))


def _make_scenes(
    making: Making,
    stage: str,
    textures: Textures,
    size: tuple[int, int],
) -> Iterator[MadeScene]:
    """Worlds whose views all have the same intrinsics, as one camera would."""
    generator = torch.Generator().manual_seed(2 * making.seed + (stage == "test"))
    made = 0
    while made < making.scenes:
        worlds = generate(1, making.frames, size, textures, generator, textures.device)
        intrinsics = worlds.cameras.intrinsics[0]
        if torch.equal(intrinsics, intrinsics[:1].expand_as(intrinsics)):
            yield _along_a_path(worlds, f"{stage}-{made:03d}")
            made += 1


def _along_a_path(worlds: WorldBatch, key: str) -> MadeScene:
    """The views of a world in the order in which they lie from one side to the other."""
    cameras = worlds.cameras[0].to(torch.device("cpu"))
    centers = cameras.center - cameras.center.mean(0)
    axis = torch.linalg.svd(centers, full_matrices=False).Vh[0]
    order = (centers @ axis).argsort()
    images = [_encode(worlds.images[0, view]) for view in order.tolist()]
    scene = Scene(key, tuple(images), cameras.intrinsics[order], cameras.world2cam[order])
    return MadeScene(scene, worlds.depth[0, order].cpu())


def _choose_pair(made: MadeScene, making: Making) -> MadePair:
    """Frames with targets between them whose overlap is nearest to one drawn for this scene."""
    rng = np.random.default_rng([making.seed, *made.scene.key.encode()])
    wanted = rng.uniform(0.1, 0.8)
    gap = making.targets + 1
    candidates = [
        (left, right)
        for left in range(making.frames - gap)
        for right in range(left + gap, making.frames)
    ]
    looked_at = rng.permutation(len(candidates))[:_LOOKED_AT]
    pairs = [MadePair(candidates[at], (), find_overlap(made, *candidates[at])) for at in looked_at]
    best = min(pairs, key=lambda pair: abs(pair.overlap - wanted))
    left, right = best.context
    between = np.linspace(left, right, making.targets + 2)[1:-1].round().astype(int)
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
    Image.fromarray(pixels).save(file, "JPEG", quality=_QUALITY)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
