"""What every way of matching photos finds, and is asked."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Keypoints of one photo: where, and what describes them.

    Coordinates are in [0, 1] and on the CPU; `aspect` is the photo's width by its height.
    """

    coordinates: Float[Tensor, "keypoint 2"]
    descriptors: Float[Tensor, "keypoint 128"]
    aspect: float


@runtime_checkable
class Matcher(Protocol):
    """A way to find the same points in two photos."""

    def detect(self, image: Float[Tensor, "3 height width"]) -> Features:
        """Find the keypoints of a photo."""

    def match(self, first: Features, second: Features) -> Int[Tensor, "match 2"]:
        """Keypoint numbers in the first and the second that belong together."""
