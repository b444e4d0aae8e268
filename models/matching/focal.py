"""The focal length of an unknown camera, from the matches of photos that it took."""

import math
from dataclasses import dataclass

import poselib
import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.camera import to_pixels
from models.matching.motion import EPIPOLAR_ERROR_PX, RANSAC, in_pixels, poselib_camera

FARTHEST = 1.75  # factor by which a guess may be wrong: 16 to 49 mm where it is 28 mm
TRIED = 13  # focal lengths
GUESS_SPREAD = 0.3  # standard deviation, in log, of focal lengths around the guess
INDEPENDENT = 6.0  # matches that say as much as one would if their errors were independent
LEAST_CERTAIN = 0.2  # standard deviation, in log, of an estimate that is better than the guess
_QUICK = RANSAC | {"min_iterations": 300, "max_iterations": 1000}


@dataclass(frozen=True)
class SharedFocal:
    """What a guessed focal length is to be multiplied by."""

    factor: float
    spread: float  # standard deviation of its logarithm

    def applied_to(self, intrinsics: Float[Tensor, "*views 3 3"]) -> Float[Tensor, "*views 3 3"]:
        """The cameras of which `intrinsics` were the guess."""
        return intrinsics * intrinsics.new_tensor([self.factor, self.factor, 1.0])[:, None].where(
            intrinsics.new_tensor([[1.0, 1.0, 0.0]] * 3) > 0, 1.0
        )


def factors() -> Float[Tensor, " factor"]:
    """What the guess is multiplied by, in turn: evenly spread in log."""
    end = math.log(FARTHEST)
    return torch.linspace(-end, end, TRIED, dtype=torch.float64).exp()


def misfits(
    first: Float[Tensor, "first_keypoint 2"],
    second: Float[Tensor, "second_keypoint 2"],
    matches: Int[Tensor, "match 2"],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    seed: int = 0,
) -> Float[Tensor, " factor"]:
    """How badly the best motion for each of the `factors` explains the matches of two photos.

    Squared epipolar errors over the largest of an inlier, at most 1 a match, added up. Other
    arguments are as for `relative_pose`; the intrinsics are the guess.
    """
    at = in_pixels(first[matches[:, 0]], sizes[0]), in_pixels(second[matches[:, 1]], sizes[1])
    found = []
    for factor in factors():
        zoomed = SharedFocal(float(factor), 0.0).applied_to(intrinsics)
        _, info = poselib.estimate_relative_pose(
            *at,
            *(poselib_camera(*each) for each in zip(zoomed, sizes, strict=True)),
            _QUICK | {"max_epipolar_error": EPIPOLAR_ERROR_PX, "seed": seed},
            {},
        )
        # PoseLib adds up squares of errors that are divided by the focal lengths.
        inverse = [
            float(1 / to_pixels(*each).diagonal()[:2].mean())
            for each in zip(zoomed, sizes, strict=True)
        ]
        found.append(info["model_score"] / (EPIPOLAR_ERROR_PX * sum(inverse) / 2) ** 2)
    return torch.tensor(found, dtype=torch.float64)


def most_likely(misfit: Float[Tensor, " factor"]) -> SharedFocal | None:
    """The focal length that matches and the guess together make likely.

    Args:
        misfit: As of `misfits`; the sum over pairs where there are several.

    Returns:
        None where so many are likely that there is nothing to prefer to the guess.
    """
    ends = torch.tensor([-1.0, 1.0], dtype=torch.float64) * math.log(FARTHEST)
    logarithm = torch.linspace(*ends.tolist(), 8 * (TRIED - 1) + 1, dtype=torch.float64)
    between = torch.nn.functional.interpolate(
        misfit[None, None], len(logarithm), mode="linear", align_corners=True
    )[0, 0]
    belief = (-between / INDEPENDENT - (logarithm / GUESS_SPREAD).square() / 2).softmax(0)
    mean = (belief * logarithm).sum()
    spread = float((belief * (logarithm - mean).square()).sum().sqrt())
    return SharedFocal(float(mean.exp()), spread) if spread < LEAST_CERTAIN else None
