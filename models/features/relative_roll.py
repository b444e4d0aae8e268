"""How much photos are turned against each other, by keypoints that know which way is theirs."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.features.matcher import Features

WIDTH = math.radians(10)  # standard deviation of a vote
SURE = 4.5  # standard deviations above what wrong matches give: one in 200 of those goes beyond
LEAST_TURN = math.radians(20)  # learned descriptors do not mind less


def turns_to_first(
    found: dict[int, Features], matches: dict[tuple[int, int], Int[Tensor, "match 2"]]
) -> dict[int, float]:
    """By how much to turn each photo, clockwise in radians, to have it upright as the first is.

    Zero where it hardly matters, or matches do not tell.

    Args:
        found: Keypoints of photos, by their numbers, with angles.
        matches: Of pairs of these photos, the first number being smaller.
    """
    turns: dict[int, float] = {}
    for view in sorted(found):
        best, turn = 0.0, 0.0
        for earlier in turns:
            pair = matches[(earlier, view)]
            roll, votes = relative_roll(found[earlier], found[view], pair)
            if votes > best:
                best, turn = votes, turns[earlier] - roll
        turn = math.remainder(turn, 2 * math.pi)
        turns[view] = turn if abs(turn) >= LEAST_TURN else 0.0
    return turns


def relative_roll(
    first: Features, second: Features, matches: Int[Tensor, "match 2"]
) -> tuple[float, float]:
    """How far clockwise the second photo shows things turned, in radians, and the votes for it.

    Every match votes for the difference of its keypoints' angles. Both are zero where angles that
    mean nothing could have given as many votes to one turn.
    """
    if first.angles is None or second.angles is None:
        return 0.0, 0.0
    differences = second.angles[matches[:, 1]] - first.angles[matches[:, 0]]
    candidates = torch.deg2rad(torch.arange(-180.0, 180.0))
    off = _angle(differences[:, None] - candidates)
    votes = (-(off / WIDTH).square() / 2).exp().sum(0)
    best = int(votes.argmax())
    share = WIDTH / (2 * math.pi)  # of all angles; a vote and its square, on average over them:
    mean, square = share * math.sqrt(2 * math.pi), share * math.sqrt(math.pi)
    chance = len(matches) * mean + SURE * math.sqrt(len(matches) * square)
    if votes[best] <= chance:
        return 0.0, 0.0
    return float(candidates[best]), float(votes[best])


def _angle(difference: Float[Tensor, "*angle"]) -> Float[Tensor, "*angle"]:
    """The same angle between -pi and pi."""
    return torch.remainder(difference + math.pi, 2 * math.pi) - math.pi
