"""The focal length of an unknown camera, from the matches of photos that it took."""

import math
from dataclasses import dataclass, replace
from itertools import combinations

import poselib
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import to_pixels
from models.sfm.correspondences import Correspondences
from models.sfm.two_view import (
    EPIPOLAR_ERROR_PX,
    RANSAC,
    in_pixels,
    poselib_camera,
    relative_pose,
)

MOST_FACTOR = 1.75  # by which a guess may be wrong: 16 to 49 mm where it is 28 mm
TRIED = 13  # factors, evenly spread in log
GUESS_SPREAD = 0.3  # standard deviation, in log, of focal lengths around the guess
SAY_AS_ONE = 6.0  # matches that tell as much as one would if their errors were independent
MOST_SPREAD = 0.2  # standard deviation, in log, of an estimate that is worth more than the guess
FEWEST_INLIERS = 60  # of a pair that is asked
_QUICK = RANSAC | {"min_iterations": 300, "max_iterations": 1000}
_END = math.log(MOST_FACTOR)


@dataclass(frozen=True)
class SharedFocal:
    """What the guessed focal length of some photos is to be multiplied by."""

    factor: float
    spread: float  # standard deviation of its logarithm
    views: tuple[int, ...]  # numbers of the photos

    def applied_to(self, intrinsics: Float[Tensor, "view 3 3"]) -> Float[Tensor, "view 3 3"]:
        """The cameras of all photos, some of which were guessed."""
        applied = intrinsics.clone()
        applied[list(self.views)] = zoom(intrinsics[list(self.views)], self.factor)
        return applied


def zoom(intrinsics: Float[Tensor, "view 3 3"], factor: float) -> Float[Tensor, "view 3 3"]:
    """Multiply focal lengths, and leave principal points where they are."""
    return intrinsics * intrinsics.new_tensor([factor, factor, 1.0])


def calibrate(
    found: Correspondences,
    intrinsics: Float[Tensor, "view 3 3"],
    sizes: list[tuple[int, int]],
    unknown: tuple[int, ...],
    seed: int = 0,
) -> tuple[Correspondences, SharedFocal | None]:
    """Estimate the focal length that photos share, and all poses anew with it.

    Args:
        found: Matches, and poses with the guessed focal length.
        intrinsics: Normalized, of all photos; guessed for those that are `unknown`.
        sizes: (height, width) of all, in the pixels in which errors are measured.
        unknown: Numbers of the photos that were taken with one unknown focal length.
        seed: Of the random samples.

    Returns:
        `found` itself and None where the matches do not tell the focal length.
    """
    total = torch.zeros(TRIED)
    telling = [
        pair
        for pair in combinations(sorted(unknown), 2)
        if pair in found.poses and len(found.poses[pair]) >= FEWEST_INLIERS
    ]
    for first, second in telling:
        pair = first, second
        total += misfits(
            found.coordinates[first][found.matches[pair][:, 0]],
            found.coordinates[second][found.matches[pair][:, 1]],
            intrinsics[[first, second]],
            (sizes[first], sizes[second]),
            seed,
        )
    factor, spread = most_likely(total)
    if not telling or spread > MOST_SPREAD:
        return found, None
    focal = SharedFocal(factor, spread, unknown)
    calibrated = focal.applied_to(intrinsics)
    poses = {
        (first, second): relative_pose(
            found.coordinates[first],
            found.coordinates[second],
            matches,
            calibrated[[first, second]],
            (sizes[first], sizes[second]),
            seed,
        )
        for (first, second), matches in found.matches.items()
    }
    known = {pair: pose for pair, pose in poses.items() if pose is not None}
    return replace(found, poses=known), focal


def misfits(
    first: Float[Tensor, "match 2"],
    second: Float[Tensor, "match 2"],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    seed: int = 0,
) -> Float[Tensor, " factor"]:
    """How badly two photos' matches fit the best motion, at each of the focal lengths tried.

    The unit is an outlier: squared epipolar errors over the largest of an inlier, at most 1 each.

    Args:
        first: Coordinates of the matches in the first photo, in [0, 1].
        second: In the second.
        intrinsics: Normalized, of both photos, with the guessed focal length.
        sizes: (height, width) of both, in the pixels in which errors are measured.
        seed: Of the random samples.
    """
    at = in_pixels(first, sizes[0]), in_pixels(second, sizes[1])
    options = _QUICK | {"max_epipolar_error": EPIPOLAR_ERROR_PX, "seed": seed}
    found = []
    for logarithm in torch.linspace(-_END, _END, TRIED):
        zoomed = zoom(intrinsics, float(logarithm.exp()))
        cameras = [poselib_camera(*each) for each in zip(zoomed, sizes, strict=True)]
        _, info = poselib.estimate_relative_pose(*at, *cameras, options, {})
        # PoseLib's errors are not in pixels but divided by the focal lengths.
        focals = [
            to_pixels(*each)[[0, 1], [0, 1]].mean() for each in zip(zoomed, sizes, strict=True)
        ]
        unit = EPIPOLAR_ERROR_PX * (1 / focals[0] + 1 / focals[1]) / 2
        found.append(info["model_score"] / unit.square())
    return torch.stack(found)


def most_likely(misfit: Float[Tensor, " factor"]) -> tuple[float, float]:
    """The factor that matches and the guess together make likely, and its spread in log.

    It stays near 1, with a large spread, where the misfit hardly depends on the factor.
    """
    fine = 8 * (TRIED - 1) + 1
    logarithm = torch.linspace(-_END, _END, fine)
    misfit = functional.interpolate(misfit[None, None], fine, mode="linear", align_corners=True)
    guess = -(logarithm / GUESS_SPREAD).square() / 2
    belief = (guess - misfit[0, 0] / SAY_AS_ONE).softmax(0)
    mean = (belief * logarithm).sum()
    return float(mean.exp()), float((belief * (logarithm - mean).square()).sum().sqrt())
