"""Images with their cameras: one `View`, or `Views` of one size as the network takes them."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.geometry.camera import Camera

MIN_SHOWN = 0.95  # of a resized pixel: others mix in the colors of what is masked


@dataclass(frozen=True)
class View:
    """An image, RGB in [0, 1], and its camera, whose size is the image's.

    Before poses are estimated the camera's `world2cam` is the identity and means nothing. The mask
    is true where the image shows the scene; None is everywhere.
    """

    image: Float[Tensor, "3 height width"]
    camera: Camera
    mask: Bool[Tensor, "height width"] | None = None

    def to(self, device: torch.device) -> "View":
        """Copy to a device; the original is untouched."""
        mask = None if self.mask is None else self.mask.to(device)
        return View(self.image.to(device), self.camera.to(device), mask)

    def resized(self, size: tuple[int, int]) -> "View":
        """Return the view resized to (height, width) by area-weighted averaging."""
        mask = None
        if self.mask is not None:
            mask = resize(self.mask.float().expand(3, -1, -1), size)[0] > MIN_SHOWN
        return View(resize(self.image, size), self.camera.resized(size), mask)


@dataclass(frozen=True)
class Views:
    """Photos of one scene as the network takes them: same size, each with its own intrinsics.

    Images are RGB in [0, 1]; intrinsics are normalized, so resizing leaves them as they are.
    """

    images: Float[Tensor, "batch view 3 height width"]
    intrinsics: Float[Tensor, "batch view 3 3"]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.images.shape[-2], self.images.shape[-1]

    def to(self, device: torch.device) -> "Views":
        """Copy to a device; the original is untouched."""
        return Views(self.images.to(device), self.intrinsics.to(device))


def resize(
    images: Float[Tensor, "*batch 3 height width"], size: tuple[int, int]
) -> Float[Tensor, "*batch 3 new_height new_width"]:
    """Resize by area-weighted averaging (antialiased); normalized intrinsics do not change."""
    flat = images.reshape(-1, *images.shape[-3:])
    resized = torch.nn.functional.interpolate(
        flat, size=size, mode="bilinear", align_corners=False, antialias=True
    )
    return resized.reshape(*images.shape[:-2], *size)


def crop_to_aspect(view: View, aspect: float) -> View:
    """Cut the largest central part with this width / height; borders fall on whole pixels."""
    height, width = view.camera.size
    new_height = min(height, max(1, round(width / aspect)))
    new_width = min(width, max(1, round(height * aspect)))
    return center_crop(view, (new_height, new_width))


def center_crop(view: View, size: tuple[int, int]) -> View:
    """Cut the central (height, width) pixels out of an image."""
    (height, width), (new_height, new_width) = view.camera.size, size
    top, left = (height - new_height) // 2, (width - new_width) // 2
    rows, columns = slice(top, top + new_height), slice(left, left + new_width)
    mask = None if view.mask is None else view.mask[rows, columns]
    return View(view.image[:, rows, columns], view.camera.cropped(top, left, size), mask)
