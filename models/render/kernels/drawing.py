"""From ellipses to pixels and back: four by four pixels at a time."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Int32, Int64
from numba import njit

from models.render import constants
from models.render.kernels import layout as at
from models.render.kernels.layout import (
    BLOCK,
    BLOCK_BITS,
    BLOCKS,
    BLOCKS_ACROSS,
    LANES,
    TILE,
)

ZERO, HALF, ONE = np.float32(0), np.float32(0.5), np.float32(1)
SMALLEST_ALPHA = np.float32(constants.SMALLEST_ALPHA)
LARGEST_ALPHA = np.float32(constants.LARGEST_ALPHA)
ENOUGH = np.float32(constants.ENOUGH)
CHECK_EVERY = 8  # Gaussians between two looks at whether all pixels of a block are done

# Where a block's state is in its `lanes`: one number for every pixel. One array and not many, so
# that compilers see that they do not overlap.
LIGHT, REDS, GREENS, BLUES, DEPTHS, ACTIVE, LAST = range(0, 7 * LANES, LANES)
BEHIND = ACTIVE  # on the way back

# Everything that gets here is finite. No reassociation on the way forward: it would break the
# rounding in `two_to_minus`.
EXACT = {"contract", "nnan", "ninf", "nsz"}
SUMS_IN_ANY_ORDER = {*EXACT, "reassoc"}


@njit(fastmath=EXACT)
@no_type_check
def two_to_minus(value):
    """2^-value for value >= 0, to 1e-7, without a branch or a call: compilers vectorize it."""
    power = max(-value, np.float32(-120))
    whole = np.int32(power - HALF)
    part = power - np.float32(whole)
    series = np.float32(1.327647192e-3)
    series = series * part + np.float32(9.675541334e-3)
    series = series * part + np.float32(5.550713274e-2)
    series = series * part + np.float32(0.2402211972)
    series = series * part + np.float32(0.6931469671)
    series = series * part + np.float32(1.000000072)
    return series * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)


@njit
@no_type_check
def aligned(count):
    """Room for so many numbers, beginning with a line of the cache: as wide as a register."""
    room = np.zeros(count + LANES, np.float32)
    start = -(room.ctypes.data >> 2) & (LANES - 1)
    return room[start : start + count]


@njit
@no_type_check
def fetch(tile_x, tile_y, entries, splats, boxes, near, reach):
    """Copy a tile's splats, scattered in memory, next to each other; fill in `reach`.

    `reach` is the first and the last column, and row, of the tile's blocks that a splat touches.
    """
    first_x, first_y = tile_x * BLOCKS_ACROSS, tile_y * BLOCKS_ACROSS
    for position in range(len(entries)):
        i = entries[position]
        for column in range(at.SPLAT_COLUMNS):
            near[position, column] = splats[i, column]
        left, right = boxes[i, at.LEFT] >> BLOCK_BITS, boxes[i, at.RIGHT] >> BLOCK_BITS
        top, bottom = boxes[i, at.TOP] >> BLOCK_BITS, boxes[i, at.BOTTOM] >> BLOCK_BITS
        reach[position, at.LEFT] = max(left - first_x, 0)
        reach[position, at.RIGHT] = min(right - first_x, BLOCKS_ACROSS - 1)
        reach[position, at.TOP] = max(top - first_y, 0)
        reach[position, at.BOTTOM] = min(bottom - first_y, BLOCKS_ACROSS - 1)


@njit
@no_type_check
def split_tile(count, reach, lists, lengths):
    """Hand the places of a tile's splats on to its blocks, in the same order."""
    lengths[:] = 0
    for i in range(count):
        left, right = reach[i, at.LEFT], reach[i, at.RIGHT]
        top, bottom = reach[i, at.TOP], reach[i, at.BOTTOM]
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                block = y * BLOCKS_ACROSS + x
                lists[block, lengths[block]] = i
                lengths[block] += 1


@njit
@no_type_check
def longest_list(starts):
    longest = 0
    for tile in range(len(starts) - 1):
        longest = max(longest, starts[tile + 1] - starts[tile])
    return longest


