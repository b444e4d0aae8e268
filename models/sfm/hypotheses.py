"""Which of the motions that explain the matches of two photos is the right one."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.sfm.affine_matches import RIM_PX, Surroundings, align, with_rims
from models.sfm.contender import Candidate, Contender, best_of, contend, explore
from models.sfm.degeneracy import flat_motions
from models.sfm.likelihood import log_likelihood
from models.sfm.two_view import (
    FEWEST,
    MatchedPair,
    RelativePose,
    angle_between,
    epipolar_offsets,
    explain,
    propose,
    support_in_front,
)

HALF = 0.5  # of what the best motion explains: those with less are not considered
SAME = math.radians(2)  # motions that differ less are one
PROPOSED = 3  # motions of short runs that are looked at: ten find nothing better
ALIGNED_AT = 2  # motions that say how surroundings are stretched; a third adds few matches
SLOPES = (0.03, 0.06, 0.12, 0.25)  # errors of stretches, in pixels a pixel: theirs are 0.04
SURROUNDINGS = 2.0  # worth of surroundings by that of the match: they have two directions
GUESSES = 0.3  # matches that a unit of log-likelihood stands for: neighbors say the same


def choose(
    images: tuple[Float[Tensor, "3 _height _width"], Float[Tensor, "3 _height2 _width2"]],
    pair: MatchedPair,
    pose: RelativePose,
) -> tuple[MatchedPair, RelativePose, Contender]:
    """Choose among motions that explain the matches nearly as well by what lies around these.

    Args:
        images: Both photos.
        pair: Their matches.
        pose: The motion that explains most of them, with others that competed.

    Returns:
        The pair, its matches moved in the second photo to where that agrees with the first; the
        motion chosen; and the one that rivals it.
    """
    at, cameras = pair.where(pair.matches), (pair.intrinsics, pair.sizes)
    starts = [pose.first2second, *pose.others, *flat_motions(*pair.where(pose.inliers), *cameras)]

    def explained(motions: Float[Tensor, "motion 4 4"]) -> Float[Tensor, " motion"]:
        return support_in_front(at, *cameras, motions).sum(-1) + GUESSES * log_likelihood(
            pair, motions
        )

    proposed = propose(pair)
    told_of = explained(torch.stack(proposed)).tolist()
    starts += distinct(list(map(Candidate, proposed, told_of)))[:PROPOSED]
    rough = distinct(explore(at, *cameras, starts, explained))
    around = align(images, pair, rough[:ALIGNED_AT])
    second = pair.second.clone()
    second[pair.matches[:, 1]] = around.second
    moved = replace(pair, second=second)
    found = explore(
        with_rims(moved, around), *cameras, rough, lambda motions: agreement(moved, around, motions)
    )
    moved_at = moved.where(moved.matches)
    for candidate in sorted(found, key=lambda candidate: -candidate.explained):
        chosen = explain(moved_at, moved.matches, *cameras, candidate.motion)
        if len(chosen) >= FEWEST:
            return moved, chosen, contend(found, candidate.motion)
    told = float(agreement(moved, around, pose.first2second))
    found.append(Candidate(pose.first2second, told))
    return pair, pose, contend(found, pose.first2second)


def distinct(found: list[Candidate]) -> list[Float[Tensor, "4 4"]]:
    """The motions that differ, the best first, down to half of what that explains."""
    kept: list[Tensor] = []
    for each in sorted(found, key=lambda candidate: -candidate.explained):
        if kept and each.explained < HALF * best_of(found).explained:
            break
        if all(angle_between(each.motion, motion) > SAME for motion in kept):
            kept.append(each.motion)
    return kept


def agreement(
    pair: MatchedPair, around: Surroundings, motion: Float[Tensor, "*motion 4 4"]
) -> Float[Tensor, "*motion"]:
    """How many matches a motion explains; those more whose surroundings it explains as well."""
    at = pair.where(pair.matches)
    matches = support_in_front(at, pair.intrinsics, pair.sizes, motion)
    rims = [each[len(pair.matches) :] for each in with_rims(pair, around)]
    offsets = epipolar_offsets((rims[0], rims[1]), pair.intrinsics, pair.sizes, motion)
    right, left, below, above = offsets.unflatten(-1, (-1, 4)).unbind(-1)
    squares = ((right - left).square() + (below - above).square()) / (2 * RIM_PX) ** 2
    alike = torch.stack([1 - (squares / slope**2).clamp(max=1) for slope in SLOPES]).mean(0)
    told = matches.sum(-1) + SURROUNDINGS * (matches[..., around.good] * alike).sum(-1)
    return told + (1 + SURROUNDINGS) * GUESSES * log_likelihood(pair, motion)
