"""The structure term of SSIM and its slope on CPUs, row by row: no map is kept but three slopes."""

from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float32
from numba import njit
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

HALF, ONE, TWO = np.float32(0.5), np.float32(1), np.float32(2)
FAST = {"contract", "nnan", "ninf", "nsz", "arcp"}


class Disagreement(Function):
    """One minus the mean structure of a picture that is compared with a photo."""

    @staticmethod
    def forward(
        ctx: Any,
        image: Float32[Tensor, "3 height width"],
        photo: Float32[Tensor, "3 height width"],
        mean: Float32[Tensor, "3 inner_height inner_width"],
        variance: Float32[Tensor, "3 inner_height inner_width"],
        weights: Float32[Tensor, " window"],
        limits: tuple[float, float, float],
    ) -> Float32[Tensor, ""]:
        """`limits`: what is added to both sides of a ratio, its most, and the least variance."""
        image, photo = image.contiguous(), photo.contiguous()
        slopes = torch.empty(3, *mean.shape)
        maps = (image, photo, mean.contiguous(), variance.contiguous(), weights, slopes)
        bounds = (np.float32(limit) for limit in limits)
        total = compare(*(each.detach().numpy() for each in maps), *bounds)
        ctx.save_for_backward(slopes, weights, image, photo)
        return torch.tensor(1 - total / mean.numel())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_loss: Float32[Tensor, ""]) -> tuple:
        """Only the picture has a gradient."""
        slopes, weights, image, photo = (each.detach() for each in ctx.saved_tensors)
        by_image = torch.empty_like(image)
        spread(*(each.numpy() for each in (slopes, weights, image, photo, by_image)))
        return by_image * (by_loss / -slopes[0].numel()), None, None, None, None, None


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
@no_type_check
def compare(
    image: Float32[np.ndarray, "3 height width"],
    photo: Float32[np.ndarray, "3 height width"],
    mean: Float32[np.ndarray, "3 inner_height inner_width"],
    variance: Float32[np.ndarray, "3 inner_height inner_width"],
    weights: Float32[np.ndarray, " window"],
    slopes: Float32[np.ndarray, "3 3 inner_height inner_width"],
    stabilizer: np.float32,
    most: np.float32,
    least: np.float32,
) -> float:
    """The sum of structures, and its slopes by blurred picture, square and product."""
    channels, inner_height, inner_width = mean.shape
    width, window = image.shape[2], len(weights)
    columns = np.empty((3, width), np.float32)
    blurred = np.empty((3, inner_width), np.float32)
    total = 0.0
    for c in range(channels):
        for y in range(inner_height):
            columns[:], blurred[:] = 0, 0
            for k in range(window):
                for x in range(width):
                    weighted = weights[k] * image[c, y + k, x]
                    columns[0, x] += weighted
                    columns[1, x] += weighted * image[c, y + k, x]
                    columns[2, x] += weighted * photo[c, y + k, x]
            for k in range(window):
                for x in range(inner_width):
                    blurred[0, x] += weights[k] * columns[0, x + k]
                    blurred[1, x] += weights[k] * columns[1, x + k]
                    blurred[2, x] += weights[k] * columns[2, x + k]
            row = np.float32(0)
            for x in range(inner_width):
                ours, theirs = blurred[0, x], mean[c, y, x]
                free = blurred[1, x] - ours * ours
                own = max(free, least)
                span = np.sqrt(own * variance[c, y, x])
                product = blurred[2, x] - ours * theirs
                shared = min(max(product, -span), span)
                inverse = ONE / (span + stabilizer)
                structure = (shared + stabilizer) * inverse
                row += min(structure, most)
                by_shared = inverse if structure <= most else np.float32(0)
                side = ONE if product > span else (-ONE if product < -span else np.float32(0))
                by_span = by_shared * (side - structure)
                by_product = by_shared if side == 0 else np.float32(0)
                by_square = by_span * HALF * span / own if free > least else np.float32(0)
                slopes[0, c, y, x] = -theirs * by_product - TWO * ours * by_square
                slopes[1, c, y, x] = by_square
                slopes[2, c, y, x] = by_product
            total += row
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
@no_type_check
def spread(
    slopes: Float32[np.ndarray, "3 3 inner_height inner_width"],
    weights: Float32[np.ndarray, " window"],
    image: Float32[np.ndarray, "3 height width"],
    photo: Float32[np.ndarray, "3 height width"],
    by_image: Float32[np.ndarray, "3 height width"],
) -> None:
    """Fill in slopes by the picture: those by what is blurred, blurred the other way."""
    _, channels, inner_height, inner_width = slopes.shape
    height, width, window = image.shape[1], image.shape[2], len(weights)
    columns = np.zeros((3, width + window - 1), np.float32)  # zeros stay on both sides
    filled = columns[:, window - 1 : window - 1 + inner_width]
    blurred = np.empty((3, width), np.float32)
    mirrored = weights[::-1].copy()
    for c in range(channels):
        for y in range(height):
            filled[:], blurred[:] = 0, 0
            first = max(0, y - window + 1)
            for row in range(first, min(y + 1, inner_height)):
                weight = weights[y - row]
                for x in range(inner_width):
                    filled[0, x] += weight * slopes[0, c, row, x]
                    filled[1, x] += weight * slopes[1, c, row, x]
                    filled[2, x] += weight * slopes[2, c, row, x]
            for k in range(window):
                for x in range(width):
                    blurred[0, x] += mirrored[k] * columns[0, x + k]
                    blurred[1, x] += mirrored[k] * columns[1, x + k]
                    blurred[2, x] += mirrored[k] * columns[2, x + k]
            for x in range(width):
                of_square = TWO * image[c, y, x] * blurred[1, x]
                by_image[c, y, x] = blurred[0, x] + of_square + photo[c, y, x] * blurred[2, x]
