"""Images whose cameras a reconstruction of someone else's found, with the lens's distortion."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from PIL import Image

from models.geometry.camera import Camera, from_pixels

MAX_COEFFICIENT = 1e3  # of distortion; those of rational models reach hundreds
_HALF_PIXEL = 0.5  # OpenCV's origin is the center of the first pixel, ours its outer corner


@dataclass(frozen=True)
class PosedImage:
    """The name of an image and its camera; lengths are in the reconstruction's unit.

    Attributes:
        name: A path relative to the images' folder.
        camera: In double precision, and of the size that the reconstruction states.
        distortion: OpenCV's k1, k2, p1, p2, k3, k4, k5, k6; the later ones may be absent.
    """

    name: str
    camera: Camera
    distortion: tuple[float, ...]


def undistort(
    image: Image.Image, camera: Camera, distortion: tuple[float, ...]
) -> tuple[Image.Image, Camera]:
    """Undo a lens's distortion, and zoom in until the image, of the same size, is full.

    Returns:
        The image, and its camera.

    Raises:
        ValueError: If there is no such distortion.
    """
    if not all(abs(coefficient) <= MAX_COEFFICIENT for coefficient in distortion):
        raise ValueError("the distortion of its lens is beyond any lens's")
    size = image.width, image.height
    shift = np.zeros((3, 3))
    shift[:2, 2] = _HALF_PIXEL
    distorted = camera.intrinsics_px.numpy() - shift
    coefficients = np.array(distortion)
    full, _ = cv2.getOptimalNewCameraMatrix(distorted, coefficients, size, alpha=0)
    if not np.isfinite(full).all() or min(full[0, 0], full[1, 1]) <= 0:
        raise ValueError("the distortion of its lens cannot be undone")
    pixels = cv2.undistort(np.asarray(image), distorted, coefficients, None, full)
    intrinsics = from_pixels(torch.from_numpy(full + shift).to(camera.intrinsics), camera.size)
    return Image.fromarray(pixels), replace(camera, intrinsics=intrinsics)
