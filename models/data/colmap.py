"""Reading cameras from a COLMAP model, text or binary."""

import struct
from collections.abc import Iterator
from pathlib import Path

import torch

from models.data.posed_images import PosedImage
from models.files.regular import read_regular
from models.geometry.camera import Camera, from_pixels
from models.geometry.checks import parse_size
from models.geometry.rigid import from_wxyz

_MODELS = {  # COLMAP's name: its number, how many parameters, and how many are focal lengths
    "SIMPLE_PINHOLE": (0, 3, 1),
    "PINHOLE": (1, 4, 2),
    "SIMPLE_RADIAL": (2, 4, 1),
    "RADIAL": (3, 5, 1),
    "OPENCV": (4, 8, 2),
    "OPENCV_FISHEYE": (5, 8, 2),
    "FULL_OPENCV": (6, 12, 2),
    "FOV": (7, 5, 2),
    "SIMPLE_RADIAL_FISHEYE": (8, 4, 1),
    "RADIAL_FISHEYE": (9, 5, 1),
    "THIN_PRISM_FISHEYE": (10, 12, 2),
}
_Camera = tuple[str, int, int, tuple[float, ...]]  # model, width, height, parameters
_Image = tuple[str, int, tuple[float, ...]]  # name, number of its camera; qw qx qy qz tx ty tz


def is_model(folder: Path) -> bool:
    """Tell whether a folder holds a COLMAP model."""
    return any(
        (folder / f"cameras.{kind}").exists() and (folder / f"images.{kind}").exists()
        for kind in ("bin", "txt")
    )


def read_model(folder: Path) -> list[PosedImage]:
    """Read the images of a model and their cameras; like COLMAP, binary files before text.

    COLMAP counts pixels from the outer corner of the first, as we do.

    Raises:
        ValueError: If the model is broken, or a camera is a fisheye.
    """
    try:
        if (folder / "cameras.bin").exists():
            cameras = dict(_cameras_binary(read_regular(folder / "cameras.bin")))
            images = list(_images_binary(read_regular(folder / "images.bin")))
        else:
            cameras = dict(_cameras_text(read_regular(folder / "cameras.txt").decode()))
            images = list(_images_text(read_regular(folder / "images.txt").decode()))
        return [_posed(name, pose, *cameras[camera]) for name, camera, pose in images]
    except KeyError as error:
        raise ValueError(f"{folder} has no camera {error}") from error
    except (OSError, IndexError, OverflowError, struct.error, UnicodeDecodeError) as error:
        raise ValueError(f"{folder} holds no whole COLMAP model: {error}") from error


def _posed(
    name: str,
    pose: tuple[float, ...],
    model: str,
    width: int,
    height: int,
    parameters: tuple[float, ...],
) -> PosedImage:
    if model not in _MODELS:
        raise ValueError(f"there is no camera model {model!r:.40}")
    _, count, focals = _MODELS[model]
    if "FISHEYE" in model or model == "FOV":
        raise ValueError(f"its camera is a {model}; only pinhole cameras can be used")
    if len(parameters) != count:
        raise ValueError(f"a {model} camera has {len(parameters)} parameters")
    fx, fy, (cx, cy) = parameters[0], parameters[focals - 1], parameters[focals : focals + 2]
    world2cam = torch.eye(4, dtype=torch.float64)
    world2cam[:3, :3] = from_wxyz(torch.tensor(pose[:4], dtype=torch.float64))
    world2cam[:3, 3] = torch.tensor(pose[4:], dtype=torch.float64)
    intrinsics_px = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
    size = parse_size(width, height)
    camera = Camera(from_pixels(intrinsics_px, size), world2cam, size)
    distortion = parameters[focals + 2 :]  # in OpenCV's order, as far as there are tangential terms
    if model in ("SIMPLE_RADIAL", "RADIAL"):
        distortion = (*distortion, 0.0, 0.0, 0.0)[:4]
    return PosedImage(name, camera, distortion)


def _cameras_text(text: str) -> Iterator[tuple[int, _Camera]]:
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            number, model, width, height, *parameters = line.split()
            yield int(number), (model, int(width), int(height), tuple(map(float, parameters)))


def _images_text(text: str) -> Iterator[_Image]:
    """Parse images; every second line lists observations, and may be empty."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in lines[::2]:
        if line.strip():
            _, *pose, camera, name = line.split(maxsplit=9)
            if len(pose) != 7:
                raise ValueError(f"an image has {len(pose)} numbers for its pose, not 7")
            yield name.strip(), int(camera), tuple(map(float, pose))


def _cameras_binary(content: bytes) -> Iterator[tuple[int, _Camera]]:
    by_number = {number: (name, count) for name, (number, count, _) in _MODELS.items()}
    (cameras,) = struct.unpack_from("<Q", content)
    at = 8
    for _ in range(cameras):
        number, model, width, height = struct.unpack_from("<iiQQ", content, at)
        if model not in by_number:
            raise ValueError(f"there is no camera model {model}")
        name, count = by_number[model]
        yield number, (name, width, height, struct.unpack_from(f"<{count}d", content, at + 24))
        at += 24 + 8 * count


def _images_binary(content: bytes) -> Iterator[_Image]:
    (images,) = struct.unpack_from("<Q", content)
    at = 8
    for _ in range(images):
        _, *pose, camera = struct.unpack_from("<i7di", content, at)
        end = content.index(b"\0", at + 64)
        (observations,) = struct.unpack_from("<Q", content, end + 1)
        yield content[at + 64 : end].decode("utf-8"), camera, tuple(pose)
        at = end + 9 + 24 * observations
