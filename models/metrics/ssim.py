"""Structural similarity (Wang et al., "Image quality assessment", 2004): SSIM and its structure."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

WINDOW_PX, SIGMA_PX = 11, 1.5  # of the Gaussian window
C1, C2 = 0.01**2, 0.03**2  # the paper's stabilizers, for colors in [0, 1]
C3 = C2 / 2
MAX_STRUCTURE = 0.98  # above it, only noise is left to agree


@dataclass(frozen=True)
class WindowStatistics:
    """An image, with the weighted mean and variance of every window that lies inside it."""

    image: Float[Tensor, "3 height width"]
    mean: Float[Tensor, "3 inner_height inner_width"]
    variance: Float[Tensor, "3 inner_height inner_width"]


def window_statistics(image: Float[Tensor, "3 height width"]) -> WindowStatistics:
    """Return the statistics of an image's windows, to compare many others with it."""
    mean, square = _blur(torch.cat([image, image.square()])).split(3)
    return WindowStatistics(image, mean, _variance(mean, square))


def ssim(image: Float[Tensor, "3 height width"], photo: Float[Tensor, "3 height width"]) -> float:
    """Return the mean SSIM of all windows and channels, in float64.

    As in the published tables, which scikit-image computed with a Gaussian window: variances are
    estimated as of a sample of 11 x 11 values, and windows that cross the border do not count.
    """
    return float(ssim_map(image.double(), window_statistics(photo.double())).mean())


def ssim_map(
    image: Float[Tensor, "3 height width"], photo: WindowStatistics
) -> Float[Tensor, "3 inner_height inner_width"]:
    """Return the SSIM of every window (section III.B of the paper)."""
    mean, variance, covariance = _joint_statistics(image, photo)
    unbiased = WINDOW_PX**2 / (WINDOW_PX**2 - 1)
    luminance = (2 * mean * photo.mean + C1) / (mean.square() + photo.mean.square() + C1)
    variances = unbiased * (variance + photo.variance)
    return luminance * (2 * unbiased * covariance + C2) / (variances + C2)


def structure_loss(
    image: Float[Tensor, "3 height width"], photo: WindowStatistics
) -> Float[Tensor, ""]:
    """Return one minus the structure term of SSIM: blind to brightness and contrast."""
    _, variance, covariance = _joint_statistics(image, photo)
    deviations = (variance * photo.variance).sqrt()
    covariance = covariance.clamp(min=-deviations, max=deviations)
    structure = (covariance + C3) / (deviations + C3)
    return 1 - structure.clamp(max=MAX_STRUCTURE).mean()


def _joint_statistics(
    image: Float[Tensor, "3 height width"], photo: WindowStatistics
) -> tuple[Float[Tensor, "3 _h _w"], Float[Tensor, "3 _h _w"], Float[Tensor, "3 _h _w"]]:
    """Return the image's mean and variance in every window, and its covariance with the photo."""
    maps = torch.cat([image, image.square(), image * photo.image])
    mean, square, product = _blur(maps).split(3)
    return mean, _variance(mean, square), product - mean * photo.mean


def _variance(mean: Float[Tensor, "*map"], square: Float[Tensor, "*map"]) -> Float[Tensor, "*map"]:
    return (square - mean.square()).clamp(min=torch.finfo(mean.dtype).eps ** 2)


def _blur(maps: Float[Tensor, "map height width"]) -> Float[Tensor, "map _height _width"]:
    """Average with the window, where it lies inside; a group per channel is fast on CPUs."""
    offsets = torch.arange(WINDOW_PX, dtype=maps.dtype, device=maps.device) - WINDOW_PX // 2
    weights = torch.exp(-offsets.square() / (2 * SIGMA_PX**2))
    weights = (weights / weights.sum()).expand(len(maps), 1, 1, WINDOW_PX)
    rows = functional.conv2d(maps[None], weights, groups=len(maps))
    return functional.conv2d(rows, weights.mT, groups=len(maps))[0]
