"""Depth maps as pictures."""

import pytest
import torch

from models.geometry.colormap import color_depth, depth_range


def brightness(picture: torch.Tensor) -> torch.Tensor:
    return picture.sum(dim=0)


def test_the_nearer_the_brighter():
    depth = torch.linspace(1, 10, 50)[None]
    picture = brightness(color_depth(depth, 1.0, 10.0))[0]
    assert (picture.diff() < 0).all()


def test_depth_outside_of_the_range_looks_like_its_ends_and_no_depth_is_black():
    ends = color_depth(torch.tensor([[1.0, 10.0]]), 1.0, 10.0)
    beyond = color_depth(torch.tensor([[0.1, 1e9]]), 1.0, 10.0)
    torch.testing.assert_close(beyond, ends, atol=1e-5, rtol=0)
    assert color_depth(torch.tensor([[0.0, -1.0]]), 1.0, 10.0).max() == 0


def test_a_few_outliers_do_not_stretch_the_range():
    depth = torch.cat([torch.linspace(2, 4, 990), torch.full((9,), 1e6), torch.tensor([1e-6])])
    near, far = depth_range(depth)
    assert 2 <= near < 2.1 and 3.9 < far <= 4


def test_flat_scenes_are_shown_flat():
    near, far = depth_range(torch.full((10,), 3.0))
    wall = color_depth(3 + 0.01 * torch.rand(4, 4), near, far)
    assert wall.flatten(1).std(dim=1).max() < 0.02


def test_where_nothing_is_in_front_there_still_is_a_range():
    near, far = depth_range(torch.tensor([-1.0, 0.0]))
    assert 0 < near < far


def test_the_ramp_is_even_in_inverse_depth():
    near, far = 2.0, 8.0
    depth = 1 / torch.linspace(1 / far, 1 / near, 11)[None]  # two steps from color to color
    picture = color_depth(depth, near, far)[:, 0]
    between = (picture[:, 0:-2:2] + picture[:, 2::2]) / 2
    torch.testing.assert_close(picture[:, 1::2], between, atol=1e-5, rtol=0)
    steps = picture[:, 2::2] - picture[:, :-2:2]
    assert (steps.abs().sum(dim=0) > 0.2).all()  # five colors that differ follow the first
    assert picture.min() >= 0 and picture.max() <= 1


def test_near_is_warm_and_far_is_blue():
    red, _, blue = color_depth(torch.tensor([[1.0, 10.0]]), 1.0, 10.0)[:, 0]
    assert red[0] > blue[0] and red[1] < blue[1]


def test_the_range_leaves_out_two_percent_at_either_end():
    assert depth_range(torch.arange(101.0) + 1) == (3, 99)
    assert depth_range(torch.full((10,), 3.0)) == (3, pytest.approx(3.6))
