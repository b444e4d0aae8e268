"""Transfer colors between images of one place, by the points that both observe."""

from jaxtyping import Float
from torch import Tensor

from models.geometry.sampling import sample_bilinear
from models.stereo.plane_sweep import box_mean

WINDOW_PX = 3  # over which the color of a point is averaged
MIN_POINTS = 8  # with fewer shared points colors stay as they are
MIN_DEVIATION = 0.02  # added to the standard deviations: gray points tell no contrast
TOLERANCE_FACTOR = 2.0  # times the median difference of matched points and the noise
COLOR_NOISE = 0.02
DEFAULT_DIFFERENCE = 0.06  # in place of the median where too few points are shared


def match_colors(
    reference: Float[Tensor, "3 height width"],
    source: Float[Tensor, "3 source_height source_width"],
    reference_points: Float[Tensor, "point 2"],
    source_points: Float[Tensor, "point 2"],
) -> tuple[Float[Tensor, "3 source_height source_width"], Float[Tensor, ""]]:
    """Give the source the reference's mean and contrast in each channel (Reinhard et al., 2001).

    Both are measured at the same points, given by their coordinates in both images. Returns the
    source, and the color difference from which on colors count as entirely different: the less
    alike matched points still are, the larger it is.
    """
    if len(reference_points) < MIN_POINTS:
        return source, reference.new_tensor(TOLERANCE_FACTOR * (DEFAULT_DIFFERENCE + COLOR_NOISE))
    wanted, colors = _colors(reference, reference_points), _colors(source, source_points)
    wanted_mean, mean = wanted.mean(1, keepdim=True), colors.mean(1, keepdim=True)
    deviation = colors.std(1, keepdim=True) + MIN_DEVIATION
    contrast = (wanted.std(1, keepdim=True) + MIN_DEVIATION) / deviation
    difference = ((colors - mean) * contrast + wanted_mean - wanted).abs().mean(0).median()
    changed = (source - mean[..., None]) * contrast[..., None] + wanted_mean[..., None]
    return changed, TOLERANCE_FACTOR * (difference + COLOR_NOISE)


def _colors(
    image: Float[Tensor, "3 height width"], coordinates: Float[Tensor, "point 2"]
) -> Float[Tensor, "3 point"]:
    """Sample the colors at image points, averaged over a window."""
    return sample_bilinear(box_mean(image[None], WINDOW_PX)[0], coordinates)