@njit(fastmath=EXACT)
@no_type_check
def draw_block(x, y, places, splats, lanes):
    """Draw the block whose first pixel is (x, y) into `lanes`."""
    for turn in range(len(places)):
        i = places[turn]
        off_x = np.float32(x) + HALF - splats[i, at.X]
        off_y = np.float32(y) + HALF - splats[i, at.Y]
        factor_x, factor_xy = splats[i, at.FACTOR_X], splats[i, at.FACTOR_XY]
        factor_y = splats[i, at.FACTOR_Y]
        opacity, z = splats[i, at.OPACITY], splats[i, at.DEPTH]
        r, g, b = splats[i, at.RED], splats[i, at.GREEN], splats[i, at.BLUE]
        mark = np.float32(i)
        for lane in range(LANES):
            dx = np.float32(lane & (BLOCK - 1)) + off_x
            dy = np.float32(lane >> BLOCK_BITS) + off_y
            u = factor_x * dx + factor_xy * dy
            v = factor_y * dy
            alpha = min(opacity * two_to_minus(u * u + v * v), LARGEST_ALPHA)
            alpha = alpha * lanes[ACTIVE + lane] if alpha >= SMALLEST_ALPHA else ZERO
            enough = lanes[LIGHT + lane] - lanes[LIGHT + lane] * alpha <= ENOUGH
            weight = ZERO if enough else lanes[LIGHT + lane] * alpha
            lanes[ACTIVE + lane] = ZERO if enough else lanes[ACTIVE + lane]
            lanes[REDS + lane] += weight * r
            lanes[GREENS + lane] += weight * g
            lanes[BLUES + lane] += weight * b
            lanes[DEPTHS + lane] += weight * z
            lanes[LIGHT + lane] -= weight
            lanes[LAST + lane] = mark if weight > ZERO else lanes[LAST + lane]
        if turn % CHECK_EVERY == CHECK_EVERY - 1:
            busy = ZERO
            for lane in range(LANES):
                busy = max(busy, lanes[ACTIVE + lane])
            if busy == ZERO:
                break


@njit
@no_type_check
def clear_lanes(x, y, width, height, lanes):
    lanes[:] = ZERO
    for lane in range(LANES):
        inside = x + lane % BLOCK < width and y + lane // BLOCK < height
        lanes[ACTIVE + lane] = ONE if inside else ZERO
        lanes[LIGHT + lane] = ONE
        lanes[LAST + lane] = -ONE


@njit
@no_type_check
def store_lanes(x, y, lanes, background, picture, last):
    _, height, width = picture.shape
    for lane in range(LANES):
        px, py = x + lane % BLOCK, y + lane // BLOCK
        if px < width and py < height:
            light = lanes[LIGHT + lane]
            picture[0, py, px] = lanes[REDS + lane] + light * background[0]
            picture[1, py, px] = lanes[GREENS + lane] + light * background[1]
            picture[2, py, px] = lanes[BLUES + lane] + light * background[2]
            picture[3, py, px] = lanes[DEPTHS + lane]
            picture[4, py, px] = light
            last[py, px] = np.int32(lanes[LAST + lane])


@njit(cache=True, nogil=True, fastmath=EXACT)
@no_type_check
def draw(
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    starts: Int64[np.ndarray, " bounds"],
    entries: Int32[np.ndarray, " entries"],
    background: Float32[np.ndarray, "3"],
    picture: Float32[np.ndarray, "5 height width"],
    last: Int32[np.ndarray, "height width"],
    part: int,
    parts: int,
) -> None:
    """Draw all tiles, front to back.

    - `splats`, `boxes`: See `layout`.
    - `starts`, `entries`: The Gaussians of every tile, nearest first.
    - `background`: RGB.
    - `picture`: What is filled in: red, green, blue, depth and what is left of the light.
    - `last`: Filled in too: the position in its tile's list of the last Gaussian that a pixel
      shows, or -1.
    - `part`, `parts`: Which part of the work to do, of how many.
    """
    _, height, width = picture.shape
    tiles_x, longest = (width + TILE - 1) // TILE, longest_list(starts)
    near = np.empty((longest, at.SPLAT_COLUMNS), np.float32)
    reach, lists = np.empty((longest, 4), np.int32), np.empty((BLOCKS, longest), np.int32)
    lengths, lanes = np.empty(BLOCKS, np.int64), aligned(7 * LANES)
    for tile in range(part, len(starts) - 1, parts):
        tile_x, tile_y = tile % tiles_x, tile // tiles_x
        of_tile = entries[starts[tile] : starts[tile + 1]]
        fetch(tile_x, tile_y, of_tile, splats, boxes, near, reach)
        split_tile(len(of_tile), reach, lists, lengths)
        for block in range(BLOCKS):
            x = tile_x * TILE + block % BLOCKS_ACROSS * BLOCK
            y = tile_y * TILE + block // BLOCKS_ACROSS * BLOCK
            if x < width and y < height:
                clear_lanes(x, y, width, height, lanes)
                draw_block(x, y, lists[block, : lengths[block]], near, lanes)
                store_lanes(x, y, lanes, background, picture, last)


