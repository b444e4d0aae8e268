"""Copies with straight edges around two photos are a frame; whatever else stands still is not."""

import pytest
import torch
from torch import Tensor

from models.sfm.shared_frame import Window, find_inside_frame

SIZE = (200, 320)
PHOTO = Window(40, 0, (120, 320))


def framed(frame: Tensor, window: Window, count: int = 2) -> list[Tensor]:
    """Photos, which are noise, in copies of one frame."""
    (top, left), (height, width) = (window.top, window.left), window.size
    images = [frame.clone() for _ in range(count)]
    for image in images:
        image[:, top : top + height, left : left + width] = torch.rand(3, height, width)
    return images


def a_screen() -> Tensor:
    screen = torch.ones(3, *SIZE)
    screen[:, 5:20, 10:60] = torch.rand(3, 15, 50)
    return screen


@pytest.mark.parametrize("window", [PHOTO, Window(30, 100, (150, 100)), Window(0, 60, (150, 200))])
def test_a_photo_on_a_screen_is_found(window: Window):
    assert find_inside_frame(framed(a_screen(), window)) == window


def test_a_letterbox_is_found():
    assert find_inside_frame(framed(torch.zeros(3, *SIZE), PHOTO)) == PHOTO


def test_a_clock_in_the_bar_may_change():
    first, second = framed(a_screen(), PHOTO)
    second[:, 8:16, 12:30] = 0
    assert find_inside_frame([first, second]) == PHOTO


def test_a_frame_of_three_photos_is_found():
    assert find_inside_frame(framed(a_screen(), PHOTO, count=3)) == PHOTO


def test_a_white_sky_over_a_straight_horizon_is_no_frame():
    assert find_inside_frame(framed(torch.ones(3, *SIZE), Window(80, 0, (120, 320)))) is None


def test_a_rendered_object_before_one_color_is_no_frame():
    y, x = torch.meshgrid(torch.arange(200), torch.arange(320), indexing="ij")
    disc = (y - 100).square() + (x - 160).square() < 80**2
    images = [torch.rand(3, *SIZE).where(disc, torch.ones(3, *SIZE)) for _ in range(2)]
    assert find_inside_frame(images) is None


def test_photos_have_no_frame():
    assert find_inside_frame([torch.rand(3, *SIZE) for _ in range(2)]) is None
    same = torch.rand(3, *SIZE)
    assert find_inside_frame([same, same]) is None
