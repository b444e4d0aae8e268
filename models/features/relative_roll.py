"""Relative roll of photos about their optical axes, by votes of oriented keypoints."""

import math

import torch
from jaxtyping import Int
from torch import Tensor

from models.features.matcher import Features

VOTE_STD_RAD = math.radians(10)  # of the Gaussian that a match votes with
MIN_Z_SCORE = 4.5  # above the votes of uniform angles: one in 200 of those goes beyond
MIN_ROTATION_RAD = math.radians(20)  # learned descriptors do not mind less


def upright_rotations(
    features: dict[int, Features], matches: dict[tuple[int, int], Int[Tensor, "match 2"]]
) -> dict[int, float]:
    """Return the clockwise rotations, in radians, that make all photos upright as the first is.

    Each photo follows the earlier one with most votes for their roll. Zero where a rotation is too
    small to matter, or the matches (by pair, the smaller number first) do not agree on one.
    """
    rotations: dict[int, float] = {}
    for view in sorted(features):
        most_votes, rotation = 0.0, 0.0
        for earlier in rotations:
            roll, votes = relative_roll(features[earlier], features[view], matches[(earlier, view)])
            if votes > most_votes:
                most_votes, rotation = votes, rotations[earlier] - roll
        rotation = math.remainder(rotation, 2 * math.pi)
        rotations[view] = rotation if abs(rotation) >= MIN_ROTATION_RAD else 0.0
    return rotations


def relative_roll(
    first: Features, second: Features, matches: Int[Tensor, "match 2"]
) -> tuple[float, float]:
    """Estimate by how much the second photo's content is rotated clockwise against the first's.

    Every match votes, with a Gaussian, for the difference of its keypoints' orientations. Returns
    the angle in radians and its votes; both zero where uniformly random orientations could have
    given as many.
    """
    if first.orientations is None or second.orientations is None:
        return 0.0, 0.0
    differences = second.orientations[matches[:, 1]] - first.orientations[matches[:, 0]]
    candidates = torch.deg2rad(torch.arange(-180.0, 180.0))
    deviations = torch.remainder(differences[:, None] - candidates + math.pi, 2 * math.pi) - math.pi
    votes = (-(deviations / VOTE_STD_RAD).square() / 2).exp().sum(0)
    best = int(votes.argmax())
    # Mean of a vote, and of its square, for a uniform angle.
    share = VOTE_STD_RAD / (2 * math.pi)
    mean, square = share * math.sqrt(2 * math.pi), share * math.sqrt(math.pi)
    by_chance = len(matches) * mean + MIN_Z_SCORE * math.sqrt(len(matches) * square)
    if votes[best] <= by_chance:
        return 0.0, 0.0
    return float(candidates[best]), float(votes[best])
