"""The numbers that define a picture, for both backends: gsplat's."""

NEAR = 0.01  # Gaussians whose centers are nearer are not drawn
DILATION = 0.3  # added to both 2D variances, in squared pixels: nothing is thinner than a pixel
SMALLEST_ALPHA = 1 / 255  # what is fainter at a pixel is not drawn there
LARGEST_ALPHA = 0.999
ENOUGH = 1e-4  # a pixel that would let through no more light than this is done
HIGHEST_DEGREE = 3  # of spherical harmonics; what is above is cut

# The perspective is linearized at a Gaussian's center, but never further than this outside the
# picture, as a share of its size: from there on splats would grow without bound.
MARGIN = 0.15
