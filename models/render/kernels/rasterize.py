"""From ellipses to pixels, four by four at a time."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Int32, Int64
from numba import njit

from models.render import constants
from models.render.kernels import blocks
from models.render.kernels import layout as at
from models.render.kernels.blocks import EXACT, HALF, MAX_ALPHA, MIN_ALPHA, ONE, ZERO
from models.render.kernels.compiler import cached_njit
from models.render.kernels.layout import BLOCK, BLOCK_BITS, BLOCKS, BLOCKS_ACROSS, LANES, TILE

MIN_TRANSMITTANCE = np.float32(constants.MIN_TRANSMITTANCE)
CHECK_EVERY = 8  # Gaussians between two looks at whether all pixels of a block are done


@njit
@no_type_check
def split_tile(count, tile_boxes, lists, lengths):
    """List, for every block of a tile, the tile's splats that touch it, in the same order."""
    lengths[:] = 0
    for i in range(count):
        left, right = tile_boxes[i, at.LEFT], tile_boxes[i, at.RIGHT]
        top, bottom = tile_boxes[i, at.TOP], tile_boxes[i, at.BOTTOM]
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                block = y * BLOCKS_ACROSS + x
                lists[block, lengths[block]] = i
                lengths[block] += 1


@njit(fastmath=EXACT)
@no_type_check
def rasterize_block(x, y, offsets, splats, lanes):
    """Blend splats into `lanes`, the block whose first pixel is (x, y), front to back."""
    for position in range(len(offsets)):
        i = offsets[position]
        offset_x = np.float32(x) + HALF - splats[i, at.X]
        offset_y = np.float32(y) + HALF - splats[i, at.Y]
        factor_x, factor_xy = splats[i, at.FACTOR_X], splats[i, at.FACTOR_XY]
        factor_y = splats[i, at.FACTOR_Y]
        opacity, z = splats[i, at.OPACITY], splats[i, at.DEPTH]
        r, g, b = splats[i, at.RED], splats[i, at.GREEN], splats[i, at.BLUE]
        index = np.float32(i)
        for lane in range(LANES):
            dx = np.float32(lane & (BLOCK - 1)) + offset_x
            dy = np.float32(lane >> BLOCK_BITS) + offset_y
            u = factor_x * dx + factor_xy * dy
            v = factor_y * dy
            alpha = min(opacity * blocks.exp2_negative(u * u + v * v), MAX_ALPHA)
            alpha = alpha * lanes[at.ACTIVE + lane] if alpha >= MIN_ALPHA else ZERO
            weight = lanes[at.TRANSMITTANCE + lane] * alpha
            opaque = lanes[at.TRANSMITTANCE + lane] - weight <= MIN_TRANSMITTANCE
            weight = ZERO if opaque else weight
            lanes[at.ACTIVE + lane] = ZERO if opaque else lanes[at.ACTIVE + lane]
            lanes[at.REDS + lane] += weight * r
            lanes[at.GREENS + lane] += weight * g
            lanes[at.BLUES + lane] += weight * b
            lanes[at.DEPTHS + lane] += weight * z
            lanes[at.TRANSMITTANCE + lane] -= weight
            lanes[at.LAST + lane] = index if weight > ZERO else lanes[at.LAST + lane]
        if position % CHECK_EVERY == CHECK_EVERY - 1:
            busy = ZERO
            for lane in range(LANES):
                busy = max(busy, lanes[at.ACTIVE + lane])
            if busy == ZERO:
                break


@njit
@no_type_check
def clear_lanes(x, y, width, height, lanes):
    """Set the state of a block's pixels before the first splat; pixels outside are inactive."""
    lanes[:] = ZERO
    for lane in range(LANES):
        inside = x + lane % BLOCK < width and y + lane // BLOCK < height
        lanes[at.ACTIVE + lane] = ONE if inside else ZERO
        lanes[at.TRANSMITTANCE + lane] = ONE
        lanes[at.LAST + lane] = -ONE


@njit
@no_type_check
def store_lanes(x, y, lanes, background, image, last_splat):
    """Write a block's pixels to the image, over the background."""
    _, height, width = image.shape
    for lane in range(LANES):
        px, py = x + lane % BLOCK, y + lane // BLOCK
        if px < width and py < height:
            transmittance = lanes[at.TRANSMITTANCE + lane]
            image[0, py, px] = lanes[at.REDS + lane] + transmittance * background[0]
            image[1, py, px] = lanes[at.GREENS + lane] + transmittance * background[1]
            image[2, py, px] = lanes[at.BLUES + lane] + transmittance * background[2]
            image[3, py, px] = lanes[at.DEPTHS + lane]
            image[4, py, px] = transmittance
            last_splat[py, px] = np.int32(lanes[at.LAST + lane])


@cached_njit(fastmath=EXACT)
@no_type_check
def rasterize(
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    starts: Int64[np.ndarray, " bounds"],
    entries: Int32[np.ndarray, " entries"],
    background: Float32[np.ndarray, "3"],
    image: Float32[np.ndarray, "5 height width"],
    last_splat: Int32[np.ndarray, "height width"],
    chunk: int,
    chunks: int,
) -> None:
    """Rasterize tiles, whose Gaussians are `entries` from `starts` on, front to back.

    Fills in `image` with red, green, blue, depth and transmittance, and `last_splat` with the
    position in its tile's list of the last Gaussian that a pixel shows, or -1.
    """
    _, height, width = image.shape
    tiles_x, longest = (width + TILE - 1) // TILE, blocks.longest_list(starts)
    tile_splats = np.empty((longest, at.SPLAT_COLUMNS), np.float32)
    tile_boxes, lists = np.empty((longest, 4), np.int32), np.empty((BLOCKS, longest), np.int32)
    lengths, lanes = np.empty(BLOCKS, np.int64), blocks.aligned_zeros(at.LANE_NUMBERS)
    for tile in range(chunk, len(starts) - 1, chunks):
        tile_x, tile_y = tile % tiles_x, tile // tiles_x
        tile_entries = entries[starts[tile] : starts[tile + 1]]
        blocks.gather_tile(tile_x, tile_y, tile_entries, splats, boxes, tile_splats, tile_boxes)
        split_tile(len(tile_entries), tile_boxes, lists, lengths)
        for block in range(BLOCKS):
            x = tile_x * TILE + block % BLOCKS_ACROSS * BLOCK
            y = tile_y * TILE + block // BLOCKS_ACROSS * BLOCK
            if x < width and y < height:
                clear_lanes(x, y, width, height, lanes)
                rasterize_block(x, y, lists[block, : lengths[block]], tile_splats, lanes)
                store_lanes(x, y, lanes, background, image, last_splat)
