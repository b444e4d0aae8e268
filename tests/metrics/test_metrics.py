"""Errors of poses and of renderings, worked out by hand."""

import math

import numpy as np
import pytest
import torch

from models.geometry.rigid import invert, se3_exponential
from models.metrics.errors import FAILED_DEG, pose_auc, pose_error, psnr


def camera_at(center: list[float], rotation_vector: list[float]) -> torch.Tensor:
    cam2world = se3_exponential(torch.tensor([0.0, 0, 0, *rotation_vector], dtype=torch.float64))
    cam2world[:3, 3] = torch.tensor(center, dtype=torch.float64)
    return invert(cam2world)


@pytest.mark.parametrize(("threshold", "area"), [(5.0, 1.875), (10.0, 5.625), (20.0, 13.125)])
def test_the_auc_is_the_area_worked_out_by_hand(threshold: float, area: float):
    assert pose_auc([7.0, 30.0, 1.0, 3.0], threshold) == pytest.approx(area / threshold, abs=1e-15)


def test_an_error_equal_to_the_threshold_does_not_count():
    assert pose_auc([5.0], 5.0) == 0


def test_the_auc_of_perfect_poses_is_one():
    assert pose_auc([0.0, 0.0, 0.0], 5.0) == 1


def test_an_auc_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        pose_auc([], 5.0)


@pytest.mark.parametrize("angle_deg", [0.0, 1e-4, 30.0, 179.9999])
def test_the_rotation_error_is_the_angle_of_the_turn_between(angle_deg: float):
    true = camera_at([1, 0, 0], [0.3, -0.2, 0.1])
    turn = se3_exponential(
        torch.tensor([0, 0, 0, 0, math.radians(angle_deg), 0], dtype=torch.float64)
    )
    error = pose_error(turn @ true, true)
    assert error.rotation_deg == pytest.approx(angle_deg, abs=1e-6)


def test_the_translation_error_is_the_angle_between_where_the_cameras_stand():
    true = camera_at([2, 0, 0], [0, 0.5, 0])
    error = pose_error(camera_at([3, 3, 0], [0, 0.5, 0]), true)
    assert error.translation_deg == pytest.approx(45)
    assert error.pose_deg == pytest.approx(45)


def test_a_camera_on_the_right_spot_that_looks_elsewhere_has_no_translation_error():
    error = pose_error(camera_at([1, 2, 3], [0.4, 0.5, 0]), camera_at([2, 4, 6], [0, 0, 0.2]))
    assert error.translation_deg == pytest.approx(0, abs=1e-6)
    assert error.rotation_deg > 10


def test_folding_forgives_a_step_in_the_opposite_direction_and_nothing_else():
    error = pose_error(camera_at([-1, 0, 0], [0, 0, 0]), camera_at([1, 0, 0], [0, 0, 0]))
    assert error.translation_deg == pytest.approx(180)
    assert error.translation_folded_deg == pytest.approx(0)
    assert error.pose_deg == pytest.approx(180)
    assert error.pose_folded_deg == pytest.approx(0)


def test_a_camera_that_did_not_move_has_no_direction_and_the_largest_error():
    error = pose_error(camera_at([0, 0, 0], [0, 0, 0]), camera_at([1, 0, 0], [0, 0, 0]))
    assert error.translation_deg == error.translation_folded_deg == FAILED_DEG


def test_a_picture_off_by_a_tenth_everywhere_has_twenty_decibels():
    photo = torch.full((3, 12, 14), 0.5)
    assert psnr(photo + 0.1, photo) == pytest.approx(20, abs=1e-5)


def test_what_is_brighter_than_white_counts_as_white():
    photo = torch.ones(3, 12, 14)
    assert psnr(photo + 0.5, photo) == 100


def test_decibels_are_those_of_the_mean_over_all_channels_worked_out_by_hand():
    photo, image = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
    image[0, 0, 0], image[2, 1, 1] = 0.6, 0.8  # squares 0.36 and 0.64, over 12 numbers
    assert psnr(image, photo) == pytest.approx(10 * math.log10(12), abs=1e-6)


def test_the_auc_is_what_numpy_integrates_as_the_published_code_does():
    errors = np.random.default_rng(0).gamma(1.5, 6.0, 200)
    ordered, recall = np.sort(errors), np.arange(1, 201) / 200
    ordered, recall = np.r_[0.0, ordered], np.r_[0.0, recall]
    for threshold in (5.0, 10.0, 20.0):
        last = np.searchsorted(ordered, threshold)
        x = np.r_[ordered[:last], threshold]
        y = np.r_[recall[:last], recall[last - 1]]
        area = ((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2).sum() / threshold
        assert pose_auc(errors.tolist(), threshold) == pytest.approx(area, abs=1e-12)
