"""Lists of the Gaussians that touch each tile of the image, nearest first."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float64, Int32, Int64

from models.render.kernels.compiler import cached_njit
from models.render.kernels.layout import BOTTOM, LEFT, RIGHT, TILE_BITS, TOP

DROPPED_BITS = 23  # of a depth's 52 binary places; single precision would leave out 29
DIGIT_BITS = 12
DIGITS = 1 << DIGIT_BITS


@cached_njit()
@no_type_check
def depth_order(
    depths: Float64[np.ndarray, " gaussian"], boxes: Int32[np.ndarray, "gaussian 4"]
) -> Int32[np.ndarray, " visible"]:
    """Return the Gaussians with a box, nearest first; ties in the order of the scene.

    Those whose boxes are emptied meanwhile may be among them. A radix sort: the bits of positive
    floats, read as integers, have the order of the floats.
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


# The lists of all tiles come from a stable counting sort, in three steps: every chunk of the work
# counts what it will put into each tile, the counts become offsets, and every chunk puts its
# Gaussians there.


@cached_njit()
@no_type_check
def fill_tiles(
    order: Int32[np.ndarray, " visible"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    tiles_x: int,
    offsets: Int64[np.ndarray, " tiles"],
    entries: Int32[np.ndarray, " entries"],
    chunk: int,
    chunks: int,
) -> None:
    """Put this chunk's Gaussians into their tiles' lists from `offsets` on, and move those on.

    Without `entries` only the offsets move: from zeros, they become counts.
    """
    count = len(order)
    for j in range(chunk * count // chunks, (chunk + 1) * count // chunks):
        box = boxes[order[j]]
        if box[LEFT] > box[RIGHT]:
            continue
        for tile_y in range(box[TOP] >> TILE_BITS, (box[BOTTOM] >> TILE_BITS) + 1):
            for tile_x in range(box[LEFT] >> TILE_BITS, (box[RIGHT] >> TILE_BITS) + 1):
                tile = tile_y * tiles_x + tile_x
                if len(entries):
                    entries[offsets[tile]] = order[j]
                offsets[tile] += 1


@cached_njit()
@no_type_check
def counts_to_offsets(counts: Int64[np.ndarray, "chunks tiles"]) -> Int64[np.ndarray, " bounds"]:
    """Turn counts into offsets, in place; return where each tile's list starts, and the end."""
    chunks, tiles = counts.shape
    starts = np.empty(tiles + 1, np.int64)
    total = 0
    for tile in range(tiles):
        starts[tile] = total
        for chunk in range(chunks):
            here = counts[chunk, tile]
            counts[chunk, tile] = total
            total += here
    starts[tiles] = total
    return starts
