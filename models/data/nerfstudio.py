"""Reading cameras from a transforms.json of nerfstudio, instant-ngp or DL3DV."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.posed_images import PosedImage
from models.data.scenes import read_json
from models.geometry.camera import Camera, from_pixels
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
    document = read_json(path)
    try:
        return [_posed(document | frame) for frame in document["frames"]]
    except KeyError as error:
        raise ValueError(f"{path} has no {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is wrong: {error}") from error


def _posed(frame: dict[str, Any]) -> PosedImage:
    model = frame.get("camera_model", "OPENCV")
    if model not in _PINHOLE_MODELS:
        raise ValueError(f"its camera is a {model}; only pinhole cameras can be used")
    size = int(frame["h"]), int(frame["w"])
    intrinsics = from_pixels(_intrinsics_px(frame, size), size)
    return PosedImage(
        str(frame["file_path"]),
        Camera(intrinsics, _world2cam(frame["transform_matrix"]), size),
        tuple(float(frame.get(name, 0)) for name in _DISTORTION),
    )


def _intrinsics_px(frame: dict[str, Any], size: tuple[int, int]) -> Float[Tensor, "3 3"]:
    height, width = size
    if "fl_x" in frame:
        fx = float(frame["fl_x"])
    else:
        fx = width / 2 / math.tan(float(frame["camera_angle_x"]) / 2)
    fy = float(frame.get("fl_y", fx))
    cx, cy = float(frame.get("cx", width / 2)), float(frame.get("cy", height / 2))
    return torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)


def _world2cam(rows: Any) -> Float[Tensor, "4 4"]:
    cam2world = torch.tensor(rows, dtype=torch.float64)
    if cam2world.shape != (4, 4):
        raise ValueError(f"a transform_matrix is not 4x4: {rows}")
    return invert(cam2world * torch.tensor([1.0, -1, -1, 1]))  # from OpenGL's camera axes
