"""What photos have in common: matches, and the motions that explain them."""

from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.features.matcher import Guesses, Matcher
from models.features.relative_roll import turns_to_first
from models.sfm.two_view import ENOUGH, RelativePose, relative_pose


@dataclass(frozen=True)
class Correspondences:
    """What several photos have in common; pairs are (first, second), first being smaller.

    `poses` lacks the pairs whose matches no motion explains.
    """

    coordinates: list[Float[Tensor, "_keypoint 2"]]  # of every photo's keypoints, in [0, 1]
    matches: dict[tuple[int, int], Int[Tensor, "_match 2"]]
    poses: dict[tuple[int, int], RelativePose]
    guesses: dict[tuple[int, int], Guesses]  # of the matcher that was asked last


def correspond(
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    matchers: list[Matcher],
    seed: int = 0,
) -> Correspondences:
    """Match all pairs of photos.

    The matchers are asked in turn, the later ones only about pairs of which the earlier ones are
    not sure, and with the photos turned as the earlier ones say that they are; a motion has to
    explain what all of them found.
    """
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    coordinates = [torch.zeros(0, 2) for _ in images]
    pairs = list(combinations(range(len(images)), 2))
    matches = {pair: torch.zeros(0, 2, dtype=torch.long) for pair in pairs}
    poses: dict[tuple[int, int], RelativePose] = {}
    guesses: dict[tuple[int, int], Guesses] = {}
    turns = dict.fromkeys(range(len(images)), 0.0)
    for matcher in matchers:
        unsure = [pair for pair in pairs if pair not in poses or len(poses[pair]) < ENOUGH]
        found = {
            view: matcher.detect(images[view], turns[view]) for view in sorted(set(sum(unsure, ())))
        }
        new = {
            (first, second): matcher.match(found[first], found[second]) for first, second in unsure
        }
        for pair in unsure:
            earlier = torch.tensor([len(coordinates[view]) for view in pair])
            features = found[pair[0]], found[pair[1]]
            matches[pair] = torch.cat([matches[pair], new[pair] + earlier])
            guess = matcher.guess(*features)
            guesses[pair] = replace(guess, pairs=guess.pairs + earlier)
        for view, those in found.items():
            coordinates[view] = torch.cat([coordinates[view], those.coordinates])
        if len(new) == len(pairs):
            turns = turns_to_first(found, new)
        for pair in unsure:
            first, second = pair
            pose = relative_pose(
                coordinates[first],
                coordinates[second],
                matches[pair],
                intrinsics[[first, second]],
                (sizes[first], sizes[second]),
                seed,
            )
            if pose is not None:
                poses[pair] = pose
    return Correspondences(coordinates, matches, poses, guesses)
