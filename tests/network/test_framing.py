"""What the network sees of photos of any shape and lens."""

import pytest
import torch
from torch import Tensor

from models.network.preprocessing import Crop, Framing
from models.weights import WeightsInfo
from nps_cli.reconstruction import framing_for


def colored_by_ray(size: tuple[int, int], intrinsics: Tensor) -> Tensor:
    """A photo whose red and green say which ray each pixel's center looks along."""
    y, x = ((torch.arange(length) + 0.5) / length for length in size)
    red = (x - intrinsics[0, 2]) / intrinsics[0, 0]
    green = (y - intrinsics[1, 2]) / intrinsics[1, 1]
    rows, columns = torch.meshgrid(green, red, indexing="ij")
    return torch.stack([columns, rows, torch.zeros(size)]) / 4 + 0.5


def lens(size: tuple[int, int], focal_px: float) -> Tensor:
    height, width = size
    return torch.tensor([[focal_px / width, 0, 0.5], [0, focal_px / height, 0.48], [0, 0, 1]])


PHOTOS = (((120, 160), 130.0), ((192, 108), 100.0))  # a wide one and a tall one, other lenses


@pytest.mark.parametrize("crop", list(Crop))
def test_pixels_keep_their_rays(crop: Crop):
    matrices = torch.stack([lens(*photo) for photo in PHOTOS])
    images = [colored_by_ray(photo[0], m) for photo, m in zip(PHOTOS, matrices, strict=True)]

    views = Framing(crop, 64).apply(images, matrices)

    for image, matrix in zip(views.images[0], views.intrinsics[0], strict=True):
        expected = colored_by_ray(views.size, matrix)
        torch.testing.assert_close(image[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], atol=2e-3, rtol=0)


def test_squares_have_one_focal_length_whatever_the_photos_lenses():
    matrices = torch.stack([lens(*photo) for photo in PHOTOS])
    views = Framing(Crop.square, 64).apply([torch.rand(3, *size) for size, _ in PHOTOS], matrices)

    assert views.size == (64, 64)
    focals = views.intrinsics[0][:, [0, 1], [0, 1]]
    assert (focals / focals[0, 0] - 1).abs().max() < 0.02  # borders fall on whole pixels


def test_all_of_a_wide_photo_is_as_many_pixels_as_the_square():
    matrices = torch.stack([lens((120, 160), 130.0)] * 2)
    views = Framing(Crop.full, 256).apply([torch.rand(3, 120, 160)] * 2, matrices)

    assert views.size == (224, 288)
    torch.testing.assert_close(views.intrinsics[0, 0, 0, 0], matrices[0, 0, 0], rtol=0.05, atol=0)


def test_published_weights_see_squares_of_the_size_that_they_were_trained_on():
    def of(metadata: dict[str, str], crop: str | None = None) -> Framing:
        return framing_for(WeightsInfo("", "", "", "", metadata), crop)

    assert of({"image_size": "512"}) == Framing(Crop.square, 512)
    assert of({"image_size": "512"}, "full") == Framing(Crop.full, 512)
    assert of({}) == Framing(Crop.full, 256)
    assert of({}, "square") == Framing(Crop.square, 256)
