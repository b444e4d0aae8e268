"""Which part of each photo the network sees, and at which size."""

from dataclasses import dataclass
from enum import StrEnum

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.views import Views, crop_to_aspect, resize
from models.network.layers import PATCH_SIZE


class Crop(StrEnum):
    """The part of a photo that the network sees."""

    square = "square"  # central, of the narrowest photo's field of view in all of them
    full = "full"  # all of it, at the photos' mean shape


@dataclass(frozen=True)
class Framing:
    """What the network sees of photos: the part, and about `side` x `side` pixels of it."""

    crop: Crop = Crop.full
    side: int = 256
    symmetric: bool = False  # ask in every order of the photos, and take the mean

    def apply(
        self, images: list[Float[Tensor, "3 _height _width"]], intrinsics: Float[Tensor, "view 3 3"]
    ) -> Views:
        """Cut and resize photos, one of each camera, to what a network takes.

        The published networks were trained on squares, cut by `Crop.square`'s rule from frames of
        one camera: focal lengths were equal in both directions and in all views.
        """
        if self.crop is Crop.square:
            size = (self.side, self.side)
            cropped = equally_wide_squares(images, intrinsics)
        else:
            aspects = torch.tensor([image.shape[-1] / image.shape[-2] for image in images])
            size = network_size(float(aspects.log().mean().exp()), self.side)
            cropped = [
                crop_to_aspect(image, matrix, size[1] / size[0])
                for image, matrix in zip(images, intrinsics, strict=True)
            ]
        return Views(
            torch.stack([resize(image, size) for image, _ in cropped])[None],
            torch.stack([matrix for _, matrix in cropped])[None],
        )


ALL_OF_THEM = Framing()


def network_size(aspect: float, side: int = Framing.side) -> tuple[int, int]:
    """(height, width) in whole patches, of about `side` pixels squared."""
    height, width = side / aspect**0.5, side * aspect**0.5
    patches = [max(2, round(length / PATCH_SIZE)) for length in (height, width)]
    return patches[0] * PATCH_SIZE, patches[1] * PATCH_SIZE


def equally_wide_squares(
    images: list[Float[Tensor, "3 _height _width"]], intrinsics: Float[Tensor, "view 3 3"]
) -> list[tuple[Float[Tensor, "3 side side"], Float[Tensor, "3 3"]]]:
    """The central square of each photo, smaller where the lens is wider than another photo's.

    The focal length, in units of the square's side, is then the same in all of them, but for the
    rounding of borders to whole pixels.
    """
    squares = [
        crop_to_aspect(image, matrix, 1.0) for image, matrix in zip(images, intrinsics, strict=True)
    ]
    focals = [float(matrix[0, 0] * matrix[1, 1]) ** 0.5 for _, matrix in squares]
    return [
        crop_to_center(image, matrix, focal / max(focals))
        for (image, matrix), focal in zip(squares, focals, strict=True)
    ]


def crop_to_center(
    image: Float[Tensor, "3 side side"], intrinsics: Float[Tensor, "3 3"], share: float
) -> tuple[Float[Tensor, "3 new_side new_side"], Float[Tensor, "3 3"]]:
    """Cut the central square that is this share of a square wide, and move the intrinsics along."""
    side = image.shape[-1]
    new_side = min(side, max(1, round(side * share)))
    border = (side - new_side) // 2
    moved = intrinsics.clone()
    moved[:2] *= side / new_side
    moved[:2, 2] -= border / new_side
    return image[:, border : border + new_side, border : border + new_side], moved
