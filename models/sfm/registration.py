"""Structure from motion of two or three photos: their poses and the points that they share.

views -> Correspondences -> (focal length) -> selected relative poses -> seed pair
      -> third view by PnP or its own pairs -> bundle adjustment -> Registration
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.features.matcher import Matcher
from models.geometry.camera import Camera, with_poses
from models.geometry.rigid import invert, transform_points
from models.geometry.views import View
from models.sfm.bundle_adjustment import bundle_adjust
from models.sfm.correspondences import Correspondences, find_correspondences
from models.sfm.degeneracy import Degeneracy, detect_degeneracy, resolve_planar_ambiguity
from models.sfm.focal_length import (
    GUESS_LOG_STD,
    UNEQUAL_LOG_STD,
    FocalEstimate,
    calibration_trust,
    estimate_focal_lengths,
)
from models.sfm.hypotheses import RunnerUp, find_runner_up, select_pose
from models.sfm.tracks import build_tracks, is_inlier, observations_of, triangulate_tracks
from models.sfm.two_view import ENOUGH_INLIERS, MIN_MATCHES, RelativePose, estimate_absolute_pose

MIN_PARALLAX_RAD = 0.006  # median over the inliers: below, depth is a guess
MIN_SHARED_POINTS = 3  # that determine the length of a third photo's baseline
MAX_ERROR_PX = 2.0  # reprojection error of an observation that is kept
BUNDLE_ROUNDS = 2  # better poses agree with further matches


@dataclass(frozen=True)
class Registration:
    """Poses of photos and the points that they share, up to scale."""

    cameras: tuple[Camera, ...]  # with estimated focal lengths; the first pose is the identity
    points: Float[Tensor, "point 3"]  # triangulated matches, in the world
    observations: Float[Tensor, "view point 2"]  # in [0, 1], NaN where a photo does not show one
    parallax: float  # median angle between the rays of the seed pair's points, in radians
    pairs: dict[tuple[int, int], RelativePose]  # with the matches that agree with these poses
    seed_pair: tuple[int, int]  # the pair on which the rest stands
    degeneracies: dict[tuple[int, int], Degeneracy]  # reasons to doubt the pose of a pair
    runner_up: RunnerUp | None  # the next best pose of two photos; None where there are three
    focal: FocalEstimate | None  # None where no focal length was estimated
    focal_spread: float  # standard deviation of the focal lengths' logarithm; 0 where known
    calibration_probability: float = 1.0  # that guessed and estimated cameras are those of photos

    @property
    def world2cam(self) -> Float[Tensor, "view 4 4"]:
        """The cameras' poses as one batch."""
        return torch.stack([camera.world2cam for camera in self.cameras])


def register(views: list[View], matchers: Sequence[Matcher], seed: int = 0) -> Registration | None:
    """Estimate the poses of two or three views from their matches.

    Incremental: the pair with the most inliers among those with parallax is the seed (planar ones
    count half); a third view is added by PnP on the seed's points or by pairs of its own, whichever
    has more inliers, and bundle adjustment follows. Only the matchers run on the views' device.

    The views' poses are ignored. Where guessed focal lengths are of one `focal_group` or two, they
    are estimated too. `matchers` are in the order of `find_correspondences`; the seed is RANSAC's.
    Returns None where the matches do not determine all poses.
    """
    found = find_correspondences(views, matchers, seed)
    found, focal = estimate_focal_lengths(found, seed)
    if not found.poses:
        return None
    found, runners_up = _select_unsure_poses(found, views)
    resolved = {
        pair: resolve_planar_ambiguity(found.two_view(pair), pose, seed, pair in runners_up)
        for pair, pose in found.poses.items()
    }
    seed_pair = max(resolved, key=lambda pair: _seed_score(*resolved[pair]))
    pose, degeneracy = resolved[seed_pair]
    found = replace(found, poses=found.poses | {seed_pair: pose})
    degeneracies, runner_up = {seed_pair: degeneracy}, runners_up.get(seed_pair)
    calibration_probability = 1.0 if focal is None else focal.probability
    if any(camera.focal_group is not None for camera in found.cameras):
        calibration_probability *= calibration_trust(found.two_view(seed_pair), pose, seed)
    cameras, points, observations = _reconstruct_seed(found, seed_pair)
    if len(views) == 2:
        runner_up = runner_up or find_runner_up(found.two_view(seed_pair), pose)
    else:
        posed = _add_third(found, seed_pair, cameras, points, seed)
        if posed is None:
            return None
        found, cameras, points, observations = _bundle(found, posed)
        runner_up = None
        for pair in sorted(found.poses.keys() - {seed_pair}):
            degeneracies[pair] = detect_degeneracy(found.two_view(pair), found.poses[pair], seed)
    device = views[0].camera.intrinsics.device
    first = cameras[0].world2cam
    world2cam = torch.stack([camera.world2cam for camera in cameras]) @ invert(first)
    return Registration(
        cameras=tuple(camera.to(device) for camera in with_poses(cameras, world2cam)),
        points=transform_points(points, first).to(device),
        observations=observations.to(device),
        parallax=float(pose.parallax.median()),
        pairs=found.poses,
        seed_pair=seed_pair,
        degeneracies=degeneracies,
        runner_up=runner_up,
        focal=focal,
        focal_spread=focal.spread if focal else _guess_spread(cameras),
        calibration_probability=calibration_probability,
    )


