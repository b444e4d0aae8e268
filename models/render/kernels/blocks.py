"""Layout and arithmetic that the forward and backward passes over tiles share."""

from typing import no_type_check

import numpy as np
from numba import njit

from models.render import constants
from models.render.kernels import layout as at
from models.render.kernels.layout import BLOCK_BITS, BLOCKS_ACROSS, LANES

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
MIN_ALPHA = np.float32(constants.MIN_ALPHA)
MAX_ALPHA = np.float32(constants.MAX_ALPHA)

# Everything that gets here is finite. No reassociation in the forward pass: it would break the
# rounding in `exp2_negative`.
EXACT = {"contract", "nnan", "ninf", "nsz"}


@njit(fastmath=EXACT)
@no_type_check
def exp2_negative(value):
    """Compute 2^-value for value >= 0, to 1e-7, without branches: compilers vectorize it."""
    power = max(-value, np.float32(-120))
    whole = np.int32(power - HALF)
    chunk = power - np.float32(whole)
    series = np.float32(1.327647192e-3)
    series = series * chunk + np.float32(9.675541334e-3)
    series = series * chunk + np.float32(5.550713274e-2)
    series = series * chunk + np.float32(0.2402211972)
    series = series * chunk + np.float32(0.6931469671)
    series = series * chunk + np.float32(1.000000072)
    return series * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)


@njit
@no_type_check
def aligned_zeros(count):
    """Allocate `count` float32 zeros that begin at a line of the cache, as registers want."""
    room = np.zeros(count + LANES, np.float32)
    start = -(room.ctypes.data >> 2) & (LANES - 1)
    return room[start : start + count]


@njit
@no_type_check
def gather_tile(tile_x, tile_y, entries, splats, boxes, tile_splats, tile_boxes):
    """Copy a tile's splats, scattered in memory, next to each other; fill in `tile_boxes`.

    `tile_boxes` are the first and the last column, and row, of the blocks that each touches.
    """
    first_x, first_y = tile_x * BLOCKS_ACROSS, tile_y * BLOCKS_ACROSS
    for position in range(len(entries)):
        i = entries[position]
        for column in range(at.SPLAT_COLUMNS):
            tile_splats[position, column] = splats[i, column]
        left, right = boxes[i, at.LEFT] >> BLOCK_BITS, boxes[i, at.RIGHT] >> BLOCK_BITS
        top, bottom = boxes[i, at.TOP] >> BLOCK_BITS, boxes[i, at.BOTTOM] >> BLOCK_BITS
        tile_boxes[position, at.LEFT] = max(left - first_x, 0)
        tile_boxes[position, at.RIGHT] = min(right - first_x, BLOCKS_ACROSS - 1)
        tile_boxes[position, at.TOP] = max(top - first_y, 0)
        tile_boxes[position, at.BOTTOM] = min(bottom - first_y, BLOCKS_ACROSS - 1)


@njit
@no_type_check
def longest_list(starts):
    """Return the length of the longest of the lists that begin at `starts`."""
    longest = 0
    for tile in range(len(starts) - 1):
        longest = max(longest, starts[tile + 1] - starts[tile])
    return longest
