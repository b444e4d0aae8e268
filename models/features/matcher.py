"""What every way of matching photos finds, and is asked."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Keypoints of one photo: where, and what describes them.

    Coordinates are in [0, 1] and on the CPU; `aspect` is the photo's width by its height. Angles
    are clockwise, in radians.
    """

    coordinates: Float[Tensor, "keypoint 2"]
    descriptors: Float[Tensor, "keypoint 128"]
    aspect: float
    angles: Float[Tensor, " keypoint"] | None = None  # which way each is, if it has one
    turn: float = 0.0  # of the photo, before anything was looked for


@dataclass(frozen=True)
class Guesses:
    """Keypoints of two photos that may be the same point; a keypoint may have several guesses."""

    pairs: Int[Tensor, "guess 2"]  # keypoint numbers in the first and the second
    chances: Float[Tensor, " guess"]  # probability that they are the same point


NO_GUESSES = Guesses(torch.zeros(0, 2, dtype=torch.long), torch.zeros(0))


@runtime_checkable
class Matcher(Protocol):
    """A way to find the same points in two photos."""

    def detect(self, image: Float[Tensor, "3 height width"], turn: float = 0.0) -> Features:
        """Find the keypoints of a photo.

        Where descriptors depend on which way is up, the photo is first turned clockwise, by
        `turn` radians; coordinates are those of the photo as it was.
        """

    def match(self, first: Features, second: Features) -> Int[Tensor, "match 2"]:
        """Keypoint numbers in the first and the second that belong together."""

    def guess(self, first: Features, second: Features) -> Guesses:
        """What may belong together: much that is wrong, and more that is right than in `match`."""
