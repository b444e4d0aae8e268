"""Posed sequences of encoded images, their decoding, and their faults."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from models.files.regular import read_regular

T = TypeVar("T")


@dataclass(frozen=True)
class Scene:
    """Frames of one place, with normalized intrinsics and poses as a file states them.

    No `Camera`: images are decoded one by one, their sizes may differ, and what is stated may be
    no camera at all (see `find_bad_cameras`).
    """

    key: str
    images: Sequence[UInt8[Tensor, " _bytes"]]  # encoded: JPEG, PNG or whatever Pillow reads
    intrinsics: Float[Tensor, "frame 3 3"]
    world2cam: Float[Tensor, "frame 4 4"]

    def __len__(self) -> int:
        return len(self.images)


def decode(encoded: UInt8[Tensor, " _bytes"]) -> Image.Image:
    """Decode an image to RGB of 8 bits.

    Raises:
        ValueError: If it is none, or broken.
    """
    with _opened(encoded) as image:
        return image.convert("RGB")


def encode_jpeg(image: Image.Image) -> UInt8[Tensor, " _bytes"]:
    """Encode an RGB image as a JPEG of quality 95."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def read_size(encoded: UInt8[Tensor, " _bytes"]) -> tuple[int, int]:
    """Read (height, width) of an encoded image from its header.

    Raises:
        ValueError: If it has none.
    """
    with _opened(encoded) as image:
        return image.height, image.width


def read_encoded(path: Path) -> UInt8[Tensor, " _bytes"]:
    """Return the bytes of a file. Raises OSError, or ValueError if it is not a regular one."""
    return torch.frombuffer(bytearray(read_regular(path)), dtype=torch.uint8)


def evenly(things: Sequence[T], count: int) -> list[T]:
    """Choose at most `count` of the things, evenly spaced."""
    count = min(count, len(things))
    return [things[int((index + 0.5) * len(things) / count)] for index in range(count)]


@contextmanager
def _opened(encoded: UInt8[Tensor, " _bytes"]) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(encoded.numpy().tobytes())) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        no_image = isinstance(error, UnidentifiedImageError)
        reason = "it is not an image" if no_image else str(error)
        raise ValueError(f"its image cannot be decoded: {reason}") from error


def to_tensor(image: Image.Image) -> Float[Tensor, "3 _height _width"]:
    """Convert an RGB image to a tensor in [0, 1]."""
    return to_float(torch.from_numpy(np.array(image)).permute(2, 0, 1))


def to_float(
    pixels: UInt8[Tensor, "*batch 3 height width"],
) -> Float[Tensor, "*batch 3 height width"]:
    """Convert bytes to RGB in [0, 1]."""
    return torch.div(pixels, 255)
