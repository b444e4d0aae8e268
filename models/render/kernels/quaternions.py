"""Rotations of Gaussians: from quaternions of any length to axes, and back."""

import math
from typing import no_type_check

import numpy as np
from numba import njit


@njit(error_model="numpy")
@no_type_check
def unit_quaternion(row):
    """Return a quaternion scaled to length 1, and one over its length; NaN if that is zero."""
    w, x, y, z = np.float64(row[0]), np.float64(row[1]), np.float64(row[2]), np.float64(row[3])
    inverse = 1 / math.sqrt(w * w + x * x + y * y + z * z)
    return (w * inverse, x * inverse, y * inverse, z * inverse), inverse


@njit
@no_type_check
def rotation_columns(quaternion):
    """Return the columns of a unit quaternion's rotation: a Gaussian's axes in the world."""
    w, x, y, z = quaternion
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)),
        (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)),
        (2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)),
    )


@njit
@no_type_check
def quaternion_gradient(quaternion, inverse_length, g):
    """Return the gradient of a quaternion of any length, from that of its `rotation_columns`."""
    w, x, y, z = quaternion
    grad_w = 2 * (x * (g[1][2] - g[2][1]) + y * (g[2][0] - g[0][2]) + z * (g[0][1] - g[1][0]))
    grad_x = 2 * (y * (g[0][1] + g[1][0]) + z * (g[0][2] + g[2][0]) + w * (g[1][2] - g[2][1]))
    grad_x -= 4 * x * (g[1][1] + g[2][2])
    grad_y = 2 * (x * (g[0][1] + g[1][0]) + z * (g[1][2] + g[2][1]) + w * (g[2][0] - g[0][2]))
    grad_y -= 4 * y * (g[0][0] + g[2][2])
    grad_z = 2 * (x * (g[0][2] + g[2][0]) + y * (g[1][2] + g[2][1]) + w * (g[0][1] - g[1][0]))
    grad_z -= 4 * z * (g[0][0] + g[1][1])
    along = w * grad_w + x * grad_x + y * grad_y + z * grad_z
    return (
        (grad_w - w * along) * inverse_length,
        (grad_x - x * along) * inverse_length,
        (grad_y - y * along) * inverse_length,
        (grad_z - z * along) * inverse_length,
    )
