"""Focal lengths of uncalibrated cameras, from the matches of the photos that they took."""

import math
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import Camera
from models.sfm.correspondences import Correspondences
from models.sfm.two_view import (
    MAX_EPIPOLAR_ERROR_PX,
    RANSAC,
    RelativePose,
    TwoView,
    estimate_relative_pose,
    robust_score,
)

MAX_FACTOR = 1.75  # by which a guess may be wrong: 16 to 49 mm where it is 28 mm
FACTORS = 13  # that are tried, evenly spaced in log
GUESS_LOG_STD = 0.3  # standard deviation of the logarithm of focal lengths around the guess
UNEQUAL_LOG_STD = 0.5  # the same where photos of unequal sizes may be cut out of larger ones
EFFECTIVE_MATCHES = 6.0  # whose costs weigh as one's: errors of matches are not independent
MAX_LOG_STD = 0.2  # of an estimate that is better than the guess
MIN_PAIR_INLIERS = 60
SAME_PIXELS, SAME_VIEW, UNRELATED = 0.4, 0.3, 0.3  # prior probabilities for two sizes of photos
CENTERED = 0.3  # probability that neither of two sizes of photos is cut out off center
UNRELATED_RATIOS = (-0.6, -0.3, 0.3, 0.6)  # logarithms, where the focal lengths are unrelated
RATIO_LOG_STD = 0.5
PAIR_FACTORS = 5  # that are tried for each ratio: each takes a RANSAC
LEAST_FIT, GOOD_FIT = 0.89, 0.95  # of wrong and of right cameras
FREE_MATCHES = 3.0  # that two more parameters explain by chance
_QUICK_RANSAC = RANSAC | {"min_iterations": 300, "max_iterations": 1000}
_MAX_LOG_FACTOR = math.log(MAX_FACTOR)


@dataclass(frozen=True)
class FocalEstimate:
    """The factors between the guessed focal lengths of some photos and the estimated ones.

    Attributes:
        factors: By number of the photo.
        spread: Standard deviation of their logarithm.
        probability: Of the hypothesis on how the photos' focal lengths are related, and of
            principal points in the middle, on which two photos tell next to nothing.
    """

    factors: dict[int, float]
    spread: float
    probability: float = 1.0

    def applied_to(self, cameras: tuple[Camera, ...]) -> tuple[Camera, ...]:
        """Scale the focal lengths of the photos in question among the cameras of all."""
        return tuple(
            scale_focal(camera, self.factors[number]) if number in self.factors else camera
            for number, camera in enumerate(cameras)
        )


def scale_focal(camera: Camera, factor: float) -> Camera:
    """Multiply a focal length; the principal point stays."""
    scale = camera.intrinsics.new_tensor([factor, factor, 1.0])
    return replace(camera, intrinsics=camera.intrinsics * scale)


def estimate_focal_lengths(
    found: Correspondences, seed: int = 0
) -> tuple[Correspondences, FocalEstimate | None]:
    """Estimate the focal lengths of the photos with a guessed one, and all poses with them.

    Those of one focal group share one. Of two groups, three hypotheses compete by the cost of the
    matches: one focal length in pixels, as where one photo is cut out of a larger one; one field of
    view, as where one is resized; two that are unrelated.

    Returns `found` itself and None where there are more groups, or the matches do not determine
    the focal length.
    """
    groups = [camera.focal_group for camera in found.cameras]
    views = tuple(view for view, group in enumerate(groups) if group is not None)
    kinds = {groups[view] for view in views}
    pairs = [
        pair
        for pair in combinations(views, 2)
        # Two wrong guesses leave few of the matches as inliers.
        if pair in found.poses
        and len(found.poses[pair] if len(kinds) == 1 else found.matches[pair]) >= MIN_PAIR_INLIERS
    ]
    if not pairs or len(kinds) > 2:
        return found, None
    if len(kinds) == 2:
        focal = _estimate_two_focals(found, pairs, views, seed)
        calibrated = _with_focal(found, focal, seed)
        sure = any(len(calibrated.poses.get(pair, ())) >= MIN_PAIR_INLIERS for pair in pairs)
        return (calibrated, focal) if sure else (found, None)
    costs = torch.stack([focal_costs(found.two_view(pair), seed) for pair in pairs])
    factor, spread = focal_posterior(costs.sum(0))
    if spread > MAX_LOG_STD:
        return found, None
    focal = FocalEstimate(dict.fromkeys(views, factor), spread)
    return _with_focal(found, focal, seed), focal


def _with_focal(found: Correspondences, focal: FocalEstimate, seed: int) -> Correspondences:
    """Apply estimated focal lengths, and estimate all poses with them."""
    found = replace(found, cameras=focal.applied_to(found.cameras))
    poses = {
        pair: pose
        for pair in found.matches
        if (pose := estimate_relative_pose(found.two_view(pair), seed)) is not None
    }
    return replace(found, poses=poses)


