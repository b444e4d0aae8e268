"""SSIM and its structure term against their definition and other programs."""

import sys
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch

from models.metrics.errors import psnr
from models.metrics.ssim import ssim, structure_loss, window_statistics


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
                luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
                values.append(
                    luminance * (2 * covariance + 9e-4) / (variance_a + variance_b + 9e-4)
                )
    assert ssim(first, second) == pytest.approx(np.mean(values), abs=1e-9)


def test_the_structure_loss_does_not_see_brightness_and_contrast():
    photo = torch.rand(3, 20, 24)
    loss = structure_loss(0.5 * photo + 0.3, window_statistics(photo))
    assert loss == pytest.approx(0.02, abs=1e-3)


def test_the_structure_loss_of_a_negative_is_nearly_two():
    photo = torch.rand(3, 20, 24)
    assert structure_loss(1 - photo, window_statistics(photo)) == pytest.approx(2, abs=0.03)


@pytest.mark.parametrize("size", [(64, 90), (11, 37)])
def test_the_structure_loss_and_its_gradient_are_as_good_as_in_double_precision(size):
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(1, 3, 12, 12, generator=generator)
    photo = torch.nn.functional.interpolate(photo, size, mode="bicubic")[0]
    picture = 0.7 * photo + 0.2 * torch.rand(3, *size, generator=generator)
    picture[:, :, :20] = photo[:, :, :20]  # the same: nothing to gain
    picture[:, :, -9:] = 1 - photo[:, :, -9:]
    found, expected = picture.clone().requires_grad_(), picture.double().requires_grad_()

    loss = structure_loss(found, window_statistics(photo))
    (3 * loss).backward()

    exact = structure_loss(expected, window_statistics(photo.double()))
    (3 * exact).backward()
    assert loss.item() == pytest.approx(exact.item(), abs=1e-5)
    assert (found.grad - expected.grad).norm() < 1e-3 * expected.grad.norm()


def test_the_structure_loss_has_a_finite_gradient_on_flat_pictures():
    picture = torch.full((3, 20, 24), 0.5, requires_grad=True)
    structure_loss(picture, window_statistics(torch.rand(3, 20, 24))).backward()
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
