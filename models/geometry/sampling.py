"""Values of maps at image coordinates, which run from 0 to 1 between the outer borders."""

import math

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def sample_bilinear(
    maps: Float[Tensor, "*batch channel height width"], coordinates: Float[Tensor, "*batch point 2"]
) -> Float[Tensor, "*batch channel point"]:
    """Interpolate maps linearly between pixel centers; points outside take the border's values."""
    return _sample(maps, coordinates, "bilinear")


def sample_nearest(
    maps: Float[Tensor, "*batch channel height width"], coordinates: Float[Tensor, "*batch point 2"]
) -> Float[Tensor, "*batch channel point"]:
    """Return the values of the nearest pixels; points outside take the border's values."""
    return _sample(maps, coordinates, "nearest")


def _sample(maps: Tensor, coordinates: Tensor, mode: str) -> Tensor:
    grid = (2 * coordinates - 1).clamp(-2, 2)  # far points would overflow to NaN
    batch = maps.shape[:-3]
    sampled = functional.grid_sample(
        maps.reshape(math.prod(batch), *maps.shape[-3:]),
        grid.reshape(math.prod(batch), 1, *grid.shape[-2:]),
        mode=mode,
        padding_mode="border",
        align_corners=False,
    )
    return sampled[:, :, 0].reshape(*batch, *sampled.shape[1::2])
