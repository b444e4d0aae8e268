"""EWA splatting (Zwicker et al., 2001): from Gaussians in the world to ellipses on the image."""

import math
from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Float64, Int32
from numba import njit

from models.render.constants import DILATION_PX2, FRUSTUM_MARGIN, MIN_ALPHA, MIN_DEPTH
from models.render.kernels import layout as at
from models.render.kernels.compiler import cached_njit
from models.render.kernels.quaternions import quaternion_gradient, rotation_columns, unit_quaternion
from models.render.kernels.vectors import dot, load_vector, matvec, multiply, vecmat, weighted_sum

ROUNDING_PX = 1e-3  # pixels by which a box is larger than it must be
NO_GRADIENT = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)
PER_SIGMA = math.sqrt(0.5 / math.log(2))  # exp(-d^2 / 2) = 2^-(PER_SIGMA d)^2


@njit
@no_type_check
def clip(value, low, high):
    return min(max(value, low), high)


@njit
@no_type_check
def pose_rows(world2cam):
    """Return the first three rows as tuples."""
    return (
        (world2cam[0, 0], world2cam[0, 1], world2cam[0, 2], world2cam[0, 3]),
        (world2cam[1, 0], world2cam[1, 1], world2cam[1, 2], world2cam[1, 3]),
        (world2cam[2, 0], world2cam[2, 1], world2cam[2, 2], world2cam[2, 3]),
    )


@njit
@no_type_check
def to_camera(pose, point):
    """Transform a point by the rows of `world2cam`."""
    x, y, z = matvec(pose, point)
    return x + pose[0][3], y + pose[1][3], z + pose[2][3]


@njit(error_model="numpy")
@no_type_check
def perspective(pinhole, width, height, x, y, z):
    """Project a point in camera axes to pixel x and y; return them and the clamped Jacobian.

    Of that, d(pixel x) / d(camera x, z) and d(pixel y) / d(camera y, z).
    """
    inverse_z = 1 / z
    xx, yy, cx, cy = pinhole[0] * inverse_z, pinhole[1] * inverse_z, pinhole[2], pinhole[3]
    pixel_x, pixel_y = xx * x + cx, yy * y + cy
    near_x = clip(pixel_x, -FRUSTUM_MARGIN * width, (1 + FRUSTUM_MARGIN) * width)
    near_y = clip(pixel_y, -FRUSTUM_MARGIN * height, (1 + FRUSTUM_MARGIN) * height)
    return pixel_x, pixel_y, xx, (cx - near_x) * inverse_z, yy, (cy - near_y) * inverse_z


@njit
@no_type_check
def dilated_covariance(across, down):
    """Return the dilated 2D covariance (xx, xy, yy) of axes in pixels, and its determinant.

    The determinant is built from positive terms: xx * yy - xy * xy would lose all its digits for
    long thin splats.
    """
    xx, yy = dot(across, across), dot(down, down)
    area_x = across[1] * down[2] - across[2] * down[1]
    area_y = across[2] * down[0] - across[0] * down[2]
    area_z = across[0] * down[1] - across[1] * down[0]
    area = area_x * area_x + area_y * area_y + area_z * area_z
    determinant = area + DILATION_PX2 * (xx + yy) + DILATION_PX2 * DILATION_PX2
    return xx + DILATION_PX2, dot(across, down), yy + DILATION_PX2, determinant


@njit(error_model="numpy", inline="always")
@no_type_check
def fill_box(box, x, y, reach_x, reach_y, width, height):
    """Fill in the range of pixels whose centers lie within reach; empty if there are none."""
    box[at.LEFT] = math.ceil(clip(x - reach_x - 0.5, 0.0, width))
    box[at.RIGHT] = math.floor(clip(x + reach_x - 0.5, -1.0, width - 1.0))
    box[at.TOP] = math.ceil(clip(y - reach_y - 0.5, 0.0, height))
    box[at.BOTTOM] = math.floor(clip(y + reach_y - 0.5, -1.0, height - 1.0))
    if box[at.TOP] > box[at.BOTTOM]:
        box[at.RIGHT] = box[at.LEFT] - 1


