"""The options of `models.reconstruct`; torch is not imported here."""

from dataclasses import dataclass
from enum import StrEnum


class PoseMethod(StrEnum):
    """A way to find the poses of photos."""

    matches = "matches"  # matches; the network's centers where these do not tell the poses
    pnp = "pnp"  # the network's centers
    photometric = "pnp+photometric"  # the same, aligned with the photos
    auto = "auto"  # both where matches are few: the more confident one wins


@dataclass(frozen=True)
class Options:
    """The options of one run.

    Attributes:
        method: How poses are found.
        resolution: Long side of the depth maps, in pixels: one Gaussian per pixel of these.
        seed: Of the random samples from which poses are estimated.
        polish: Change the Gaussians of a refined scene until they look more like the photos.
    """

    method: PoseMethod = PoseMethod.matches
    resolution: int = 512
    seed: int = 0
    polish: bool = False


SCENE = Options()
POSES = Options(PoseMethod.auto, resolution=192)
