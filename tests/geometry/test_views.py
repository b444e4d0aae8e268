"""Images and their cameras stay together when cut and resized."""

import torch

from models.geometry.camera import Camera
from models.geometry.views import View, Views, center_crop, crop_to_aspect, resize

INTRINSICS = torch.tensor([[0.9, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]])
NUMBERS = torch.arange(48.0).reshape(6, 8).expand(3, 6, 8)
VIEW = View(NUMBERS, Camera(INTRINSICS, torch.eye(4), (6, 8)))


def test_halving_averages_blocks_and_keeps_normalized_intrinsics():
    constant = resize(torch.full((2, 3, 6, 8), 0.25), (3, 4))
    torch.testing.assert_close(constant, torch.full((2, 3, 3, 4), 0.25))
    half = VIEW.resized((3, 4))
    torch.testing.assert_close(half.image.mean(), NUMBERS.mean())
    assert half.image[0, 1, 1] == (18 + 19 + 26 + 27) / 4 and half.camera.size == (3, 4)
    assert torch.equal(half.camera.intrinsics, INTRINSICS)


def test_a_crop_shows_the_central_pixels_and_its_camera_sees_the_same():
    cut = center_crop(VIEW, (2, 4))
    assert cut.image[0].tolist() == [[18, 19, 20, 21], [26, 27, 28, 29]]
    point = torch.tensor([[0.01, -0.03, 1.0]])
    whole = VIEW.camera.project(point)[0] * torch.tensor([8, 6])
    part = cut.camera.project(point)[0] * torch.tensor([4, 2])
    torch.testing.assert_close(whole - part, torch.tensor([[2.0, 2.0]]))


def test_a_crop_to_an_aspect_is_as_large_as_it_can_be():
    for aspect, size in ((4 / 3, (6, 8)), (1.0, (6, 6)), (2.0, (4, 8)), (100.0, (1, 8))):
        cut = crop_to_aspect(VIEW, aspect)
        assert cut.camera.size == size == tuple(cut.image.shape[1:])
    assert crop_to_aspect(VIEW, 1e-3).camera.size == (6, 1)


def test_copies_go_to_a_device_whole():
    meta = torch.device("meta")
    copy = VIEW.to(meta)
    assert copy.image.device == copy.camera.intrinsics.device == meta
    views = Views(torch.zeros(1, 2, 3, 6, 8), INTRINSICS.expand(1, 2, 3, 3))
    assert views.size == (6, 8) and views.to(meta).images.device == meta
    assert views.to(meta).intrinsics.device == meta
