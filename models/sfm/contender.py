"""Whether another motion explains the matches of two photos nearly as well as the best one.

Inliers alone do not tell: on a surface that is almost flat, or seen under little parallax, a
hundred matches agree with motions that are tens of degrees apart.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.rigid import se3_exponential
from models.sfm.two_view import (
    angle_between,
    epipolar_offsets,
    refine_motion,
    support_in_front,
)

APART = math.radians(5)  # motions that differ by more are not the same answer
STEPS = tuple(sign * step * APART for step in (1.1, 2, 4, 8) for sign in (-1, 1))
WEAKEST = 2  # directions to search in: a flat scene leaves two ways to turn and move open
MOST_MATCHES = 400  # are enough, and keep the search below a tenth of a second
FADE_PX = 0.5  # error at which the pull of a match is halved (Cauchy's loss)


@dataclass(frozen=True)
class Contender:
    """The best motion that differs by more than `APART` from the one that was found."""

    margin: float  # matches that it explains less; below zero if it explains more
    angle: float  # between the two motions, radians


@dataclass(frozen=True)
class Candidate:
    """A motion, and how many matches it explains, whatever the size of errors is."""

    motion: Float[Tensor, "4 4"]
    explained: float


def find_contender(
    at: tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    first2second: Float[Tensor, "4 4"],
    others: list[Float[Tensor, "4 4"]],
) -> Contender:
    """Search near other motions, and from this one in the directions that errors change least in.

    Args:
        at: Coordinates of the matches in both photos, in [0, 1].
        intrinsics: Normalized, of both photos.
        sizes: (height, width) of both, in the pixels in which errors are measured.
        first2second: The motion that was found.
        others: Motions that were found in other ways.
    """
    count = len(at[0])
    few = torch.linspace(0, count - 1, min(count, MOST_MATCHES)).round().long()
    at = at[0][few], at[1][few]

    def explained(motions: Float[Tensor, "motion 4 4"]) -> Float[Tensor, " motion"]:
        agreement = support_in_front(at, intrinsics, sizes, motions)
        return agreement.sum(-1) * count / len(few)

    found = explore(at, intrinsics, sizes, [first2second, *others], explained)
    return contend(found, first2second)


def explore(
    at: tuple[Float[Tensor, "point 2"], Float[Tensor, "point 2"]],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    starts: list[Float[Tensor, "4 4"]],
    explained: Callable[[Float[Tensor, "motion 4 4"]], Float[Tensor, " motion"]],
) -> list[Candidate]:
    """Some motions, the best ones near them, and those across from the best of all."""

    def with_refined(motions: list[Float[Tensor, "4 4"]]) -> list[Candidate]:
        refined = [refine_motion(at, intrinsics, sizes, motion) for motion in motions]
        tried = [*motions, *refined]
        told = explained(torch.stack(tried)).tolist()
        return [Candidate(*each) for each in zip(tried, told, strict=True)]

    found = with_refined(starts)
    return found + with_refined(_around(best_of(found).motion, at, intrinsics, sizes))


def best_of(found: list[Candidate]) -> Candidate:
    """The motion that explains most."""
    return max(found, key=lambda candidate: candidate.explained)


def contend(found: list[Candidate], first2second: Float[Tensor, "4 4"]) -> Contender:
    """What rivals a motion, which is one of those found."""
    angles = [angle_between(first2second, candidate.motion) for candidate in found]
    near = [each for each, angle in zip(found, angles, strict=True) if angle <= APART]
    far = [each for each, angle in zip(found, angles, strict=True) if angle > APART]
    other = best_of(far)
    margin = best_of(near).explained - other.explained
    return Contender(margin, angle_between(first2second, other.motion))


def _around(
    motion: Float[Tensor, "4 4"],
    at: tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> list[Float[Tensor, "4 4"]]:
    """Motions some steps away, in the directions in which the errors change least."""
    shift = 1e-6
    slopes = torch.stack(
        [
            epipolar_offsets(at, intrinsics, sizes, _moved(motion, change))
            - epipolar_offsets(at, intrinsics, sizes, _moved(motion, -change))
            for change in shift * torch.eye(5, dtype=torch.float64)
        ],
        dim=1,
    ) / (2 * shift)
    errors = epipolar_offsets(at, intrinsics, sizes, motion)
    weights = 1 / (1 + (errors / FADE_PX).square())
    information = slopes.T @ (weights[:, None] * slopes)
    weakest = torch.linalg.eigh(information).eigenvectors[:, :WEAKEST].T
    return [
        _moved(motion, step * change / max(change[:2].norm(), change[2:].norm())).float()
        for change in weakest
        for step in STEPS
    ]


def _moved(motion: Float[Tensor, "4 4"], change: Float[Tensor, "5"]) -> Float[Tensor, "4 4"]:
    """Tilt the direction of the translation by two angles, and turn the camera by three."""
    motion = motion.double()
    across = torch.linalg.svd(motion[:3, 3:]).U[:, 1:]
    moved = se3_exponential(torch.cat([torch.zeros(3).double(), change[2:]])) @ motion
    moved[:3, 3] = functional.normalize(motion[:3, 3] + across @ change[:2], dim=0)
    return moved
