"""Posed sequences of encoded images, their decoding, and their faults."""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

T = TypeVar("T")

_RIGID_TOLERANCE = 1e-3  # on the entries of R Rᵀ: files carry six decimals


@dataclass(frozen=True)
class Scene:
    """Frames of one place, with normalized intrinsics and poses as a file states them.

    No `Camera`: images are decoded one by one, their sizes may differ, and what is stated may be
    no camera at all (see `find_bad_frames`).
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
    """Read the bytes of a file. Raises OSError."""
    return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises ValueError if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # wrong encoding or syntax
        raise ValueError(f"{path} is not JSON: {error}") from error


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


def find_bad_frames(
    intrinsics: Float[Tensor, "frame 3 3"], world2cam: Float[Tensor, "frame 4 4"]
) -> dict[int, str]:
    """Find frames whose cameras are invalid, and why."""
    rotation = world2cam[:, :3, :3]
    off = (rotation @ rotation.mT - torch.eye(3).to(rotation)).abs().flatten(1).amax(1)
    bottom = world2cam[:, 3] == world2cam.new_tensor([0, 0, 0, 1])
    finite = world2cam.isfinite().flatten(1).all(1)
    rigid = (off <= _RIGID_TOLERANCE) & (torch.linalg.det(rotation) > 0) & bottom.all(1)
    focal = intrinsics.diagonal(dim1=1, dim2=2)[:, :2]
    lens = intrinsics.isfinite().flatten(1).all(1) & (focal > 0).all(1)
    lens &= (intrinsics[:, 2] == intrinsics.new_tensor([0, 0, 1])).all(1)
    faults = (
        (finite, "its pose is not finite"),
        (rigid, "its pose is not a rigid motion"),
        (lens, "its intrinsics are not a pinhole camera's"),
    )
    bad: dict[int, str] = {}
    for good, why in faults:
        for frame in (~good).nonzero()[:, 0].tolist():
            bad.setdefault(frame, why)
    return bad
