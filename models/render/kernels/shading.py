"""The color of a Gaussian as seen from the camera: spherical harmonics to degree 3."""

import math
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int32
from numba import njit

from models.render.constants import MAX_SH_DEGREE
from models.render.kernels import layout as at
from models.render.kernels.compiler import cached_njit

MAX_SH_TERMS = (MAX_SH_DEGREE + 1) ** 2

# Real spherical harmonics: constants of the polynomials below, with the signs of 3DGS.
C0 = np.float32(math.sqrt(1 / (4 * math.pi)))
C1 = np.float32(math.sqrt(3 / (4 * math.pi)))
C2_XY = np.float32(math.sqrt(15 / (4 * math.pi)))
C2_ZZ = np.float32(math.sqrt(5 / (16 * math.pi)))
C2_XX = np.float32(math.sqrt(15 / (16 * math.pi)))
C3_XXX = np.float32(math.sqrt(35 / (32 * math.pi)))
C3_XYZ = np.float32(math.sqrt(105 / (4 * math.pi)))
C3_XZZ = np.float32(math.sqrt(21 / (32 * math.pi)))
C3_ZZZ = np.float32(math.sqrt(7 / (16 * math.pi)))
C3_XXZ = np.float32(math.sqrt(105 / (16 * math.pi)))
HALF, ONE, TWO, THREE = np.float32(0.5), np.float32(1), np.float32(2), np.float32(3)
FIVE, SIX, TEN, FIFTEEN = np.float32(5), np.float32(6), np.float32(10), np.float32(15)


@njit(error_model="numpy")
@no_type_check
def fill_basis(x, y, z, terms, basis):
    """Fill in the first `terms` harmonics along a unit vector."""
    basis[0] = C0
    if terms > 1:
        basis[1] = -C1 * y
        basis[2] = C1 * z
        basis[3] = -C1 * x
    if terms > 4:
        basis[4] = C2_XY * x * y
        basis[5] = -C2_XY * y * z
        basis[6] = C2_ZZ * (THREE * z * z - ONE)
        basis[7] = -C2_XY * x * z
        basis[8] = C2_XX * (x * x - y * y)
    if terms > 9:
        basis[9] = -C3_XXX * y * (THREE * x * x - y * y)
        basis[10] = C3_XYZ * x * y * z
        basis[11] = -C3_XZZ * y * (FIVE * z * z - ONE)
        basis[12] = C3_ZZZ * z * (FIVE * z * z - THREE)
        basis[13] = -C3_XZZ * x * (FIVE * z * z - ONE)
        basis[14] = C3_XXZ * z * (x * x - y * y)
        basis[15] = -C3_XXX * x * (x * x - THREE * y * y)


@njit(error_model="numpy")
@no_type_check
def view_direction(mean, camera_center):
    """Return the direction from the camera to a mean, and one over the distance."""
    x, y, z = mean[0] - camera_center[0], mean[1] - camera_center[1], mean[2] - camera_center[2]
    inverse = 1 / math.sqrt(x * x + y * y + z * z)
    return np.float32(x * inverse), np.float32(y * inverse), np.float32(z * inverse), inverse


