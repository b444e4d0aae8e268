import math
import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from models.geometry.rigid import invert, se3_exponential
from models.metrics.errors import FAILED_DEG, pose_auc, pose_error, psnr, ssim, structure_loss


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


def test_the_similarity_of_two_flat_pictures_is_that_of_their_brightness():
    first, second = torch.full((3, 16, 20), 0.5), torch.full((3, 16, 20), 0.7)
    stabilizer = 0.01**2
    expected = (2 * 0.5 * 0.7 + stabilizer) / (0.5**2 + 0.7**2 + stabilizer)
    assert ssim(first, second) == pytest.approx(expected, abs=1e-6)


def test_the_similarity_is_the_mean_over_windows_worked_out_one_by_one():
    first, second = torch.rand(3, 14, 17), torch.rand(3, 14, 17)
    offsets = np.arange(-5, 6)
    bell = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / bell.sum() ** 2
    sample = 121 / 120  # of 11 x 11 pixels, the mean is not known but estimated
    values = []
    for x, y in zip(first.double().numpy(), second.double().numpy(), strict=True):
        for row in range(14 - 10):
            for column in range(17 - 10):
                a, b = (z[row : row + 11, column : column + 11] for z in (x, y))
                mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
                variance_a = sample * ((weights * a * a).sum() - mean_a**2)
                variance_b = sample * ((weights * b * b).sum() - mean_b**2)
                covariance = sample * ((weights * a * b).sum() - mean_a * mean_b)
                values.append(
                    (2 * mean_a * mean_b + 1e-4)
                    * (2 * covariance + 9e-4)
                    / (mean_a**2 + mean_b**2 + 1e-4)
                    / (variance_a + variance_b + 9e-4)
                )
    assert ssim(first, second) == pytest.approx(np.mean(values), abs=1e-9)


def test_the_structure_loss_does_not_see_brightness_and_contrast():
    photo = torch.rand(3, 20, 24)
    assert structure_loss(0.5 * photo + 0.3, photo) == pytest.approx(0.02, abs=1e-3)


def test_the_structure_loss_of_a_negative_is_nearly_two():
    photo = torch.rand(3, 20, 24)
    assert structure_loss(1 - photo, photo) == pytest.approx(2, abs=0.03)


@pytest.mark.parametrize("size", [(64, 90), (11, 37)])
def test_the_structure_loss_and_its_slope_on_cpus_are_those_of_its_definition(size):
    """In double precision it is a composition of torch's functions, which differentiates itself."""
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(1, 3, 12, 12, generator=generator)
    photo = torch.nn.functional.interpolate(photo, size, mode="bicubic")[0]
    picture = 0.7 * photo + 0.2 * torch.rand(3, *size, generator=generator)
    picture[:, :, :20] = photo[:, :, :20]  # the same: nothing to gain
    picture[:, :, -9:] = 1 - photo[:, :, -9:]
    found, expected = picture.clone().requires_grad_(), picture.double().requires_grad_()

    loss = structure_loss(found, photo)
    (3 * loss).backward()

    exact = structure_loss(expected, photo.double())
    (3 * exact).backward()
    assert loss.item() == pytest.approx(exact.item(), abs=1e-5)
    assert (found.grad - expected.grad).norm() < 1e-3 * expected.grad.norm()


def test_the_structure_loss_has_a_finite_gradient_on_flat_pictures():
    picture = torch.full((3, 20, 24), 0.5, requires_grad=True)
    structure_loss(picture, torch.rand(3, 20, 24)).backward()
    assert picture.grad.isfinite().all()


@pytest.fixture
def judge(monkeypatch):
    """torchmetrics; what it would import of torchvision is for metrics that are not asked of it."""
    for name in ("torchvision", "torchvision.models", "torchvision.transforms"):
        monkeypatch.setitem(sys.modules, name, MagicMock())
    return pytest.importorskip("torchmetrics.functional.image")


@pytest.mark.parametrize("size", [(32, 40), (64, 48)])
def test_decibels_and_similarity_are_what_torchmetrics_computes(size: tuple[int, int], judge):
    photo = torch.rand(3, *size)
    image = (photo + 0.1 * torch.randn(3, *size)).clamp(0, 1)
    expected = judge.peak_signal_noise_ratio(image[None], photo[None], data_range=1.0)
    assert psnr(image, photo) == pytest.approx(float(expected), abs=1e-4)
    # Two differences are known: scikit-image estimates variances from a sample of 11 x 11, which
    # only changes what the second stabilizer weighs, and leaves out windows that cross the border.
    pictures, stabilizer = (image[None].double(), photo[None].double()), 0.03 / (121 / 120) ** 0.5
    _, similarities = judge.structural_similarity_index_measure(
        *pictures, sigma=1.5, data_range=1.0, k2=stabilizer, return_full_image=True
    )
    expected = similarities[..., 5:-5, 5:-5].mean()
    assert ssim(image, photo) == pytest.approx(float(expected), abs=1e-9)


def test_what_overshoots_counts_for_similarity_as_it_is():
    """Only decibels are of clipped pictures; the published evaluation hands the rest on as is."""
    photo = torch.rand(3, 24, 24)
    brighter = photo + 0.3 * torch.rand(3, 24, 24)
    assert ssim(brighter, photo) != pytest.approx(ssim(brighter.clamp(0, 1), photo), abs=1e-3)
    assert psnr(brighter, photo) == psnr(brighter.clamp(0, 1), photo)


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
