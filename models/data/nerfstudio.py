"""Reading cameras from a transforms.json of nerfstudio, instant-ngp or DL3DV."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.posed_images import PosedImage
from models.files.json_reader import read_json
from models.geometry.camera import Camera, from_pixels
from models.geometry.checks import parse_matrix, parse_number, parse_size
from models.geometry.rigid import invert

FILE = "transforms.json"
_DISTORTION = ("k1", "k2", "p1", "p2", "k3")
_PINHOLE_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")


def read_transforms(path: Path) -> list[PosedImage]:
    """Read the images of a transforms.json and their cameras.

    `transform_matrix` goes from a camera with OpenGL's axes to the world. Intrinsics stand in the
    file or in each frame; without them `camera_angle_x` tells the focal length.

    Raises:
        ValueError: If the file is none, or its camera is no pinhole.
    """
    return parse_transforms(read_json(path), str(path))


def parse_transforms(document: Any, where: str) -> list[PosedImage]:
    """Return the images of a parsed transforms.json; see `read_transforms`."""
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(f"{where} has no list of frames")
    try:
        return [_posed(document | frame) for frame in frames]
    except KeyError as error:
        raise ValueError(f"{where} has no {error}") from error
    except ValueError as error:
        raise ValueError(f"{where} is wrong: {error}") from error


def _posed(frame: dict[str, Any]) -> PosedImage:
    model = frame.get("camera_model", "OPENCV")
    if model not in _PINHOLE_MODELS:
        raise ValueError(f"its camera is a {model!r:.40}; only pinhole cameras can be used")
    size = parse_size(frame["w"], frame["h"])
    camera = Camera(from_pixels(_intrinsics_px(frame, size), size), _world2cam(frame), size)
    distortion = tuple(parse_number(frame.get(name, 0)) for name in _DISTORTION)
    return PosedImage(str(frame["file_path"]), camera, distortion)


def _intrinsics_px(frame: dict[str, Any], size: tuple[int, int]) -> Float[Tensor, "3 3"]:
    height, width = size
    if "fl_x" in frame:
        fx = parse_number(frame["fl_x"])
    else:
        angle = parse_number(frame["camera_angle_x"])
        if not 0 < angle < math.pi:
            raise ValueError(f"its camera_angle_x is {angle:g}")
        fx = width / 2 / math.tan(angle / 2)
    usual = {"fl_y": fx, "cx": width / 2, "cy": height / 2}
    fy, cx, cy = (parse_number(frame.get(name, value)) for name, value in usual.items())
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def _world2cam(frame: dict[str, Any]) -> Float[Tensor, "4 4"]:
    cam2world = parse_matrix(frame["transform_matrix"], 4, 4)
    return invert(cam2world * torch.tensor([1.0, -1, -1, 1]))  # from OpenGL's camera axes
