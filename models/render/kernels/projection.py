"""From Gaussians in the world to ellipses in the picture, and back."""

import math
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int32
from numba import njit

from models.render.constants import DILATION, MARGIN, NEAR, SMALLEST_ALPHA
from models.render.kernels import layout as at
from models.render.kernels.vectors import apply, combine, dot, mix, times, triple

ROUNDING = 1e-3  # pixels by which a box is larger than it must be
NOTHING = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)
PER_SIGMA = math.sqrt(0.5 / math.log(2))  # exp(-d^2 / 2) = 2^-(PER_SIGMA d)^2


@njit
@no_type_check
def clip(value, low, high):
    return min(max(value, low), high)


@njit(error_model="numpy")
@no_type_check
def unit_quaternion(row):
    """A quaternion scaled to length 1, and one over its length; NaN if that is zero."""
    w, x, y, z = np.float64(row[0]), np.float64(row[1]), np.float64(row[2]), np.float64(row[3])
    inverse = 1 / math.sqrt(w * w + x * x + y * y + z * z)
    return (w * inverse, x * inverse, y * inverse, z * inverse), inverse


@njit
@no_type_check
def axes_of(quaternion):
    """A Gaussian's axes in the world: the columns of its rotation matrix."""
    w, x, y, z = quaternion
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)),
        (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)),
        (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)),
    )


@njit(error_model="numpy")
@no_type_check
def perspective(lens, width, height, x, y, z):
    """Pixel coordinates of a point in the camera, and the slopes used there.

    Returns:
        Pixel x and y, d(pixel x) / d(camera x, z) and d(pixel y) / d(camera y, z).
    """
    inverse_z = 1 / z
    xx, yy, cx, cy = lens[0] * inverse_z, lens[1] * inverse_z, lens[2], lens[3]
    pixel_x, pixel_y = xx * x + cx, yy * y + cy
    near_x = clip(pixel_x, -MARGIN * width, (1 + MARGIN) * width)
    near_y = clip(pixel_y, -MARGIN * height, (1 + MARGIN) * height)
    return pixel_x, pixel_y, xx, (cx - near_x) * inverse_z, yy, (cy - near_y) * inverse_z


@njit
@no_type_check
def covariance_of(across, down):
    """The 2D covariance (xx, xy, yy) of axes given in pixels, and its determinant.

    The determinant is built from positive terms: xx * yy - xy * xy would lose all its digits for
    long thin splats.
    """
    xx, yy = dot(across, across), dot(down, down)
    area_x = across[1] * down[2] - across[2] * down[1]
    area_y = across[2] * down[0] - across[0] * down[2]
    area_z = across[0] * down[1] - across[1] * down[0]
    area = area_x * area_x + area_y * area_y + area_z * area_z
    determinant = area + DILATION * (xx + yy) + DILATION * DILATION
    return xx + DILATION, dot(across, down), yy + DILATION, determinant


@njit(error_model="numpy", inline="always")
@no_type_check
def set_box(box, x, y, reach_x, reach_y, width, height):
    """The pixels whose centers lie within reach, cut to the picture; empty if there are none."""
    box[at.LEFT] = math.ceil(clip(x - reach_x - 0.5, 0.0, width))
    box[at.RIGHT] = math.floor(clip(x + reach_x - 0.5, -1.0, width - 1.0))
    box[at.TOP] = math.ceil(clip(y - reach_y - 0.5, 0.0, height))
    box[at.BOTTOM] = math.floor(clip(y + reach_y - 0.5, -1.0, height - 1.0))
    if box[at.TOP] > box[at.BOTTOM]:
        box[at.RIGHT] = box[at.LEFT] - 1


