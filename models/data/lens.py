"""Photos as a lens without distortion would have taken them."""

import cv2
import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

_CORNER = 0.5  # OpenCV counts pixels from the center of the first, we from its outer corner


def undistort(
    image: Image.Image, intrinsics_px: Float[Tensor, "3 3"], distortion: tuple[float, ...]
) -> tuple[Image.Image, Float[Tensor, "3 3"]]:
    """Undo a lens's distortion, and zoom in until the image is full.

    Args:
        image: RGB.
        intrinsics_px: Of this image, in its pixels.
        distortion: OpenCV's k1, k2, p1, p2, k3, k4, k5, k6; the later ones may be absent.

    Returns:
        An image of the same size, and its intrinsics.
    """
    size = image.width, image.height
    shift = np.zeros((3, 3))
    shift[:2, 2] = _CORNER
    distorted = intrinsics_px.numpy() - shift
    coefficients = np.array(distortion)
    full, _ = cv2.getOptimalNewCameraMatrix(distorted, coefficients, size, alpha=0)
    pixels = cv2.undistort(np.asarray(image), distorted, coefficients, None, full)
    return Image.fromarray(pixels), torch.from_numpy(full + shift).to(intrinsics_px)
