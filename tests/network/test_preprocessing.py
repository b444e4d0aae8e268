"""The network's input: photos of any shape and lens, cropped and resized."""

import pytest
import torch
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.views import View
from models.network.preprocessing import Crop, Preprocessing
from models.weights import WeightsInfo
from nps_cli.weights.networks import preprocessing_for


def colored_by_ray(size: tuple[int, int], intrinsics: Tensor) -> Tensor:
    """A photo whose red and green say which ray each pixel's center looks along."""
    y, x = ((torch.arange(length) + 0.5) / length for length in size)
    red = (x - intrinsics[0, 2]) / intrinsics[0, 0]
    green = (y - intrinsics[1, 2]) / intrinsics[1, 1]
    rows, columns = torch.meshgrid(green, red, indexing="ij")
    return torch.stack([columns, rows, torch.zeros(size)]) / 4 + 0.5


def intrinsics_of(size: tuple[int, int], focal_px: float) -> Tensor:
    height, width = size
    return torch.tensor([[focal_px / width, 0, 0.5], [0, focal_px / height, 0.48], [0, 0, 1]])


def view_of(size: tuple[int, int], focal_px: float) -> View:
    """A view whose colors are its rays."""
    intrinsics = intrinsics_of(size, focal_px)
    return View(colored_by_ray(size, intrinsics), Camera(intrinsics, torch.eye(4), size))


VIEWS = [  # a wide one and a tall one, other lenses
    view_of((120, 160), 130.0),
    view_of((192, 108), 100.0),
]


@pytest.mark.parametrize("crop", list(Crop))
def test_pixels_keep_their_rays(crop: Crop):
    views = Preprocessing(crop, 64).apply(VIEWS)

    for image, matrix in zip(views.images[0], views.intrinsics[0], strict=True):
        expected = colored_by_ray(views.size, matrix)
        torch.testing.assert_close(image[:, 2:-2, 2:-2], expected[:, 2:-2, 2:-2], atol=2e-3, rtol=0)


def test_squares_have_one_focal_length_whatever_the_photos_lenses():
    views = Preprocessing(Crop.square, 64).apply(VIEWS)

    assert views.size == (64, 64)
    focals = views.intrinsics[0][:, [0, 1], [0, 1]]
    assert (focals / focals[0, 0] - 1).abs().max() < 0.02  # borders fall on whole pixels


def test_all_of_a_wide_photo_is_as_many_pixels_as_the_square():
    views = Preprocessing(Crop.full, 256).apply(VIEWS[:1] * 2)

    assert views.size == (224, 288)
    torch.testing.assert_close(
        views.intrinsics[0, 0, 0, 0], VIEWS[0].camera.intrinsics[0, 0], rtol=0.05, atol=0
    )


def test_published_weights_see_squares_of_the_size_that_they_were_trained_on():
    def of(metadata: dict[str, str], crop: str | None = None) -> Preprocessing:
        return preprocessing_for(WeightsInfo("", "", "", "", metadata), crop)

    assert of({"image_size": "512"}) == Preprocessing(Crop.square, 512)
    assert of({"image_size": "512"}, "full") == Preprocessing(Crop.full, 512)
    assert of({}) == Preprocessing(Crop.full, 256)
    assert of({}, "square") == Preprocessing(Crop.square, 256)