@njit
@no_type_check
def load_gradients(x, y, background, picture, last, gradients, lanes):
    """Prepare `lanes` for the way back; return the position of the last Gaussian that counts."""
    _, height, width = picture.shape
    lanes[:] = ZERO
    furthest = -1
    for lane in range(LANES):
        px, py = x + lane % BLOCK, y + lane // BLOCK
        lanes[LIGHT + lane], lanes[LAST + lane] = ONE, -ONE
        if px < width and py < height:
            red, green, blue = gradients[0, py, px], gradients[1, py, px], gradients[2, py, px]
            light = picture[4, py, px]
            of_light = red * background[0] + green * background[1] + blue * background[2]
            lanes[REDS + lane], lanes[GREENS + lane], lanes[BLUES + lane] = red, green, blue
            lanes[DEPTHS + lane] = gradients[3, py, px]
            lanes[LIGHT + lane] = light
            lanes[BEHIND + lane] = light * (of_light + gradients[4, py, px])
            lanes[LAST + lane] = last[py, px]
            furthest = max(furthest, last[py, px])
    return furthest


@njit(fastmath=SUMS_IN_ANY_ORDER)
@no_type_check
def add_lanes(sums, moments):
    """Write the sums of all lanes to a splat's moments; all at once, which compilers vectorize."""
    one = dx = dy = dxx = dxy = dyy = red = green = blue = depth = ZERO
    for lane in range(LANES):
        one += sums[at.ONE * LANES + lane]
        dx += sums[at.DX * LANES + lane]
        dy += sums[at.DY * LANES + lane]
        dxx += sums[at.DXX * LANES + lane]
        dxy += sums[at.DXY * LANES + lane]
        dyy += sums[at.DYY * LANES + lane]
        red += sums[at.RED * LANES + lane]
        green += sums[at.GREEN * LANES + lane]
        blue += sums[at.BLUE * LANES + lane]
        depth += sums[at.DEPTH * LANES + lane]
    moments[at.ONE], moments[at.DX], moments[at.DY] = one, dx, dy
    moments[at.DXX], moments[at.DXY], moments[at.DYY] = dxx, dxy, dyy
    moments[at.RED], moments[at.GREEN], moments[at.BLUE] = red, green, blue
    moments[at.DEPTH] = depth


