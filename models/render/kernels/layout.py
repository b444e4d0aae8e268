"""Where things are in the arrays that the kernels share."""

# Columns of `splats`: a Gaussian on the image, in pixels. At (dx, dy) from its center
# its alpha is opacity * 2^-(u^2 + v^2) with u = FACTOR_X dx + FACTOR_XY dy, v = FACTOR_Y dy. A sum
# of squares stays positive and exact where the usual a dx^2 + 2 b dx dy + c dy^2 loses all its
# digits: in long thin splats.
X, Y, FACTOR_X, FACTOR_XY, FACTOR_Y, OPACITY, RED, GREEN, BLUE, DEPTH = range(10)
SPLAT_COLUMNS = 10

# Columns of `moments`, from which a splat's gradients follow. With alpha = opacity * exp(-sigma),
# the first six are sums over pixels of d(loss) / d(sigma) times 1, dx, dy, dx^2, dx dy, dy^2; the
# rest, in the columns of `splats`, are gradients of color and depth.
ONE, DX, DY, DXX, DXY, DYY = range(6)

# Columns of `boxes`: the first and last pixel that a Gaussian can touch. Where LEFT > RIGHT there
# is none.
LEFT, RIGHT, TOP, BOTTOM = range(4)

# Images are made of tiles of 16 x 16 pixels, and tiles in blocks of 4 x 4: one wide register.
# Numba does not know that pixels are not negative, so powers of two are divided by as shifts.
TILE_BITS, BLOCK_BITS = 4, 2
TILE, BLOCK = 1 << TILE_BITS, 1 << BLOCK_BITS
LANES = BLOCK * BLOCK
BLOCKS_ACROSS = TILE // BLOCK
BLOCKS = BLOCKS_ACROSS * BLOCKS_ACROSS

# Where a block's state is in its `lanes`: one number for every pixel. One array and not many, so
# that compilers see that they do not overlap.
TRANSMITTANCE, REDS, GREENS, BLUES, DEPTHS, ACTIVE, LAST = range(0, 7 * LANES, LANES)
BEHIND = ACTIVE  # in the backward pass: the gradient of the light from behind
LANE_NUMBERS = 7 * LANES