@njit(error_model="numpy", inline="always")
@no_type_check
def project_gaussian(mean, scale, rotation, opacity, pose, pinhole, width, height, splat, box):
    """Fill in a splat, all but its color, and its box; return its depth."""
    box[at.LEFT], box[at.RIGHT], box[at.TOP], box[at.BOTTOM] = 0, -1, 0, -1
    x, y, z = to_camera(pose, load_vector(mean))
    if not (z >= MIN_DEPTH and opacity >= MIN_ALPHA):
        return z
    pixel_x, pixel_y, xx, xz, yy, yz = perspective(pinhole, width, height, x, y, z)
    axes = rotation_columns(unit_quaternion(rotation)[0])
    across = multiply(matvec(axes, weighted_sum(xx, pose[0], xz, pose[2])), load_vector(scale))
    down = multiply(matvec(axes, weighted_sum(yy, pose[1], yz, pose[2])), load_vector(scale))
    variance_x, covariance, variance_y, determinant = dilated_covariance(across, down)
    splat[at.X], splat[at.Y], splat[at.DEPTH], splat[at.OPACITY] = pixel_x, pixel_y, z, opacity
    factor_x = PER_SIGMA * math.sqrt(variance_y / determinant)
    splat[at.FACTOR_X], splat[at.FACTOR_XY] = factor_x, -factor_x * covariance / variance_y
    splat[at.FACTOR_Y] = PER_SIGMA / math.sqrt(variance_y)
    total = splat[at.X] + splat[at.Y] + splat[at.DEPTH] + splat[at.OPACITY]
    total += splat[at.FACTOR_X] + splat[at.FACTOR_XY] + splat[at.FACTOR_Y]
    if math.isfinite(total):
        tile_boxes = math.sqrt(2 * math.log(max(opacity / MIN_ALPHA, 1.0)))
        reach_x = tile_boxes * math.sqrt(variance_x) + ROUNDING_PX
        reach_y = tile_boxes * math.sqrt(variance_y) + ROUNDING_PX
        fill_box(box, pixel_x, pixel_y, reach_x, reach_y, width, height)
    return z


