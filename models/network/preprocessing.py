"""Crop and resize photos to what the network takes."""

from dataclasses import dataclass
from enum import StrEnum

import torch

from models.geometry.views import View, Views, center_crop, crop_to_aspect
from models.network.config import PATCH_SIZES

PUBLISHED_PATCH = PATCH_SIZES["croco"]


class Crop(StrEnum):
    """The part of a photo that the network sees."""

    square = "square"  # central, of the narrowest photo's field of view in all of them
    full = "full"  # the whole photo, at the photos' mean aspect


@dataclass(frozen=True)
class Preprocessing:
    """The part of each photo that the network sees, as about `side` x `side` pixels."""

    crop: Crop = Crop.full
    side: int = 256

    def apply(self, views: list[View], patch_size: int = PUBLISHED_PATCH) -> Views:
        """Crop and resize photos, one of each camera, to one size: as many patches of any size.

        The published networks were trained on squares, cut by `Crop.square`'s rule from frames of
        one camera: focal lengths were equal in both directions and in all views.
        """
        if self.crop is Crop.square:
            size = network_size(1.0, self.side, patch_size)
            cropped = equal_focal_squares(views)
        else:
            aspects = torch.tensor([view.camera.size[1] / view.camera.size[0] for view in views])
            size = network_size(float(aspects.log().mean().exp()), self.side, patch_size)
            cropped = [crop_to_aspect(view, size[1] / size[0]) for view in views]
        resized = [view.resized(size) for view in cropped]
        return Views(
            torch.stack([view.image for view in resized])[None],
            torch.stack([view.camera.intrinsics for view in resized])[None],
        )


def network_size(
    aspect: float, side: int = Preprocessing.side, patch_size: int = PUBLISHED_PATCH
) -> tuple[int, int]:
    """Return (height, width) of about `side` pixels squared, if patches are the published ones.

    Of smaller patches there are as many.
    """
    height, width = side / aspect**0.5, side * aspect**0.5
    patches = [max(2, round(length / PUBLISHED_PATCH)) for length in (height, width)]
    return patches[0] * patch_size, patches[1] * patch_size


def equal_focal_squares(views: list[View]) -> list[View]:
    """Cut the central square of each photo, smaller where its lens is wider than another's.

    The focal length, in units of the square's side, is then the same in all of them, but for the
    rounding of borders to whole pixels.
    """
    squares = [crop_to_aspect(view, 1.0) for view in views]
    focals = [
        float(square.camera.intrinsics[0, 0] * square.camera.intrinsics[1, 1]) ** 0.5
        for square in squares
    ]
    cropped = []
    for square, focal in zip(squares, focals, strict=True):
        side = square.camera.size[0]
        smaller = min(side, max(1, round(side * (focal / max(focals)))))
        cropped.append(center_crop(square, (smaller, smaller)))
    return cropped
