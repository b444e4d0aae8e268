"""Rescaling and cropping to the network's size, exactly as the published pre-processing does."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from models.geometry.camera import Camera


def rescale_and_crop(
    image: Image.Image, size: tuple[int, int], *, flip: bool = False
) -> UInt8[Tensor, "3 height width"]:
    """Shrink an RGB image until it just covers (height, width), and crop its center.

    Through 8 bits with Pillow's LANCZOS filter, along x, then along y: Pillow 13 turns that order
    round for tall images, and no version did when the published networks were trained.

    Args:
        image: The image.
        size: (height, width) of the result.
        flip: Mirror the image from left to right before that.

    Raises:
        ValueError: If the image is smaller than the result.
    """
    (rows, columns), left, top = _plan((image.height, image.width), size)
    if flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    resized = image.resize((columns, image.height), Image.Resampling.LANCZOS)
    resized = resized.crop((left, 0, left + size[1], image.height))
    resized = resized.resize((size[1], rows), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(resized)[top : top + size[0]]).permute(2, 0, 1).contiguous()


def crop_camera(camera: Camera, size: tuple[int, int], *, move_center: bool) -> Camera:
    """Return the camera of the image that `rescale_and_crop` makes.

    Published: the principal point's normalized coordinates stay as they are, as if it were in the
    middle. With `move_center` its offset from there grows with the crop, as it does in truth.
    """
    (height, width), _, _ = _plan(camera.size, size)
    intrinsics = camera.intrinsics.clone()
    factors = intrinsics.new_tensor([width / size[1], height / size[0]])
    intrinsics[..., :2, :2] *= factors[:, None]
    if move_center:
        intrinsics[..., :2, 2] = 0.5 + (camera.intrinsics[..., :2, 2] - 0.5) * factors
    return replace(camera, intrinsics=intrinsics, size=size)


def _plan(old: tuple[int, int], size: tuple[int, int]) -> tuple[tuple[int, int], int, int]:
    """Return the size of the whole rescaled image, and the crop's left and top in it."""
    if old[0] < size[0] or old[1] < size[1]:
        raise ValueError(
            f"the image is {old[1]}x{old[0]}, smaller than {size[1]}x{size[0]}, "
            "and is never enlarged"
        )
    scale = max(size[0] / old[0], size[1] / old[1])
    height, width = round(old[0] * scale), round(old[1] * scale)
    return (height, width), (width - size[1]) // 2, (height - size[0]) // 2