@njit(error_model="numpy", inline="always")
@no_type_check
def project_one(mean, scale, rotation, opacity, pose, lens, width, height, splat, box):
    """Fill in all of a splat but its color, and its box; return its depth."""
    box[at.LEFT], box[at.RIGHT], box[at.TOP], box[at.BOTTOM] = 0, -1, 0, -1
    in_camera = apply(pose, triple(mean))
    x, y, z = in_camera[0] + pose[0][3], in_camera[1] + pose[1][3], in_camera[2] + pose[2][3]
    if not (z >= NEAR and opacity >= SMALLEST_ALPHA):
        return z
    pixel_x, pixel_y, xx, xz, yy, yz = perspective(lens, width, height, x, y, z)
    axes = axes_of(unit_quaternion(rotation)[0])
    across = times(apply(axes, mix(xx, pose[0], xz, pose[2])), triple(scale))
    down = times(apply(axes, mix(yy, pose[1], yz, pose[2])), triple(scale))
    variance_x, covariance, variance_y, determinant = covariance_of(across, down)
    splat[at.X], splat[at.Y], splat[at.DEPTH], splat[at.OPACITY] = pixel_x, pixel_y, z, opacity
    factor_x = PER_SIGMA * math.sqrt(variance_y / determinant)
    splat[at.FACTOR_X], splat[at.FACTOR_XY] = factor_x, -factor_x * covariance / variance_y
    splat[at.FACTOR_Y] = PER_SIGMA / math.sqrt(variance_y)
    total = splat[at.X] + splat[at.Y] + splat[at.DEPTH] + splat[at.OPACITY]
    total += splat[at.FACTOR_X] + splat[at.FACTOR_XY] + splat[at.FACTOR_Y]
    if math.isfinite(total):
        reach = math.sqrt(2 * math.log(max(opacity / SMALLEST_ALPHA, 1.0)))
        reach_x = reach * math.sqrt(variance_x) + ROUNDING
        reach_y = reach * math.sqrt(variance_y) + ROUNDING
        set_box(box, pixel_x, pixel_y, reach_x, reach_y, width, height)
    return z