def _estimate_two_focals(
    found: Correspondences, pairs: list[tuple[int, int]], views: tuple[int, ...], seed: int
) -> FocalEstimate:
    """Choose the most probable ratio of two groups' focal lengths; see `estimate_focal_lengths`.

    The prior is around the guess for the group of larger photos: others may be cut out of them.
    """
    larger = max(views, key=lambda view: _focal_px(found.cameras[view]))
    in_larger = {
        view: found.cameras[view].focal_group == found.cameras[larger].focal_group for view in views
    }
    smaller = next(view for view in views if not in_larger[view])
    same_pixels = math.log(_focal_px(found.cameras[larger]) / _focal_px(found.cameras[smaller]))
    ratios = torch.tensor([same_pixels, 0.0, *UNRELATED_RATIOS])
    unrelated = (-(torch.tensor(UNRELATED_RATIOS) / RATIO_LOG_STD).square() / 2).softmax(0)
    prior = torch.cat([torch.tensor([SAME_PIXELS, SAME_VIEW]), UNRELATED * unrelated])

    def factors(log_factor: float, log_ratio: float) -> dict[int, float]:
        return {
            view: math.exp(log_factor if in_larger[view] else log_factor + log_ratio)
            for view in views
        }

    log_factors = torch.linspace(-_MAX_LOG_FACTOR, _MAX_LOG_FACTOR, PAIR_FACTORS).tolist()
    tried = [[factors(each, ratio) for each in log_factors] for ratio in ratios.tolist()]
    two_views = {pair: found.two_view(pair) for pair in pairs}
    costs = torch.tensor(
        [
            [
                sum(
                    _cost(pair, (each[first], each[second]), seed)
                    for (first, second), pair in two_views.items()
                )
                for each in row
            ]
            for row in tried
        ]
    )
    log_factor, log_posterior = _log_posterior(costs)
    posterior = (log_posterior + prior.log()[:, None]).flatten().softmax(0).view_as(log_posterior)
    best = int(posterior.sum(1).argmax())
    probability = float(posterior[best].sum())
    mean, spread = _mean_and_deviation(log_factor, posterior[best] / probability)
    return FocalEstimate(factors(mean, float(ratios[best])), spread, CENTERED * probability)


def calibration_trust(pair: TwoView, pose: RelativePose, seed: int = 0) -> float:
    """Return the trust, in [0, 1], in cameras that were guessed, by what their pose explains.

    A fundamental matrix, which needs no cameras, explains as many matches if these are right; more
    if a photo was cut out off center, or enlarged. By `FREE_MATCHES` more, it may be chance.
    """
    explained = robust_score(pair.sampson_px(pose.first2second)).sum() + FREE_MATCHES
    fit = float(explained / robust_score(pair.free_sampson_px(seed)).sum().clamp(min=1))
    return min(1.0, max(0.0, (fit - LEAST_FIT) / (GOOD_FIT - LEAST_FIT)))


def focal_costs(pair: TwoView, seed: int = 0) -> Float[Tensor, " factor"]:
    """Return the MSAC cost of the best pose at each factor of the guesses, in outliers."""
    log_factors = torch.linspace(-_MAX_LOG_FACTOR, _MAX_LOG_FACTOR, FACTORS)
    factors = [float(log_factor.exp()) for log_factor in log_factors]
    return torch.tensor([_cost(pair, (factor, factor), seed) for factor in factors])


def focal_posterior(costs: Float[Tensor, " factor"]) -> tuple[float, float]:
    """Return the posterior mean of the factor, and the standard deviation of its logarithm.

    The prior is log-normal around the guess. Where costs hardly depend on the factor, it stays
    near 1, with a large deviation.
    """
    log_factor, log_posterior = _log_posterior(costs[None])
    mean, deviation = _mean_and_deviation(log_factor, log_posterior[0].softmax(0))
    return math.exp(mean), deviation


def _cost(pair: TwoView, factors: tuple[float, float], seed: int) -> float:
    """Return the MSAC cost of the best pose with scaled focal lengths, in outliers."""
    first, second = map(scale_focal, pair.cameras, factors)
    scaled = replace(pair, cameras=(first, second))
    _, cost = scaled.ransac(seed, options=_QUICK_RANSAC)
    # PoseLib's errors are not in pixels but divided by the focal lengths.
    focals = [camera.intrinsics_px[[0, 1], [0, 1]].mean() for camera in scaled.cameras]
    max_error = MAX_EPIPOLAR_ERROR_PX * (1 / focals[0] + 1 / focals[1]) / 2
    return float(cost / max_error.square())


def _log_posterior(
    costs: Float[Tensor, "ratio factor"],
) -> tuple[Float[Tensor, " fine"], Float[Tensor, "ratio fine"]]:
    """Return logarithms of factors, and the posteriors under a log-normal prior, unnormalized."""
    count = 8 * (FACTORS - 1) + 1
    log_factor = torch.linspace(-_MAX_LOG_FACTOR, _MAX_LOG_FACTOR, count)
    costs = functional.interpolate(costs[:, None], count, mode="linear", align_corners=True)[:, 0]
    return log_factor, -(log_factor / GUESS_LOG_STD).square() / 2 - costs / EFFECTIVE_MATCHES


def _mean_and_deviation(
    values: Float[Tensor, " value"], probabilities: Float[Tensor, " value"]
) -> tuple[float, float]:
    mean = (probabilities * values).sum()
    variance = (probabilities * (values - mean).square()).sum()
    return float(mean), float(variance.sqrt())


def _focal_px(camera: Camera) -> float:
    """Return the mean of a camera's focal lengths along both sides, in pixels."""
    return float(camera.intrinsics_px[[0, 1], [0, 1]].mean())
