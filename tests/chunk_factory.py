"""Small chunks for tests: a camera that moves along a wall, photographed as JPEG."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from models.data.chunks import write_chunks
from models.data.scenes import Scene

SHAPE = 36, 64


def encode(pixels: np.ndarray, kind: str = "PNG") -> torch.Tensor:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def make_scene(key: str, frames: int = 12, shape: tuple[int, int] = SHAPE) -> Scene:
    """The first two pixels of a row tell the frame; cameras move by 0.1 to the right and turn."""
    coarse = np.random.default_rng(len(key)).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    wall = np.array(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))
    images = []
    for frame in range(frames):
        moved = np.roll(wall, -frame, axis=1).copy()
        moved[:, :2] = 10 * frame
        images.append(encode(moved))
    intrinsics = torch.tensor([[0.9, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1.0]]).repeat(frames, 1, 1)
    angle = 0.02 * torch.arange(frames)
    world2cam = torch.eye(4).repeat(frames, 1, 1)
    world2cam[:, 0, 0] = world2cam[:, 2, 2] = angle.cos()
    world2cam[:, 0, 2], world2cam[:, 2, 0] = -angle.sin(), angle.sin()
    center = torch.stack([0.1 * torch.arange(frames), 0 * angle, 0 * angle], dim=1)
    world2cam[:, :3, 3] = -(world2cam[:, :3, :3] @ center[..., None])[..., 0]
    return Scene(key, tuple(images), intrinsics, world2cam)


def make_root(root: Path, scenes: int = 4, per_chunk: int = 2, stage: str = "train") -> Path:
    """`scenes` scenes, named a, b, c, ... by chunks of so many."""
    folder = root / stage
    folder.mkdir(parents=True)
    built = [make_scene(chr(ord("a") + place)) for place in range(scenes)]
    size = sum(len(image) for image in built[0].images)
    write_chunks(built, folder, per_chunk * size - size // 2)
    return root
