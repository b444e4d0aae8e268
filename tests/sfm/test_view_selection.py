"""Which views are selected of those of a camera that moves along a wall."""

import math

import pytest
import torch
from moving_camera import DISTANCE, image_at, noise, view_of

from models.sfm.view_selection import laplacian_energy, select_views


def select(*images):
    return select_views([view_of(image) for image in images])


def test_a_step_of_a_tenth_of_the_distance_is_preferred_to_none_and_to_many():
    selection = select(image_at(0.0), image_at(0.01), image_at(0.3), image_at(1.6))
    first, second = selection.views
    assert first in (0, 1) and second == 2
    best = selection.pairs[0]
    assert best.parallax == pytest.approx(math.atan(0.3 / DISTANCE), rel=0.25)
    assert best.overlap > 0.7


def test_a_third_view_is_selected_where_it_shares_as_much_with_both():
    assert select(image_at(0.0), image_at(0.2), image_at(0.4)).views == (0, 1, 2)


def test_a_blurred_view_is_left_out():
    selection = select(image_at(0.0), image_at(0.29, blur=4), image_at(0.31), image_at(0.0, blur=4))
    assert selection.views == (0, 2)
    assert selection.sharpness[1] < 0.3 < 0.9 < selection.sharpness[2]


def test_sharpness_does_not_depend_on_contrast():
    image = image_at(0.0)
    assert laplacian_energy(0.3 * image + 0.4) == pytest.approx(laplacian_energy(image), rel=1e-3)


def test_views_with_less_in_common_score_less():
    selection = select(image_at(0.0), image_at(0.3), noise(0))
    assert {(pair.first, pair.second) for pair in selection.pairs} == {(0, 1)}
    assert selection.views == (0, 1)


def test_where_nothing_is_in_common_the_sharpest_two_are_returned():
    selection = select(torch.full((3, 192, 256), 0.5), noise(0), noise(1))
    assert selection.views == (1, 2)
    assert selection.pairs == ()


def test_a_camera_that_moves_fast_is_followed_from_view_to_view():
    images = [noise(number)[:, :48, :64] for number in range(50)]
    images[20], images[21] = image_at(0.0), image_at(0.3)  # of one group of candidates
    assert select(*images).views == (20, 21)