@njit(fastmath=SUMS_IN_ANY_ORDER, error_model="numpy")
@no_type_check
def draw_tile_backward(first_x, first_y, count, splats, reach, furthest, states, sums, moments):
    """Fill in what a tile whose first pixel is (first_x, first_y) says, back to front.

    A splat's blocks add to the same `sums`, lane by lane: adding lanes up takes as long as a block.
    """
    for i in range(count - 1, -1, -1):
        factor_x, factor_xy = splats[i, at.FACTOR_X], splats[i, at.FACTOR_XY]
        factor_y = splats[i, at.FACTOR_Y]
        opacity, z, mark = splats[i, at.OPACITY], splats[i, at.DEPTH], np.float32(i)
        r, g, b = splats[i, at.RED], splats[i, at.GREEN], splats[i, at.BLUE]
        left, right = reach[i, at.LEFT], reach[i, at.RIGHT]
        sums[:] = ZERO
        for y in range(reach[i, at.TOP], reach[i, at.BOTTOM] + 1):
            off_y = np.float32(first_y + y * BLOCK) + HALF - splats[i, at.Y]
            for x in range(left, right + 1):
                if i > furthest[y * BLOCKS_ACROSS + x]:
                    continue
                off_x = np.float32(first_x + x * BLOCK) + HALF - splats[i, at.X]
                state = states[y * BLOCKS_ACROSS + x]
                for lane in range(LANES):
                    dx = np.float32(lane & (BLOCK - 1)) + off_x
                    dy = np.float32(lane >> BLOCK_BITS) + off_y
                    u = factor_x * dx + factor_xy * dy
                    v = factor_y * dy
                    whole = opacity * two_to_minus(u * u + v * v)
                    alpha = min(whole, LARGEST_ALPHA)
                    alpha = alpha if alpha >= SMALLEST_ALPHA else ZERO
                    alpha = alpha if mark <= state[LAST + lane] else ZERO
                    upscale = ONE / (ONE - alpha)
                    light = state[LIGHT + lane] * upscale
                    weight = light * alpha
                    value = state[REDS + lane] * r + state[GREENS + lane] * g
                    value += state[BLUES + lane] * b + state[DEPTHS + lane] * z
                    of_alpha = light * value - state[BEHIND + lane] * upscale
                    state[BEHIND + lane] += weight * value
                    state[LIGHT + lane] = light
                    pull = -alpha * of_alpha if whole <= LARGEST_ALPHA else ZERO
                    sums[at.ONE * LANES + lane] += pull
                    sums[at.DX * LANES + lane] += pull * dx
                    sums[at.DY * LANES + lane] += pull * dy
                    sums[at.DXX * LANES + lane] += pull * dx * dx
                    sums[at.DXY * LANES + lane] += pull * dx * dy
                    sums[at.DYY * LANES + lane] += pull * dy * dy
                    sums[at.RED * LANES + lane] += weight * state[REDS + lane]
                    sums[at.GREEN * LANES + lane] += weight * state[GREENS + lane]
                    sums[at.BLUE * LANES + lane] += weight * state[BLUES + lane]
                    sums[at.DEPTH * LANES + lane] += weight * state[DEPTHS + lane]
        add_lanes(sums, moments[i])


@njit(cache=True, nogil=True, fastmath=SUMS_IN_ANY_ORDER)
@no_type_check
def draw_backward(
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    starts: Int64[np.ndarray, " bounds"],
    entries: Int32[np.ndarray, " entries"],
    background: Float32[np.ndarray, "3"],
    picture: Float32[np.ndarray, "5 height width"],
    last: Int32[np.ndarray, "height width"],
    gradients: Float32[np.ndarray, "5 height width"],
    moments: Float32[np.ndarray, "gaussian 10"],
    part: int,
    parts: int,
) -> None:
    """Turn gradients with respect to the picture into `moments` of every splat: see `layout`.

    - `splats` to `last`: As in `draw`, after it.
    - `gradients`: With respect to the picture.
    - `moments`: Zeros, to be filled in with this part's share.
    - `part`, `parts`: Which part of the work to do, of how many.
    """
    tiles_x = (picture.shape[2] + TILE - 1) // TILE
    longest = longest_list(starts)
    near = np.empty((longest, at.SPLAT_COLUMNS), np.float32)
    of_near, reach = np.empty_like(near), np.empty((longest, 4), np.int32)
    states = aligned(BLOCKS * 7 * LANES).reshape(BLOCKS, 7 * LANES)
    sums, furthest = aligned(at.SPLAT_COLUMNS * LANES), np.empty(BLOCKS, np.int32)
    for tile in range(part, len(starts) - 1, parts):
        tile_x, tile_y = tile % tiles_x, tile // tiles_x
        for block in range(BLOCKS):
            x = tile_x * TILE + block % BLOCKS_ACROSS * BLOCK
            y = tile_y * TILE + block // BLOCKS_ACROSS * BLOCK
            furthest[block] = load_gradients(
                x, y, background, picture, last, gradients, states[block]
            )
        count = furthest.max() + 1
        of_tile = entries[starts[tile] : starts[tile] + count]
        fetch(tile_x, tile_y, of_tile, splats, boxes, near, reach)
        x, y = tile_x * TILE, tile_y * TILE
        draw_tile_backward(x, y, count, near, reach, furthest, states, sums, of_near)
        for position in range(count):
            for column in range(at.SPLAT_COLUMNS):
                moments[of_tile[position], column] += of_near[position, column]


@njit(cache=True, nogil=True)
@no_type_check
def add_up(shares: Float32[np.ndarray, "parts gaussian 10"], part: int, parts: int) -> None:
    """Add the other shares of `moments` to the first, for this part of the Gaussians."""
    count = shares.shape[1]
    for other in range(1, len(shares)):
        for i in range(part * count // parts, (part + 1) * count // parts):
            for column in range(at.SPLAT_COLUMNS):
                shares[0, i, column] += shares[other, i, column]
