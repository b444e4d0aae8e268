"""Vectors of three numbers as tuples, which compilers keep in registers."""

from typing import no_type_check

import numpy as np
from numba import njit


@njit
@no_type_check
def load_vector(row):
    """Read three numbers in float64."""
    return np.float64(row[0]), np.float64(row[1]), np.float64(row[2])


@njit
@no_type_check
def dot(a, b):
    """Return the scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@njit
@no_type_check
def weighted_sum(s, a, t, b):
    """Return s a + t b."""
    return s * a[0] + t * b[0], s * a[1] + t * b[1], s * a[2] + t * b[2]


@njit
@no_type_check
def multiply(a, b):
    """Multiply element by element."""
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


@njit
@no_type_check
def vecmat(s, m):
    """Multiply a row vector by a matrix of three rows."""
    return (
        s[0] * m[0][0] + s[1] * m[1][0] + s[2] * m[2][0],
        s[0] * m[0][1] + s[1] * m[1][1] + s[2] * m[2][1],
        s[0] * m[0][2] + s[1] * m[1][2] + s[2] * m[2][2],
    )


@njit
@no_type_check
def matvec(m, a):
    """Multiply a matrix of three rows by a vector."""
    return dot(m[0], a), dot(m[1], a), dot(m[2], a)
