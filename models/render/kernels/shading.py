"""The color of a Gaussian as seen from the camera: spherical harmonics to degree 3."""

import math
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int32
from numba import njit

from models.render.constants import HIGHEST_DEGREE
from models.render.kernels import layout as at

MOST_TERMS = (HIGHEST_DEGREE + 1) ** 2

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
    """The first `terms` harmonics along a unit vector."""
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
def unit_offset(mean, eye):
    """The direction from the eye to a mean, and one over the distance."""
    x, y, z = mean[0] - eye[0], mean[1] - eye[1], mean[2] - eye[2]
    inverse = 1 / math.sqrt(x * x + y * y + z * z)
    return np.float32(x * inverse), np.float32(y * inverse), np.float32(z * inverse), inverse


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def shade(
    means: Float32[np.ndarray, "gaussian 3"],
    harmonics: Float32[np.ndarray, "gaussian 3 sh"],
    eye: Float64[np.ndarray, "3"],
    terms: int,
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    part: int,
    parts: int,
) -> None:
    """Fill in the colors of the splats that are drawn.

    - `means`, `harmonics`: The scene.
    - `eye`: The camera's center in the world.
    - `terms`: How many harmonics count: 1, 4, 9 or 16.
    - `splats`: What is filled in; see `layout`.
    - `boxes`: Emptied where the color is not finite.
    - `part`, `parts`: Which part of the work to do, of how many.
    """
    count = len(means)
    basis = np.zeros(MOST_TERMS, np.float32)
    for i in range(part * count // parts, (part + 1) * count // parts):
        if boxes[i, at.LEFT] > boxes[i, at.RIGHT]:
            continue
        x, y, z, _ = unit_offset(means[i], eye)
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
    """The gradient of the weighted sum of the first `terms` harmonics, by x, y and z."""
    by_x = by_y = by_z = np.float32(0)
    if terms > 1:
        by_x -= C1 * weights[3]
        by_y -= C1 * weights[1]
        by_z += C1 * weights[2]
    if terms > 4:
        xy, yz, zz = C2_XY * weights[4], C2_XY * weights[5], C2_ZZ * weights[6]
        xz, xx = C2_XY * weights[7], C2_XX * weights[8]
        by_x += xy * y - xz * z + TWO * xx * x
        by_y += xy * x - yz * z - TWO * xx * y
        by_z += SIX * zz * z - yz * y - xz * x
    if terms > 9:
        yxx, xyz, yzz = C3_XXX * weights[9], C3_XYZ * weights[10], C3_XZZ * weights[11]
        zzz, xzz = C3_ZZZ * weights[12], C3_XZZ * weights[13]
        xxz, xxx = C3_XXZ * weights[14], C3_XXX * weights[15]
        by_x += xyz * y * z - SIX * yxx * x * y - xzz * (FIVE * z * z - ONE)
        by_x += TWO * xxz * x * z - THREE * xxx * (x * x - y * y)
        by_y += xyz * x * z - THREE * yxx * (x * x - y * y) - yzz * (FIVE * z * z - ONE)
        by_y += SIX * xxx * x * y - TWO * xxz * y * z
        by_z += xyz * x * y - TEN * z * (yzz * y + xzz * x) + zzz * (FIFTEEN * z * z - THREE)
        by_z += xxz * (x * x - y * y)
    return by_x, by_y, by_z


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
@no_type_check
def shade_backward(
    means: Float32[np.ndarray, "gaussian 3"],
    harmonics: Float32[np.ndarray, "gaussian 3 sh"],
    eye: Float64[np.ndarray, "3"],
    terms: int,
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    moments: Float32[np.ndarray, "gaussian 10"],
    by_eye: Float64[np.ndarray, "3"],
    wants_means: bool,
    by_means: Float32[np.ndarray, "gaussian 3"],
    wants_harmonics: bool,
    by_harmonics: Float32[np.ndarray, "gaussian 3 sh"],
    part: int,
    parts: int,
) -> None:
    """Turn derivatives by color into derivatives by harmonics and by the line of sight.

    - `means`, `harmonics`, `eye`, `terms`, `splats`, `boxes`: As in `shade`, after it.
    - `moments`: See `layout`.
    - `by_eye`: Zeros, to be filled in with this part's share.
    - `wants_means`, `by_means`: Zeros, to be filled in if wanted.
    - `wants_harmonics`, `by_harmonics`: Likewise.
    - `part`, `parts`: Which part of the work to do, of how many.
    """
    count = len(means)
    basis, weights = np.zeros(MOST_TERMS, np.float32), np.zeros(MOST_TERMS, np.float32)
    for i in range(part * count // parts, (part + 1) * count // parts):
        if boxes[i, at.LEFT] > boxes[i, at.RIGHT]:
            continue
        x, y, z, inverse = unit_offset(means[i], eye)
        fill_basis(x, y, z, terms, basis)
        weights[:] = 0
        for channel in range(3):
            if splats[i, at.RED + channel] > 0:
                by_color = moments[i, at.RED + channel]
                for k in range(terms):
                    weights[k] += by_color * harmonics[i, channel, k]
                if wants_harmonics:
                    for k in range(terms):
                        by_harmonics[i, channel, k] = by_color * basis[k]
        by_x, by_y, by_z = basis_gradient(x, y, z, terms, weights)
        along = by_x * x + by_y * y + by_z * z
        offset = (by_x - x * along, by_y - y * along, by_z - z * along)
        for k in range(3):
            by_eye[k] -= offset[k] * inverse
            if wants_means:
                by_means[i, k] = offset[k] * inverse