@cached_njit(error_model="numpy", fastmath={"contract"})
@no_type_check
def shade(
    means: Float32[np.ndarray, "gaussian 3"],
    harmonics: Float32[np.ndarray, "gaussian 3 sh"],
    camera_center: Float64[np.ndarray, "3"],
    terms: int,
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    chunk: int,
    chunks: int,
) -> None:
    """Fill in the colors of the splats whose boxes are not empty; empty them where not finite.

    `terms` is how many harmonics count: 1, 4, 9 or 16.
    """
    count = len(means)
    basis = np.zeros(MAX_SH_TERMS, np.float32)
    for i in range(chunk * count // chunks, (chunk + 1) * count // chunks):
        if boxes[i, at.LEFT] > boxes[i, at.RIGHT]:
            continue
        x, y, z, _ = view_direction(means[i], camera_center)
        fill_basis(x, y, z, terms, basis)
        for channel in range(3):
            color = HALF
            for k in range(terms):
                color += basis[k] * harmonics[i, channel, k]
            if not math.isfinite(color):
                boxes[i, at.RIGHT] = boxes[i, at.LEFT] - 1
            splats[i, at.RED + channel] = max(color, np.float32(0))


@njit(error_model="numpy")
@no_type_check
def basis_gradient(x, y, z, terms, weights):
    """Return the gradient of the weighted sum of the first `terms` harmonics by x, y and z."""
    grad_x = grad_y = grad_z = np.float32(0)
    if terms > 1:
        grad_x -= C1 * weights[3]
        grad_y -= C1 * weights[1]
        grad_z += C1 * weights[2]
    if terms > 4:
        xy, yz, zz = C2_XY * weights[4], C2_XY * weights[5], C2_ZZ * weights[6]
        xz, xx = C2_XY * weights[7], C2_XX * weights[8]
        grad_x += xy * y - xz * z + TWO * xx * x
        grad_y += xy * x - yz * z - TWO * xx * y
        grad_z += SIX * zz * z - yz * y - xz * x
    if terms > 9:
        yxx, xyz, yzz = C3_XXX * weights[9], C3_XYZ * weights[10], C3_XZZ * weights[11]
        zzz, xzz = C3_ZZZ * weights[12], C3_XZZ * weights[13]
        xxz, xxx = C3_XXZ * weights[14], C3_XXX * weights[15]
        grad_x += xyz * y * z - SIX * yxx * x * y - xzz * (FIVE * z * z - ONE)
        grad_x += TWO * xxz * x * z - THREE * xxx * (x * x - y * y)
        grad_y += xyz * x * z - THREE * yxx * (x * x - y * y) - yzz * (FIVE * z * z - ONE)
        grad_y += SIX * xxx * x * y - TWO * xxz * y * z
        grad_z += xyz * x * y - TEN * z * (yzz * y + xzz * x) + zzz * (FIFTEEN * z * z - THREE)
        grad_z += xxz * (x * x - y * y)
    return grad_x, grad_y, grad_z


@cached_njit(error_model="numpy", fastmath={"contract"})
@no_type_check
def shade_backward(
    means: Float32[np.ndarray, "gaussian 3"],
    harmonics: Float32[np.ndarray, "gaussian 3 sh"],
    camera_center: Float64[np.ndarray, "3"],
    terms: int,
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    moments: Float32[np.ndarray, "gaussian 10"],
    grad_center: Float64[np.ndarray, "3"],
    wants_means: bool,
    grad_means: Float32[np.ndarray, "gaussian 3"],
    wants_harmonics: bool,
    grad_harmonics: Float32[np.ndarray, "gaussian 3 sh"],
    chunk: int,
    chunks: int,
) -> None:
    """Turn gradients of colors into gradients of harmonics and of the viewing direction.

    `grad_center`, zeros before, gets this chunk's sums; `grad_means` and `grad_harmonics`, zeros
    too, are filled in where wanted.
    """
    count = len(means)
    basis, weights = np.zeros(MAX_SH_TERMS, np.float32), np.zeros(MAX_SH_TERMS, np.float32)
    for i in range(chunk * count // chunks, (chunk + 1) * count // chunks):
        if boxes[i, at.LEFT] > boxes[i, at.RIGHT]:
            continue
        x, y, z, inverse = view_direction(means[i], camera_center)
        fill_basis(x, y, z, terms, basis)
        weights[:] = 0
        for channel in range(3):
            if splats[i, at.RED + channel] > 0:
                grad_color = moments[i, at.RED + channel]
                for k in range(terms):
                    weights[k] += grad_color * harmonics[i, channel, k]
                if wants_harmonics:
                    for k in range(terms):
                        grad_harmonics[i, channel, k] = grad_color * basis[k]
        grad_x, grad_y, grad_z = basis_gradient(x, y, z, terms, weights)
        along = grad_x * x + grad_y * y + grad_z * z
        offset = (grad_x - x * along, grad_y - y * along, grad_z - z * along)
        for k in range(3):
            grad_center[k] -= offset[k] * inverse
            if wants_means:
                grad_means[i, k] = offset[k] * inverse
