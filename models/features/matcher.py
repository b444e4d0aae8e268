"""The interface of a matcher, and the types of what it finds."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Features:
    """Keypoints of one image with their descriptors; angles are clockwise, in radians."""

    coordinates: Float[Tensor, "keypoint 2"]  # (x, y) in [0, 1], on the CPU
    descriptors: Float[Tensor, "keypoint 128"]  # unit vectors, on the device of their network
    aspect: float  # width of the image by its height
    orientations: Float[Tensor, " keypoint"] | None = None  # dominant gradient directions, if any
    rotation: float = 0.0  # by which the image was rotated before detection

    def __len__(self) -> int:
        """Return the number of keypoints."""
        return len(self.coordinates)

    def select(self, kept: Bool[Tensor, " keypoint"]) -> "Features":
        """Return some of the keypoints, in the same order."""
        return replace(
            self,
            coordinates=self.coordinates[kept],
            descriptors=self.descriptors[kept.to(self.descriptors.device)],
            orientations=None if self.orientations is None else self.orientations[kept],
        )


@dataclass(frozen=True)
class TentativeMatches:
    """Soft matches: pairs of keypoints, of which a keypoint may have several."""

    matches: Int[Tensor, "match 2"]  # keypoint numbers in the first and the second image
    probabilities: Float[Tensor, " match"]  # of being the same point


NO_TENTATIVE_MATCHES = TentativeMatches(torch.zeros(0, 2, dtype=torch.long), torch.zeros(0))


@runtime_checkable
class Matcher(Protocol):
    """Detects keypoints and matches those of two images."""

    def detect(self, image: Float[Tensor, "3 height width"], rotation: float = 0.0) -> Features:
        """Detect and describe keypoints.

        Where descriptors are not invariant to rotation, the image is first rotated clockwise by
        `rotation` radians; coordinates are those of the image as it was.
        """

    def match(self, first: Features, second: Features) -> Int[Tensor, "match 2"]:
        """Match keypoints; return their numbers in the first and the second image."""

    def match_softly(self, first: Features, second: Features) -> TentativeMatches:
        """Return matches of low precision and high recall, with probabilities."""
