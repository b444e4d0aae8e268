"""Photos and videos of a wall with a card before it, by a camera that moves to the right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from two_planes_scene import INTRINSICS, SIZE, raytrace

from models.geometry.camera import Camera
from models.geometry.views import View, resize

DISTANCE = 3.0  # of the wall


def image_at(x: float, blur: int = 1) -> Tensor:
    """The picture from x to the right, reduced by `blur` and enlarged again."""
    world2cam = torch.eye(4)
    world2cam[0, 3] = -x
    image = raytrace(world2cam)[0].clamp(0, 1)
    return resize(resize(image, (SIZE[0] // blur, SIZE[1] // blur)), SIZE) if blur > 1 else image


def view_of(image: Tensor) -> View:
    return View(image, Camera(INTRINSICS, torch.eye(4), (image.shape[1], image.shape[2])))


def noise(seed: int) -> Tensor:
    """A picture that shows nothing of any other."""
    coarse = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(seed))
    return resize(coarse, SIZE)


def write_photos(folder: Path, images: Sequence[Tensor]) -> list[Path]:
    """Write photo_1.png, photo_2.png, ... into a new folder."""
    folder.mkdir()
    paths = [folder / f"photo_{number}.png" for number in range(1, len(images) + 1)]
    for path, image in zip(paths, images, strict=True):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, compress_level=1)
    return paths
