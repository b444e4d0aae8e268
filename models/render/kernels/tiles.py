"""Which Gaussians touch which tile of the picture, nearest first."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float64, Int32, Int64
from numba import njit

from models.render.kernels.layout import BOTTOM, LEFT, RIGHT, TILE_BITS, TOP

DROPPED_BITS = 23  # of a depth's 52 binary places; single precision would leave out 29
DIGIT_BITS = 12
DIGITS = 1 << DIGIT_BITS


@njit(cache=True, nogil=True)
@no_type_check
def depth_order(
    depths: Float64[np.ndarray, " gaussian"], boxes: Int32[np.ndarray, "gaussian 4"]
) -> Int32[np.ndarray, " drawn"]:
    """Indices of the Gaussians that are drawn, nearest first; ties in the order of the scene.

    Those whose boxes are emptied meanwhile may be among them.

    A radix sort: the bits of positive floats, read as integers, have the order of the floats.
    """
    count = 0
    order = np.empty(len(boxes), np.int32)
    keys = np.empty(len(boxes), np.int64)
    nearest, farthest = np.int64(2**63 - 1), np.int64(0)
    bits = depths.view(np.int64)
    for i in range(len(boxes)):
        if boxes[i, LEFT] <= boxes[i, RIGHT]:
            key = bits[i] >> DROPPED_BITS
            nearest, farthest = min(nearest, key), max(farthest, key)
            order[count], keys[count] = i, key
            count += 1
    order, keys = order[:count], keys[:count]
    next_order, next_keys = np.empty_like(order), np.empty_like(keys)
    shift = 0
    while count > 0 and (farthest - nearest) >> shift:
        starts = np.zeros(DIGITS + 1, np.int64)
        for key in keys:
            starts[(((key - nearest) >> shift) & (DIGITS - 1)) + 1] += 1
        for digit in range(DIGITS):
            starts[digit + 1] += starts[digit]
        for j in range(count):
            digit = ((keys[j] - nearest) >> shift) & (DIGITS - 1)
            next_order[starts[digit]], next_keys[starts[digit]] = order[j], keys[j]
            starts[digit] += 1
        order, next_order = next_order, order
        keys, next_keys = next_keys, keys
        shift += DIGIT_BITS
    return order


# The lists of all tiles come from a counting sort that keeps the order. It goes in three steps:
# every part of the work counts what it will put into each tile, the counts become places, and
# every part puts its Gaussians there.


@njit(cache=True, nogil=True)
@no_type_check
def count_tiles(
    order: Int32[np.ndarray, " drawn"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    tiles_x: int,
    counts: Int64[np.ndarray, " tiles"],
    part: int,
    parts: int,
) -> None:
    """Add to `counts` how many Gaussians of this part touch each tile."""
    count = len(order)
    for j in range(part * count // parts, (part + 1) * count // parts):
        box = boxes[order[j]]
        if box[LEFT] > box[RIGHT]:
            continue
        for tile_y in range(box[TOP] >> TILE_BITS, (box[BOTTOM] >> TILE_BITS) + 1):
            for tile_x in range(box[LEFT] >> TILE_BITS, (box[RIGHT] >> TILE_BITS) + 1):
                counts[tile_y * tiles_x + tile_x] += 1


@njit(cache=True, nogil=True)
@no_type_check
def place_tiles(counts: Int64[np.ndarray, "parts tiles"]) -> Int64[np.ndarray, " bounds"]:
    """Turn counts into places, in place; return where each tile's list starts, and the end."""
    parts, tiles = counts.shape
    starts = np.empty(tiles + 1, np.int64)
    total = 0
    for tile in range(tiles):
        starts[tile] = total
        for part in range(parts):
            here = counts[part, tile]
            counts[part, tile] = total
            total += here
    starts[tiles] = total
    return starts


@njit(cache=True, nogil=True)
@no_type_check
def fill_tiles(
    order: Int32[np.ndarray, " drawn"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    tiles_x: int,
    places: Int64[np.ndarray, " tiles"],
    entries: Int32[np.ndarray, " entries"],
    part: int,
    parts: int,
) -> None:
    """Put the Gaussians of this part into the lists of their tiles; uses up `places`."""
    count = len(order)
    for j in range(part * count // parts, (part + 1) * count // parts):
        box = boxes[order[j]]
        if box[LEFT] > box[RIGHT]:
            continue
        for tile_y in range(box[TOP] >> TILE_BITS, (box[BOTTOM] >> TILE_BITS) + 1):
            for tile_x in range(box[LEFT] >> TILE_BITS, (box[RIGHT] >> TILE_BITS) + 1):
                tile = tile_y * tiles_x + tile_x
                entries[places[tile]] = order[j]
                places[tile] += 1
