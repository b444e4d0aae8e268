"""From gradients of pixels to gradients of ellipses, four by four pixels at a time."""

from typing import no_type_check

import numpy as np
from jaxtyping import Float32, Int32, Int64
from numba import njit

from models.render.kernels import blocks
from models.render.kernels import layout as at
from models.render.kernels.blocks import EXACT, HALF, MAX_ALPHA, MIN_ALPHA, ONE, ZERO
from models.render.kernels.compiler import cached_njit
from models.render.kernels.layout import BLOCK, BLOCK_BITS, BLOCKS, BLOCKS_ACROSS, LANES, TILE

SUMS_IN_ANY_ORDER = {*EXACT, "reassoc"}


@njit
@no_type_check
def load_gradients(x, y, background, image, last_splat, gradients, lanes):
    """Prepare `lanes` for the backward pass; return the position of the last splat that counts."""
    _, height, width = image.shape
    lanes[:] = ZERO
    furthest = -1
    for lane in range(LANES):
        px, py = x + lane % BLOCK, y + lane // BLOCK
        lanes[at.TRANSMITTANCE + lane], lanes[at.LAST + lane] = ONE, -ONE
        if px < width and py < height:
            red, green, blue = gradients[0, py, px], gradients[1, py, px], gradients[2, py, px]
            transmittance = image[4, py, px]
            of_background = red * background[0] + green * background[1] + blue * background[2]
            lanes[at.REDS + lane], lanes[at.GREENS + lane], lanes[at.BLUES + lane] = (
                red,
                green,
                blue,
            )
            lanes[at.DEPTHS + lane] = gradients[3, py, px]
            lanes[at.TRANSMITTANCE + lane] = transmittance
            lanes[at.BEHIND + lane] = transmittance * (of_background + gradients[4, py, px])
            lanes[at.LAST + lane] = last_splat[py, px]
            furthest = max(furthest, last_splat[py, px])
    return furthest


@njit(fastmath=SUMS_IN_ANY_ORDER)
@no_type_check
def add_lanes(lane_sums, moments):
    """Write the sums over all lanes to a splat's moments, in a loop that compilers vectorize."""
    one = dx = dy = dxx = dxy = dyy = red = green = blue = depth = ZERO
    for lane in range(LANES):
        one += lane_sums[at.ONE * LANES + lane]
        dx += lane_sums[at.DX * LANES + lane]
        dy += lane_sums[at.DY * LANES + lane]
        dxx += lane_sums[at.DXX * LANES + lane]
        dxy += lane_sums[at.DXY * LANES + lane]
        dyy += lane_sums[at.DYY * LANES + lane]
        red += lane_sums[at.RED * LANES + lane]
        green += lane_sums[at.GREEN * LANES + lane]
        blue += lane_sums[at.BLUE * LANES + lane]
        depth += lane_sums[at.DEPTH * LANES + lane]
    moments[at.ONE], moments[at.DX], moments[at.DY] = one, dx, dy
    moments[at.DXX], moments[at.DXY], moments[at.DYY] = dxx, dxy, dyy
    moments[at.RED], moments[at.GREEN], moments[at.BLUE] = red, green, blue
    moments[at.DEPTH] = depth