def _guess_spread(cameras: tuple[Camera, ...]) -> float:
    """Return the standard deviation of the logarithm of focal lengths that stay guesses."""
    groups = {camera.focal_group for camera in cameras} - {None}
    return (0.0, GUESS_LOG_STD, UNEQUAL_LOG_STD)[min(len(groups), 2)]


def _select_unsure_poses(
    found: Correspondences, views: list[View]
) -> tuple[Correspondences, dict[tuple[int, int], RunnerUp]]:
    """Select the poses of pairs with few inliers anew, and return their runners-up.

    So too where a matcher has given tentative matches: many inliers may lie on one plane. Of two
    photos, the matches are refined. Those of three stay: a keypoint that two pairs share would have
    to be in two places.
    """
    runners_up = {}
    for pair, pose in found.poses.items():
        if len(pose) >= ENOUGH_INLIERS and not len(found.tentative[pair].matches):
            continue
        images = views[pair[0]].image, views[pair[1]].image
        refined, selected, runners_up[pair] = select_pose(images, found.two_view(pair), pose)
        found = replace(found, poses=found.poses | {pair: selected})
        if len(views) == 2:
            found = replace(found, keypoints=list(refined.keypoints))
    return found, runners_up


def _seed_score(pose: RelativePose, degeneracy: Degeneracy) -> tuple[bool, float]:
    """Rank pairs as seeds: with parallax before without, as that has no depth, then by inliers.

    Of the two poses of a plane only one is right, so that its inliers count half.
    """
    weight = 1.0 if degeneracy.planar_ambiguity_rad is None else 0.5
    return float(pose.parallax.median()) >= MIN_PARALLAX_RAD, weight * len(pose)


def _reconstruct_seed(
    found: Correspondences, seed_pair: tuple[int, int]
) -> tuple[tuple[Camera, ...], Float[Tensor, "point 3"], Float[Tensor, "view point 2"]]:
    """Return the cameras, the first of the seed pair at the origin, and the pair's points."""
    first, second = seed_pair
    pose = found.poses[seed_pair]
    world2cam = torch.eye(4).repeat(len(found.cameras), 1, 1)
    world2cam[second] = pose.first2second
    cameras = with_poses(found.cameras, world2cam)
    observations = torch.full((len(cameras), len(pose), 2), torch.nan)
    for side, view in enumerate(seed_pair):
        observations[view] = found.keypoints[view][pose.inliers[:, side]]
    points = cameras[first].rays_at(observations[first]) * pose.depth[:, None]
    return cameras, points, observations


def _add_third(
    found: Correspondences,
    seed_pair: tuple[int, int],
    cameras: tuple[Camera, ...],
    points: Float[Tensor, "point 3"],
    seed: int,
) -> tuple[Camera, ...] | None:
    """Return the cameras with the third one posed, by the candidate with most inliers."""
    (third,) = set(range(len(cameras))) - set(seed_pair)
    shared = _points_observed_by(third, seed_pair, found)
    shared_points = points[shared[:, 0]]
    coordinates = found.keypoints[third][shared[:, 1]]
    candidates = _third_pose_from_pairs(
        third, found, cameras, shared_points, cameras[third].rays_at(coordinates)
    )
    by_pnp = estimate_absolute_pose(shared_points, coordinates, cameras[third], seed)
    if by_pnp is not None:
        candidates.append(by_pnp[0])

    def posed(world2cam: Float[Tensor, "4 4"]) -> tuple[Camera, ...]:
        moved = replace(cameras[third], world2cam=world2cam)
        return *cameras[:third], moved, *cameras[third + 1 :]

    return max(
        map(posed, candidates),
        key=lambda tried: sum(map(len, _pairwise_inliers(found, tried).values())),
        default=None,
    )


