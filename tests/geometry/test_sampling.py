"""Maps between and beyond their pixels."""

import pytest
import torch

from models.geometry.camera import pixel_grid
from models.geometry.sampling import sample_bilinear, sample_nearest

RAMP = torch.arange(12.0).reshape(1, 3, 4)


@pytest.mark.parametrize("sample", [sample_bilinear, sample_nearest])
def test_pixel_centers_have_the_values_of_their_pixels(sample):
    grid = pixel_grid((3, 4), RAMP).flatten(0, 1)
    torch.testing.assert_close(sample(RAMP, grid), RAMP.flatten(1))


@pytest.mark.parametrize("sample", [sample_bilinear, sample_nearest])
def test_points_outside_take_the_borders_values_however_far(sample):
    outside = torch.tensor([[-0.1, -0.1], [1.3, 0.5], [1e30, 1e30], [0.0, 1.0]])
    assert sample(RAMP, outside)[0].tolist() == [0, 7, 11, 8]


def test_between_centers_values_are_in_between():
    at = torch.tensor([[0.25, 0.5], [0.5, 1 / 3], [0.3, 0.5]])
    torch.testing.assert_close(sample_bilinear(RAMP, at)[0], torch.tensor([4.5, 3.5, 4.7]))
    assert sample_nearest(RAMP, torch.tensor([[0.26, 0.6], [0.49, 0.7]]))[0].tolist() == [5, 9]


def test_batches_are_sampled_map_by_map():
    maps = torch.rand(2, 3, 5, 4, 6)
    at = torch.rand(2, 3, 7, 2)
    found = sample_bilinear(maps, at)
    assert found.shape == (2, 3, 5, 7)
    torch.testing.assert_close(found[1, 2], sample_bilinear(maps[1, 2], at[1, 2]))
