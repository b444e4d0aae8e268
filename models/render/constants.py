"""The numbers that define a rendering, for both backends: gsplat's."""

MIN_DEPTH = 0.01  # Gaussians whose centers are nearer are left out
DILATION_PX2 = 0.3  # added to both 2D variances: nothing is thinner than a pixel
MIN_ALPHA = 1 / 255  # what is fainter at a pixel does not count there
MAX_ALPHA = 0.999
MIN_TRANSMITTANCE = 1e-4  # what would leave a pixel less than this, and all behind, does not count
MAX_SH_DEGREE = 3  # of spherical harmonics; what is above is cut

# The perspective is linearized at a Gaussian's center, but never further than this outside the
# image, as a share of its size: from there on splats would grow without bound.
FRUSTUM_MARGIN = 0.15