@cached_njit(error_model="numpy")
@no_type_check
def project(
    means: Float32[np.ndarray, "gaussian 3"],
    scales: Float32[np.ndarray, "gaussian 3"],
    rotations: Float32[np.ndarray, "gaussian 4"],
    opacities: Float32[np.ndarray, " gaussian"],
    world2cam: Float64[np.ndarray, "4 4"],
    pinhole: Float64[np.ndarray, "4"],
    width: int,
    height: int,
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    depths: Float64[np.ndarray, " gaussian"],
    chunk: int,
    chunks: int,
) -> None:
    """Fill in `splats`, all but their color, `boxes`, and z as `depths`, computed in float64.

    `pinhole` is (fx, fy, cx, cy) in pixels. Boxes are empty where nothing is to be seen: behind
    the camera, too faint, outside the image or not finite.
    """
    count, pose = len(means), pose_rows(world2cam)
    for i in range(chunk * count // chunks, (chunk + 1) * count // chunks):
        mean, scale, rotation = means[i], scales[i], rotations[i]
        opacity, splat, box = np.float64(opacities[i]), splats[i], boxes[i]
        depths[i] = project_gaussian(
            mean, scale, rotation, opacity, pose, pinhole, width, height, splat, box
        )


@njit(error_model="numpy")
@no_type_check
def ellipse_gradient(moments, variance_x, covariance, variance_y, determinant):
    """Return the gradients of the center (x, y) and of the covariance (xx, xy, yy)."""
    inverse = 1 / determinant
    a, b, c = variance_y * inverse, -covariance * inverse, variance_x * inverse
    dx, dy, dxx = load_vector(moments[at.DX : at.DX + 3])
    dxy, dyy = np.float64(moments[at.DXY]), np.float64(moments[at.DYY])
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


@njit(error_model="numpy", inline="always")
@no_type_check
def project_gaussian_backward(
    mean, scale, rotation, pose, pinhole, width, height, moments, wanted, sums
):
    """Add to the camera's `sums`; return gradients of mean, scale and rotation if `wanted`."""
    mean, scale = load_vector(mean), load_vector(scale)
    x, y, z = to_camera(pose, mean)
    pixel_x, pixel_y, xx, xz, yy, yz = perspective(pinhole, width, height, x, y, z)
    quaternion, inverse_length = unit_quaternion(rotation)
    axes = rotation_columns(quaternion)
    jacobian_x = weighted_sum(xx, pose[0], xz, pose[2])
    jacobian_y = weighted_sum(yy, pose[1], yz, pose[2])
    unit_across, unit_down = matvec(axes, jacobian_x), matvec(axes, jacobian_y)
    across, down = multiply(unit_across, scale), multiply(unit_down, scale)
    grad_center, grad_covariance = ellipse_gradient(moments, *dilated_covariance(across, down))

    grad_across = weighted_sum(2 * grad_covariance[0], across, grad_covariance[1], down)
    grad_down = weighted_sum(2 * grad_covariance[2], down, grad_covariance[1], across)
    grad_unit_across, grad_unit_down = grad_across, grad_down
    grad_across, grad_down = multiply(grad_across, scale), multiply(grad_down, scale)
    grad_slope_x, grad_slope_y = vecmat(grad_across, axes), vecmat(grad_down, axes)

    grad_xz, grad_yz = dot(grad_slope_x, pose[2]), dot(grad_slope_y, pose[2])
    grad_xx, grad_yy = dot(grad_slope_x, pose[0]), dot(grad_slope_y, pose[1])
    beyond_x = pixel_x < -FRUSTUM_MARGIN * width or pixel_x > (1 + FRUSTUM_MARGIN) * width
    beyond_y = pixel_y < -FRUSTUM_MARGIN * height or pixel_y > (1 + FRUSTUM_MARGIN) * height
    inverse_z = 1 / z
    grad_pixel_x = grad_center[0] - (0.0 if beyond_x else grad_xz * inverse_z)
    grad_pixel_y = grad_center[1] - (0.0 if beyond_y else grad_yz * inverse_z)
    grad_z = -(xx * grad_xx + xz * grad_xz + yy * grad_yy + yz * grad_yz) * inverse_z
    grad_z -= (xx * x * grad_pixel_x + yy * y * grad_pixel_y) * inverse_z
    grad_point = (xx * grad_pixel_x, yy * grad_pixel_y, grad_z + moments[at.DEPTH])

    for column in range(3):
        sums[0, column] += grad_point[0] * mean[column] + xx * grad_slope_x[column]
        sums[1, column] += grad_point[1] * mean[column] + yy * grad_slope_y[column]
        sums[2, column] += grad_point[2] * mean[column]
        sums[2, column] += xz * grad_slope_x[column] + yz * grad_slope_y[column]
        sums[column, 3] += grad_point[column]
    sums[3, 0] += (grad_xx + x * grad_pixel_x) * inverse_z
    sums[3, 1] += (grad_yy + y * grad_pixel_y) * inverse_z
    sums[3, 2] += grad_pixel_x + grad_xz * inverse_z
    sums[3, 3] += grad_pixel_y + grad_yz * inverse_z
    if not wanted:
        return NO_GRADIENT
    grad_scale = weighted_sum(
        1.0, multiply(grad_unit_across, unit_across), 1.0, multiply(grad_unit_down, unit_down)
    )
    grad_axes = (
        weighted_sum(grad_across[0], jacobian_x, grad_down[0], jacobian_y),
        weighted_sum(grad_across[1], jacobian_x, grad_down[1], jacobian_y),
        weighted_sum(grad_across[2], jacobian_x, grad_down[2], jacobian_y),
    )
    grad_quaternion = quaternion_gradient(quaternion, inverse_length, grad_axes)
    return vecmat(grad_point, pose), grad_scale, grad_quaternion


@cached_njit(error_model="numpy")
@no_type_check
def project_backward(
    means: Float32[np.ndarray, "gaussian 3"],
    scales: Float32[np.ndarray, "gaussian 3"],
    rotations: Float32[np.ndarray, "gaussian 4"],
    world2cam: Float64[np.ndarray, "4 4"],
    pinhole: Float64[np.ndarray, "4"],
    width: int,
    height: int,
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    moments: Float32[np.ndarray, "gaussian 10"],
    sums: Float64[np.ndarray, "4 4"],
    wanted: bool,
    grad_means: Float32[np.ndarray, "gaussian 3"],
    grad_scales: Float32[np.ndarray, "gaussian 3"],
    grad_rotations: Float32[np.ndarray, "gaussian 4"],
    grad_opacities: Float32[np.ndarray, " gaussian"],
    chunk: int,
    chunks: int,
) -> None:
    """Turn `moments` into gradients of the camera and, if `wanted`, of the Gaussians.

    `sums`, zeros before, gets this chunk's sums: above those of the pose, in the last row those of
    the pinhole parameters. `grad_means` is added to; the other gradients are zeros before.
    """
    count, pose = len(means), pose_rows(world2cam)
    for i in range(chunk * count // chunks, (chunk + 1) * count // chunks):
        if boxes[i, at.LEFT] > boxes[i, at.RIGHT]:
            continue
        mean, scale, rotation, of_splat = means[i], scales[i], rotations[i], moments[i]
        grad_mean, grad_scale, grad_rotation = project_gaussian_backward(
            mean, scale, rotation, pose, pinhole, width, height, of_splat, wanted, sums
        )
        if wanted:
            grad_opacities[i] = -moments[i, at.ONE] / splats[i, at.OPACITY]
            for k in range(3):
                grad_means[i, k] += grad_mean[k]
                grad_scales[i, k] = grad_scale[k]
            for k in range(4):
                grad_rotations[i, k] = grad_rotation[k]
