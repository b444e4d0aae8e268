"""An image whose camera a reconstruction of someone else's found."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class PosedImage:
    """Where an image is and its camera; lengths are in the reconstruction's unit."""

    name: str  # a path relative to the images' folder
    size: tuple[int, int]  # (height, width) that the intrinsics are for
    intrinsics_px: Float[Tensor, "3 3"]
    world2cam: Float[Tensor, "4 4"]
    distortion: tuple[float, ...]  # of the lens, as OpenCV orders it: k1, k2, p1, p2, k3 to k6