def _third_pose_from_pairs(
    third: int,
    found: Correspondences,
    cameras: tuple[Camera, ...],
    points: Float[Tensor, "point 3"],
    rays: Float[Tensor, "point 3"],
) -> list[Float[Tensor, "4 4"]]:
    """Return a view's poses by its own pairs, the baseline's length by the points it observes."""
    poses: list[Tensor] = []
    if len(points) < MIN_SHARED_POINTS:
        return poses
    for view, camera in enumerate(cameras):
        pair = (min(view, third), max(view, third))
        if view == third or pair not in found.poses:
            continue
        first2second = found.poses[pair].first2second
        view2third = first2second.clone() if view < third else invert(first2second)
        rotated = transform_points(points, camera.world2cam) @ view2third[:3, :3].T
        moment = torch.linalg.cross(rays, view2third[:3, 3].expand_as(rays))
        normal = torch.linalg.cross(rays, rotated)
        lengths = -(normal * moment).sum(1) / moment.square().sum(1)
        view2third[:3, 3] *= lengths.nanmedian()
        poses.append(view2third @ camera.world2cam)
    return poses


def _points_observed_by(
    third: int, seed_pair: tuple[int, int], found: Correspondences
) -> Int[Tensor, "observation 2"]:
    """Return pairs (number of the seed pair's point, keypoint of the third view that shows it)."""
    inliers = found.poses[seed_pair].inliers
    rows = []
    for side, view in enumerate(seed_pair):
        pair = (min(view, third), max(view, third))
        matches = found.matches[pair] if view < third else found.matches[pair].flip(1)
        point, row = (inliers[:, side, None] == matches[None, :, 0]).nonzero(as_tuple=True)
        rows.append(torch.stack([point, matches[row, 1]], dim=1))
    return torch.cat(rows).unique(dim=0)


def _bundle(
    found: Correspondences, cameras: tuple[Camera, ...]
) -> tuple[
    Correspondences, tuple[Camera, ...], Float[Tensor, "point 3"], Float[Tensor, "view point 2"]
]:
    """Adjust cameras and points to the matches of all pairs; return each pair's inliers too."""
    for _ in range(BUNDLE_ROUNDS):
        tracks = build_tracks(_pairwise_inliers(found, cameras), len(cameras))
        observations = observations_of(tracks, found.keypoints)
        points = triangulate_tracks(observations, cameras)
        points, observations = _without_outliers(points, observations, cameras, 3 * MAX_ERROR_PX)
        cameras, points = bundle_adjust(cameras, points, observations)
    points, observations = _without_outliers(points, observations, cameras, MAX_ERROR_PX)
    pairs = _pairwise_inliers(found, cameras)
    poses = {pair: pose for pair, pose in pairs.items() if len(pose) >= MIN_MATCHES}
    return replace(found, poses=poses), cameras, points, observations


def _without_outliers(
    points: Float[Tensor, "point 3"],
    observations: Float[Tensor, "view point 2"],
    cameras: tuple[Camera, ...],
    max_error_px: float,
) -> tuple[Float[Tensor, "inlier 3"], Float[Tensor, "view inlier 2"]]:
    """Return the points that two views observe with smaller errors, and those observations."""
    good = is_inlier(points, observations, cameras, max_error_px)
    kept = good.sum(0) > 1
    return points[kept], observations.where(good[..., None], torch.nan)[:, kept]


def _pairwise_inliers(
    found: Correspondences, cameras: tuple[Camera, ...]
) -> dict[tuple[int, int], RelativePose]:
    """Return every pair's relative pose in one set of cameras, with its inliers."""
    poses = {}
    for (first, second), matches in found.matches.items():
        relative = cameras[second].world2cam @ invert(cameras[first].world2cam)
        length = relative[:3, 3].norm()
        if len(matches) and length:
            relative[:3, 3] /= length
            poses[first, second] = found.two_view((first, second)).find_inliers(relative)
    return poses