@njit(fastmath=SUMS_IN_ANY_ORDER, error_model="numpy")
@no_type_check
def rasterize_tile_backward(
    first_x, first_y, count, splats, tile_boxes, last_positions, states, lane_sums, tile_moments
):
    """Fill in the moments of a tile whose first pixel is (first_x, first_y), back to front.

    A splat's blocks add to the same `lane_sums`: adding up lanes takes as long as a block.
    """
    for i in range(count - 1, -1, -1):
        factor_x, factor_xy = splats[i, at.FACTOR_X], splats[i, at.FACTOR_XY]
        factor_y = splats[i, at.FACTOR_Y]
        opacity, z, index = splats[i, at.OPACITY], splats[i, at.DEPTH], np.float32(i)
        r, g, b = splats[i, at.RED], splats[i, at.GREEN], splats[i, at.BLUE]
        left, right = tile_boxes[i, at.LEFT], tile_boxes[i, at.RIGHT]
        lane_sums[:] = ZERO
        for y in range(tile_boxes[i, at.TOP], tile_boxes[i, at.BOTTOM] + 1):
            offset_y = np.float32(first_y + y * BLOCK) + HALF - splats[i, at.Y]
            for x in range(left, right + 1):
                if i > last_positions[y * BLOCKS_ACROSS + x]:
                    continue
                offset_x = np.float32(first_x + x * BLOCK) + HALF - splats[i, at.X]
                state = states[y * BLOCKS_ACROSS + x]
                for lane in range(LANES):
                    dx = np.float32(lane & (BLOCK - 1)) + offset_x
                    dy = np.float32(lane >> BLOCK_BITS) + offset_y
                    u = factor_x * dx + factor_xy * dy
                    v = factor_y * dy
                    unclamped = opacity * blocks.exp2_negative(u * u + v * v)
                    alpha = min(unclamped, MAX_ALPHA)
                    alpha = alpha if alpha >= MIN_ALPHA else ZERO
                    alpha = alpha if index <= state[at.LAST + lane] else ZERO
                    upscale = ONE / (ONE - alpha)
                    transmittance = state[at.TRANSMITTANCE + lane] * upscale
                    weight = transmittance * alpha
                    shaded = state[at.REDS + lane] * r + state[at.GREENS + lane] * g
                    shaded += state[at.BLUES + lane] * b + state[at.DEPTHS + lane] * z
                    grad_alpha = transmittance * shaded - state[at.BEHIND + lane] * upscale
                    state[at.BEHIND + lane] += weight * shaded
                    state[at.TRANSMITTANCE + lane] = transmittance
                    grad_sigma = -alpha * grad_alpha if unclamped <= MAX_ALPHA else ZERO
                    lane_sums[at.ONE * LANES + lane] += grad_sigma
                    lane_sums[at.DX * LANES + lane] += grad_sigma * dx
                    lane_sums[at.DY * LANES + lane] += grad_sigma * dy
                    lane_sums[at.DXX * LANES + lane] += grad_sigma * dx * dx
                    lane_sums[at.DXY * LANES + lane] += grad_sigma * dx * dy
                    lane_sums[at.DYY * LANES + lane] += grad_sigma * dy * dy
                    lane_sums[at.RED * LANES + lane] += weight * state[at.REDS + lane]
                    lane_sums[at.GREEN * LANES + lane] += weight * state[at.GREENS + lane]
                    lane_sums[at.BLUE * LANES + lane] += weight * state[at.BLUES + lane]
                    lane_sums[at.DEPTH * LANES + lane] += weight * state[at.DEPTHS + lane]
        add_lanes(lane_sums, tile_moments[i])


@cached_njit(fastmath=SUMS_IN_ANY_ORDER)
@no_type_check
def rasterize_backward(
    splats: Float32[np.ndarray, "gaussian 10"],
    boxes: Int32[np.ndarray, "gaussian 4"],
    starts: Int64[np.ndarray, " bounds"],
    entries: Int32[np.ndarray, " entries"],
    background: Float32[np.ndarray, "3"],
    image: Float32[np.ndarray, "5 height width"],
    last_splat: Int32[np.ndarray, "height width"],
    gradients: Float32[np.ndarray, "5 height width"],
    moments: Float32[np.ndarray, "gaussian 10"],
    chunk: int,
    chunks: int,
) -> None:
    """Add up the `moments` of every splat, zeros before, from the image's `gradients`.

    The first seven arguments are as `rasterize` takes and leaves them.
    """
    tiles_x = (image.shape[2] + TILE - 1) // TILE
    longest = blocks.longest_list(starts)
    tile_splats = np.empty((longest, at.SPLAT_COLUMNS), np.float32)
    tile_moments, tile_boxes = np.empty_like(tile_splats), np.empty((longest, 4), np.int32)
    states = blocks.aligned_zeros(BLOCKS * at.LANE_NUMBERS).reshape(BLOCKS, at.LANE_NUMBERS)
    lane_sums, last_positions = (
        blocks.aligned_zeros(at.SPLAT_COLUMNS * LANES),
        np.empty(BLOCKS, np.int32),
    )
    for tile in range(chunk, len(starts) - 1, chunks):
        tile_x, tile_y = tile % tiles_x, tile // tiles_x
        for block in range(BLOCKS):
            x = tile_x * TILE + block % BLOCKS_ACROSS * BLOCK
            y = tile_y * TILE + block // BLOCKS_ACROSS * BLOCK
            last_positions[block] = load_gradients(
                x, y, background, image, last_splat, gradients, states[block]
            )
        count = last_positions.max() + 1
        tile_entries = entries[starts[tile] : starts[tile] + count]
        blocks.gather_tile(tile_x, tile_y, tile_entries, splats, boxes, tile_splats, tile_boxes)
        x, y = tile_x * TILE, tile_y * TILE
        rasterize_tile_backward(
            x, y, count, tile_splats, tile_boxes, last_positions, states, lane_sums, tile_moments
        )
        for position in range(count):
            for column in range(at.SPLAT_COLUMNS):
                moments[tile_entries[position], column] += tile_moments[position, column]


@cached_njit()
@no_type_check
def sum_over_chunks(
    moments: Float32[np.ndarray, "chunks gaussian 10"], chunk: int, chunks: int
) -> None:
    """Add the moments of all chunks to the first's, for this chunk of the Gaussians."""
    count = moments.shape[1]
    for other in range(1, len(moments)):
        for i in range(chunk * count // chunks, (chunk + 1) * count // chunks):
            for column in range(at.SPLAT_COLUMNS):
                moments[0, i, column] += moments[other, i, column]
