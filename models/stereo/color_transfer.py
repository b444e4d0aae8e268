"""Photos of one place in each other's colors, by the points that they share."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.stereo.plane_sweep import box_mean

WINDOW = 3  # pixels, over which the color of a point is averaged
FEWEST = 8  # shared points below which colors stay as they are
SPREAD = 0.02  # added to the spread of both photos' colors: gray points tell no contrast
LENIENCE = 2.0  # times the usual difference of matched points, and the noise: clearly different
NOISE = 0.02
UNKNOWN = 0.06  # the usual difference where too few points are shared to know it


def in_colors_of(
    first: Float[Tensor, "3 height width"],
    second: Float[Tensor, "3 second_height second_width"],
    seen_in_first: Float[Tensor, "point 2"],
    seen_in_second: Float[Tensor, "point 2"],
) -> tuple[Float[Tensor, "3 second_height second_width"], Float[Tensor, ""]]:
    """The second photo with brightness and contrast of each channel as in the first.

    Args:
        first: The photo whose exposure and white balance are wanted.
        second: The photo to change.
        seen_in_first: Coordinates of the same points, ...
        seen_in_second: ... in both photos.

    Returns:
        The second photo, and the difference of colors from which on two points are simply
        different: the less alike matched points are after all, the larger it is.
    """
    if len(seen_in_first) < FEWEST:
        return second, first.new_tensor(LENIENCE * (UNKNOWN + NOISE))
    here, there = _colors(first, seen_in_first), _colors(second, seen_in_second)
    middle_here, middle_there = here.mean(1, keepdim=True), there.mean(1, keepdim=True)
    contrast = (here.std(1, keepdim=True) + SPREAD) / (there.std(1, keepdim=True) + SPREAD)
    usual = ((there - middle_there) * contrast + middle_here - here).abs().mean(0).median()
    changed = (second - middle_there[..., None]) * contrast[..., None] + middle_here[..., None]
    return changed, LENIENCE * (usual + NOISE)


def _colors(
    photo: Float[Tensor, "3 height width"], coordinates: Float[Tensor, "point 2"]
) -> Float[Tensor, "3 point"]:
    averaged, grid = box_mean(photo[None], WINDOW), (2 * coordinates - 1)[None, None]
    return functional.grid_sample(averaged, grid, padding_mode="border", align_corners=False)[
        0, :, 0
    ]