@njit
@no_type_check
def rows_of(pose):
    return (
        (pose[0, 0], pose[0, 1], pose[0, 2], pose[0, 3]),
        (pose[1, 0], pose[1, 1], pose[1, 2], pose[1, 3]),
        (pose[2, 0], pose[2, 1], pose[2, 2], pose[2, 3]),
    )


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def project(
    means: Float32[np.ndarray, "gaussian 3"],
    scales: Float32[np.ndarray, "gaussian 3"],
    rotations: Float32[np.ndarray, "gaussian 4"],
    opacities: Float32[np.ndarray, " gaussian"],
    pose: Float64[np.ndarray, "4 4"],
    lens: Float64[np.ndarray, "4"],
    width: int,
    height: int,
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    depths: Float64[np.ndarray, " gaussian"],
    part: int,
    parts: int,
) -> None:
    """Fill in `splats`, all but their color, and `boxes`, in double precision inside.

    - `means`, `scales`, `rotations`, `opacities`: The scene.
    - `pose`: `world2cam`.
    - `lens`: (fx, fy, cx, cy) in pixels.
    - `width`, `height`: Of the picture.
    - `splats`, `boxes`: What is filled in; see `layout`. Boxes of what is not drawn are empty:
      behind the camera, too faint, outside the picture or not finite.
    - `depths`: Filled in with z, in double precision, to sort by.
    - `part`, `parts`: Which part of the work to do, of how many.
    """
    count, view = len(means), rows_of(pose)
    for i in range(part * count // parts, (part + 1) * count // parts):
        mean, scale, rotation = means[i], scales[i], rotations[i]
        opacity, splat, box = np.float64(opacities[i]), splats[i], boxes[i]
        depths[i] = project_one(
            mean, scale, rotation, opacity, view, lens, width, height, splat, box
        )


@njit(error_model="numpy")
@no_type_check
def through_inverse(moments, variance_x, covariance, variance_y, determinant):
    """From moments to derivatives: by the center (x, y), and by the covariance (xx, xy, yy)."""
    inverse = 1 / determinant
    a, b, c = variance_y * inverse, -covariance * inverse, variance_x * inverse
    dx, dy = np.float64(moments[at.DX]), np.float64(moments[at.DY])
    dxx, dxy = np.float64(moments[at.DXX]), np.float64(moments[at.DXY])
    dyy = np.float64(moments[at.DYY])
    first_x, first_y = a * dxx + b * dxy, a * dxy + b * dyy
    second_x, second_y = b * dxx + c * dxy, b * dxy + c * dyy
    return (
        (-(a * dx + b * dy), -(b * dx + c * dy)),
        (
            -0.5 * (first_x * a + first_y * b),
            -(first_x * b + first_y * c),
            -0.5 * (second_x * b + second_y * c),
        ),
    )


@njit
@no_type_check
def quaternion_gradient(quaternion, inverse_length, g):
    """By a quaternion of any length, from derivatives by the axes that `axes_of` gives."""
    w, x, y, z = quaternion
    by_w = 2 * (x * (g[1][2] - g[2][1]) + y * (g[2][0] - g[0][2]) + z * (g[0][1] - g[1][0]))
    by_x = 2 * (y * (g[0][1] + g[1][0]) + z * (g[0][2] + g[2][0]) + w * (g[1][2] - g[2][1]))
    by_x -= 4 * x * (g[1][1] + g[2][2])
    by_y = 2 * (x * (g[0][1] + g[1][0]) + z * (g[1][2] + g[2][1]) + w * (g[2][0] - g[0][2]))
    by_y -= 4 * y * (g[0][0] + g[2][2])
    by_z = 2 * (x * (g[0][2] + g[2][0]) + y * (g[1][2] + g[2][1]) + w * (g[0][1] - g[1][0]))
    by_z -= 4 * z * (g[0][0] + g[1][1])
    along = w * by_w + x * by_x + y * by_y + z * by_z
    return (
        (by_w - w * along) * inverse_length,
        (by_x - x * along) * inverse_length,
        (by_y - y * along) * inverse_length,
        (by_z - z * along) * inverse_length,
    )


@njit(error_model="numpy", inline="always")
@no_type_check
def project_one_backward(mean, scale, rotation, pose, lens, width, height, moments, whole, sums):
    """Add to the camera's `sums`; return derivatives by mean, scale and rotation if `whole`."""
    mean, scale = triple(mean), triple(scale)
    in_camera = apply(pose, mean)
    x, y, z = in_camera[0] + pose[0][3], in_camera[1] + pose[1][3], in_camera[2] + pose[2][3]
    pixel_x, pixel_y, xx, xz, yy, yz = perspective(lens, width, height, x, y, z)
    quaternion, inverse_length = unit_quaternion(rotation)
    axes = axes_of(quaternion)
    slope_x, slope_y = mix(xx, pose[0], xz, pose[2]), mix(yy, pose[1], yz, pose[2])
    unit_across, unit_down = apply(axes, slope_x), apply(axes, slope_y)
    across, down = times(unit_across, scale), times(unit_down, scale)
    by_center, by_covariance = through_inverse(moments, *covariance_of(across, down))

    by_across = mix(2 * by_covariance[0], across, by_covariance[1], down)
    by_down = mix(2 * by_covariance[2], down, by_covariance[1], across)
    by_unit_across, by_unit_down = by_across, by_down
    by_across, by_down = times(by_across, scale), times(by_down, scale)
    by_slope_x, by_slope_y = combine(by_across, axes), combine(by_down, axes)

    by_xz, by_yz = dot(by_slope_x, pose[2]), dot(by_slope_y, pose[2])
    by_xx, by_yy = dot(by_slope_x, pose[0]), dot(by_slope_y, pose[1])
    beyond_x = pixel_x < -MARGIN * width or pixel_x > (1 + MARGIN) * width
    beyond_y = pixel_y < -MARGIN * height or pixel_y > (1 + MARGIN) * height
    inverse_z = 1 / z
    by_pixel_x = by_center[0] - (0.0 if beyond_x else by_xz * inverse_z)
    by_pixel_y = by_center[1] - (0.0 if beyond_y else by_yz * inverse_z)
    by_z = -(xx * by_xx + xz * by_xz + yy * by_yy + yz * by_yz) * inverse_z
    by_z -= (xx * x * by_pixel_x + yy * y * by_pixel_y) * inverse_z
    by_point = (xx * by_pixel_x, yy * by_pixel_y, by_z + moments[at.DEPTH])

    for column in range(3):
        sums[0, column] += by_point[0] * mean[column] + xx * by_slope_x[column]
        sums[1, column] += by_point[1] * mean[column] + yy * by_slope_y[column]
        sums[2, column] += by_point[2] * mean[column]
        sums[2, column] += xz * by_slope_x[column] + yz * by_slope_y[column]
        sums[column, 3] += by_point[column]
    sums[3, 0] += (by_xx + x * by_pixel_x) * inverse_z
    sums[3, 1] += (by_yy + y * by_pixel_y) * inverse_z
    sums[3, 2] += by_pixel_x + by_xz * inverse_z
    sums[3, 3] += by_pixel_y + by_yz * inverse_z
    if not whole:
        return NOTHING
    by_scale = mix(1.0, times(by_unit_across, unit_across), 1.0, times(by_unit_down, unit_down))
    by_axes = (
        mix(by_across[0], slope_x, by_down[0], slope_y),
        mix(by_across[1], slope_x, by_down[1], slope_y),
        mix(by_across[2], slope_x, by_down[2], slope_y),
    )
    by_quaternion = quaternion_gradient(quaternion, inverse_length, by_axes)
    return combine(by_point, pose), by_scale, by_quaternion


@njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def project_backward(
    means: Float32[np.ndarray, "gaussian 3"],
    scales: Float32[np.ndarray, "gaussian 3"],
    rotations: Float32[np.ndarray, "gaussian 4"],
    pose: Float64[np.ndarray, "4 4"],
    lens: Float64[np.ndarray, "4"],
    width: int,
    height: int,
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    moments: Float32[np.ndarray, "gaussian 10"],
    sums: Float64[np.ndarray, "4 4"],
    whole: bool,
    by_means: Float32[np.ndarray, "gaussian 3"],
    by_scales: Float32[np.ndarray, "gaussian 3"],
    by_rotations: Float32[np.ndarray, "gaussian 4"],
    by_opacities: Float32[np.ndarray, " gaussian"],
    part: int,
    parts: int,
) -> None:
    """Turn `moments` into derivatives by the camera and, if `whole`, by the Gaussians.

    - `means` to `boxes`: As in `project`, after it.
    - `moments`: See `layout`.
    - `sums`: Zeros, to be filled in with this part's share: above by the pose, last row by the
      lens.
    - `whole`: Whether the rest is wanted.
    - `by_means`: Added to.
    - `by_scales`, `by_rotations`, `by_opacities`: Zeros, to be filled in.
    - `part`, `parts`: Which part of the work to do, of how many.
    """
    count, view = len(means), rows_of(pose)
    for i in range(part * count // parts, (part + 1) * count // parts):
        if boxes[i, at.LEFT] > boxes[i, at.RIGHT]:
            continue
        mean, scale, rotation, of_splat = means[i], scales[i], rotations[i], moments[i]
        by_mean, by_scale, by_rotation = project_one_backward(
            mean, scale, rotation, view, lens, width, height, of_splat, whole, sums
        )
        if whole:
            by_opacities[i] = -moments[i, at.ONE] / splats[i, at.OPACITY]
            for k in range(3):
                by_means[i, k] += by_mean[k]
                by_scales[i, k] = by_scale[k]
            for k in range(4):
                by_rotations[i, k] = by_rotation[k]
