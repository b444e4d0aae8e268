"""A matcher whose keypoints and matches are given."""

import torch
from torch import Tensor

from models.features.matcher import NO_TENTATIVE_MATCHES, Features, TentativeMatches


class ScriptedMatcher:
    """Returns the keypoints of each photo in the order of calls, and the matches of each pair."""

    def __init__(
        self,
        keypoints: list[Tensor],
        matches: dict[tuple[int, int], Tensor],
        tentative: TentativeMatches = NO_TENTATIVE_MATCHES,
    ) -> None:
        self.keypoints, self.matches, self.tentative = keypoints, matches, tentative
        self.detections = 0

    def detect(self, image: Tensor, rotation: float = 0.0) -> Features:
        keypoints = self.keypoints[self.detections]
        descriptors = torch.full((len(keypoints), 128), float(self.detections))
        self.detections += 1
        return Features(keypoints, descriptors, 4 / 3)

    def match(self, first: Features, second: Features) -> Tensor:
        return self.matches[int(first.descriptors[0, 0]), int(second.descriptors[0, 0])]

    def match_softly(self, first: Features, second: Features) -> TentativeMatches:
        return self.tentative


def in_order(count: int) -> Tensor:
    """Matches of the first keypoints of two photos, in order."""
    return torch.arange(count)[:, None].expand(-1, 2)
