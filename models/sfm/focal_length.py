"""Focal length of an uncalibrated camera, from the matches of photos that it took."""

import math
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import Camera
from models.sfm.correspondences import Correspondences
from models.sfm.two_view import MAX_EPIPOLAR_ERROR_PX, RANSAC, TwoView, estimate_relative_pose

MAX_FACTOR = 1.75  # by which a guess may be wrong: 16 to 49 mm where it is 28 mm
FACTORS = 13  # that are tried, evenly spaced in log
GUESS_LOG_STD = 0.3  # standard deviation of the logarithm of focal lengths around the guess
EFFECTIVE_MATCHES = 6.0  # whose costs weigh as one's: errors of matches are not independent
MAX_LOG_STD = 0.2  # of an estimate that is better than the guess
MIN_PAIR_INLIERS = 60
_QUICK_RANSAC = RANSAC | {"min_iterations": 300, "max_iterations": 1000}
_MAX_LOG_FACTOR = math.log(MAX_FACTOR)


@dataclass(frozen=True)
class SharedFocal:
    """The factor between the guessed focal length of some photos and the estimated one.

    `spread` is the standard deviation of its logarithm; `views` are the numbers of the photos.
    """

    factor: float
    spread: float
    views: tuple[int, ...]

    def applied_to(self, cameras: tuple[Camera, ...]) -> tuple[Camera, ...]:
        """Scale the focal lengths of `views` among the cameras of all photos."""
        return tuple(
            scale_focal(camera, self.factor) if number in self.views else camera
            for number, camera in enumerate(cameras)
        )


def scale_focal(camera: Camera, factor: float) -> Camera:
    """Multiply a focal length; the principal point stays."""
    scale = camera.intrinsics.new_tensor([factor, factor, 1.0])
    return replace(camera, intrinsics=camera.intrinsics * scale)


def estimate_shared_focal(
    found: Correspondences, seed: int = 0
) -> tuple[Correspondences, SharedFocal | None]:
    """Estimate the focal length that the photos with a guessed one share, and all poses with it.

    Returns `found` itself and None where the photos may not share one camera, or their matches do
    not determine the focal length.
    """
    groups = [camera.focal_group for camera in found.cameras]
    views = tuple(view for view, group in enumerate(groups) if group is not None)
    possible = combinations(views, 2)
    pairs = [pair for pair in possible if len(found.poses.get(pair, ())) >= MIN_PAIR_INLIERS]
    if not pairs or len({groups[view] for view in views}) > 1:
        return found, None
    costs = torch.stack([focal_costs(found.two_view(pair), seed) for pair in pairs])
    factor, spread = focal_posterior(costs.sum(0))
    if spread > MAX_LOG_STD:
        return found, None
    focal = SharedFocal(factor, spread, views)
    found = replace(found, cameras=focal.applied_to(found.cameras))
    poses = {
        pair: pose
        for pair in found.matches
        if (pose := estimate_relative_pose(found.two_view(pair), seed)) is not None
    }
    return replace(found, poses=poses), focal


def focal_costs(pair: TwoView, seed: int = 0) -> Float[Tensor, " factor"]:
    """Return the MSAC cost of the best pose at each factor of the guesses, in outliers."""
    costs = []
    for log_factor in torch.linspace(-_MAX_LOG_FACTOR, _MAX_LOG_FACTOR, FACTORS):
        first, second = (scale_focal(camera, float(log_factor.exp())) for camera in pair.cameras)
        scaled = replace(pair, cameras=(first, second))
        _, cost = scaled.ransac(seed, options=_QUICK_RANSAC)
        # PoseLib's errors are not in pixels but divided by the focal lengths.
        focals = [camera.intrinsics_px[[0, 1], [0, 1]].mean() for camera in scaled.cameras]
        max_error = MAX_EPIPOLAR_ERROR_PX * (1 / focals[0] + 1 / focals[1]) / 2
        costs.append(cost / max_error.square())
    return torch.stack(costs)


def focal_posterior(costs: Float[Tensor, " factor"]) -> tuple[float, float]:
    """Return the posterior mean of the factor, and the standard deviation of its logarithm.

    The prior is log-normal around the guess. Where costs hardly depend on the factor, it stays
    near 1, with a large deviation.
    """
    count = 8 * (FACTORS - 1) + 1
    log_factor = torch.linspace(-_MAX_LOG_FACTOR, _MAX_LOG_FACTOR, count)
    costs = functional.interpolate(costs[None, None], count, mode="linear", align_corners=True)
    log_prior = -(log_factor / GUESS_LOG_STD).square() / 2
    posterior = (log_prior - costs[0, 0] / EFFECTIVE_MATCHES).softmax(0)
    mean = (posterior * log_factor).sum()
    variance = (posterior * (log_factor - mean).square()).sum()
    return float(mean.exp()), float(variance.sqrt())
