"""Poses from what photos have in common, depth from what they show at those poses."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.features.matcher import Matcher
from models.geometry.rigid import invert, transform_points
from models.sfm.bundle_adjustment import (
    LARGEST_PX,
    adjust,
    agrees,
    explain_all,
    link,
    sightings_of,
    triangulate_tracks,
)
from models.sfm.contender import Contender, find_contender
from models.sfm.correspondences import Correspondences, correspond
from models.sfm.degeneracy import Doubts, doubt, flat_motions, settle
from models.sfm.focal_length import GUESS_SPREAD, SharedFocal, calibrate
from models.sfm.hypotheses import choose
from models.sfm.two_view import (
    ENOUGH,
    FEWEST,
    MatchedPair,
    RelativePose,
    absolute_pose,
)

LEAST_PARALLAX = 0.006  # radians, median over the inliers: below, depth is a guess
FEWEST_SHARED = 3  # points that tell how far away a third photo was taken
NEAR_MARGIN, FAR_MARGIN = 1.5, 0.25  # widen the range of inverse depths seen by the matches


@dataclass(frozen=True)
class Registration:
    """Where the photos were taken, according to their matches; the scale is arbitrary.

    `points` are the triangulated matches in the world, `sightings` where each photo shows them
    (coordinates, NaN where it does not); `pairs` maps (first, second) to the matches that agree
    with these poses, `doubts` to what speaks against them; `base` is the pair on which the rest
    stands; `contender` is the next best pose of two photos, None where there are three; `focal` is
    None where no focal length was estimated.
    """

    world2cam: Float[Tensor, "view 4 4"]
    points: Float[Tensor, "point 3"]
    sightings: Float[Tensor, "view point 2"]
    parallax: float  # median angle between the rays of a point, radians
    pairs: dict[tuple[int, int], RelativePose]
    base: tuple[int, int]
    doubts: dict[tuple[int, int], Doubts]
    contender: Contender | None
    focal: SharedFocal | None
    focal_spread: float  # how far off the focal lengths may be: a standard deviation, in log


def bearings(
    coordinates: Float[Tensor, "point 2"], intrinsics: Float[Tensor, "3 3"]
) -> Float[Tensor, "point 3"]:
    """Rays (z = 1) of image points in camera axes."""
    homogeneous = torch.cat([coordinates, torch.ones_like(coordinates[:, :1])], dim=1)
    return homogeneous @ torch.linalg.inv(intrinsics).T


def register(
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    matchers: list[Matcher],
    seed: int = 0,
    unknown_focal: tuple[int, ...] = (),
    guessed: bool = False,
) -> Registration | None:
    """Find the poses of two or three photos from their matches.

    The pair with the most inliers, of those with parallax, comes first (a flat scene's count half);
    a third photo is added by the points that it shares with that pair (PnP), or by pairs of its
    own, and then all poses are adjusted to the matches of all pairs. Only the matchers run where
    the photos are, the rest on the CPU. The focal length of `unknown_focal`, photos of one camera,
    is a guess, which the matches may correct; `guessed` says whether any is.

    Returns:
        None where the matches do not tell all the poses.
    """
    device = intrinsics.device
    intrinsics = intrinsics.cpu()
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    found = correspond(images, intrinsics, matchers, seed)
    found, focal = calibrate(found, intrinsics, sizes, unknown_focal, seed)
    if not found.poses:
        return None
    if focal is not None:
        intrinsics = focal.applied_to(intrinsics)
    found, rivals = _choose_where_unsure(found, images, intrinsics, sizes)
    settled = {
        pair: settle(_matched(pair, found, intrinsics, sizes), pose, seed, is_chosen=pair in rivals)
        for pair, pose in found.poses.items()
    }
    base = max(settled, key=lambda pair: _foundation(*settled[pair]))
    pose, doubts = settled[base]
    found, all_doubts = replace(found, poses=found.poses | {base: pose}), {base: doubts}
    world2cam = torch.eye(4).repeat(len(images), 1, 1)
    world2cam[base[1]] = pose.first2second
    sightings = torch.full((len(images), len(pose), 2), torch.nan)
    for side, view in enumerate(base):
        sightings[view] = found.coordinates[view][pose.inliers[:, side]]
    points = bearings(sightings[base[0]], intrinsics[base[0]]) * pose.depth[:, None]
    for third in set(range(len(images))) - set(base):
        seen = _points_seen_by(third, base, found)
        coordinates = found.coordinates[third][seen[:, 1]]
        found_pose = absolute_pose(
            points[seen[:, 0]], coordinates, intrinsics[third], sizes[third], seed
        )
        placed = _placed_by_pairs(third, base, found, world2cam, points, intrinsics)
        if found_pose is not None:
            placed.append(found_pose[0])
        if not placed:
            return None
        world2cam[third] = max(
            placed, key=lambda pose: _support(third, pose, world2cam, found, intrinsics, sizes)
        )
    contender = None
    if len(images) == 2:
        matched = _matched(base, found, intrinsics, sizes)
        contender = rivals[base] if base in rivals else _contender(matched, pose)
    else:
        world2cam, points, sightings, pairs = _bundle(found, world2cam, intrinsics, sizes)
        found = replace(found, poses=pairs)
        for pair in sorted(pairs.keys() - {base}):
            matched = _matched(pair, found, intrinsics, sizes)
            all_doubts[pair] = doubt(matched, pairs[pair], seed)
    return Registration(
        world2cam=(world2cam @ invert(world2cam[0])).to(device),
        points=transform_points(points, world2cam[0]).to(device),
        sightings=sightings.to(device),
        parallax=float(pose.parallax.median()),
        pairs=found.poses,
        base=base,
        doubts=all_doubts,
        contender=contender,
        focal=focal,
        focal_spread=focal.spread if focal is not None else GUESS_SPREAD if guessed else 0.0,
    )


def _foundation(pose: RelativePose, doubts: Doubts) -> tuple[bool, float]:
    """How good a pair is to begin with: one without parallax has no depth.

    Of a flat scene's two motions only one is right, so that its matches are worth half.
    """
    worth = len(pose) * (1.0 if doubts.twin is None else 0.5)
    return float(pose.parallax.median()) >= LEAST_PARALLAX, worth


def _matched(
    pair: tuple[int, int],
    found: Correspondences,
    intrinsics: Float[Tensor, "view 3 3"],
    sizes: list[tuple[int, int]],
) -> MatchedPair:
    first, second = pair
    return MatchedPair(
        found.coordinates[first],
        found.coordinates[second],
        found.matches[pair],
        intrinsics[[first, second]],
        (sizes[first], sizes[second]),
        found.guesses[pair],
    )


def _choose_where_unsure(
    found: Correspondences,
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    sizes: list[tuple[int, int]],
) -> tuple[Correspondences, dict[tuple[int, int], Contender]]:
    """Choose anew the poses of pairs with few matches, and say what rivals them.

    So are those for which further matchers had to be asked: many matches may lie on one plane.
    The matches of two photos move to where the photos agree. Those of three stay: a keypoint that
    two pairs share would have to be in two places.
    """
    rivals = {}
    for pair, pose in found.poses.items():
        if len(pose) >= ENOUGH and not len(found.guesses[pair].pairs):
            continue
        shown = images[pair[0]], images[pair[1]]
        moved, chosen, rivals[pair] = choose(shown, _matched(pair, found, intrinsics, sizes), pose)
        found = replace(found, poses=found.poses | {pair: chosen})
        if len(images) == 2:
            found = replace(found, coordinates=[moved.first, moved.second])
    return found, rivals


def _contender(pair: MatchedPair, pose: RelativePose) -> Contender:
    """The pose that rivals the one of two photos."""
    cameras = pair.intrinsics, pair.sizes
    others = [*pose.others, *flat_motions(*pair.where(pose.inliers), *cameras)]
    return find_contender(pair.where(pair.matches), *cameras, pose.first2second, others)


def _placed_by_pairs(
    third: int,
    base: tuple[int, int],
    found: Correspondences,
    world2cam: Float[Tensor, "view 4 4"],
    points: Float[Tensor, "point 3"],
    intrinsics: Float[Tensor, "view 3 3"],
) -> list[Float[Tensor, "4 4"]]:
    """Poses of a third view by its own pairs: rotation and direction; length by shared points."""
    seen = _points_seen_by(third, base, found)
    rays = bearings(found.coordinates[third][seen[:, 1]], intrinsics[third])
    placed: list[Tensor] = []
    if len(seen) < FEWEST_SHARED:
        return placed
    for view in base:
        pair = (min(view, third), max(view, third))
        if pair not in found.poses:
            continue
        motion = found.poses[pair].first2second
        motion = motion if view < third else invert(motion)
        turned = transform_points(points[seen[:, 0]], world2cam[view]) @ motion[:3, :3].T
        across = torch.linalg.cross(rays, motion[:3, 3].expand_as(rays))
        lengths = -(torch.linalg.cross(rays, turned) * across).sum(1) / across.square().sum(1)
        motion = motion.clone()
        motion[:3, 3] *= lengths.nanmedian()
        placed.append(motion @ world2cam[view])
    return placed


def _support(
    third: int,
    pose: Float[Tensor, "4 4"],
    world2cam: Float[Tensor, "view 4 4"],
    found: Correspondences,
    intrinsics: Float[Tensor, "view 3 3"],
    sizes: list[tuple[int, int]],
) -> int:
    """How many matches of all pairs agree if the third view is placed there."""
    tried = world2cam.clone()
    tried[third] = pose
    return sum(len(pair) for pair in explain_all(found, tried, intrinsics, sizes).values())


def _bundle(
    found: Correspondences,
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "view 3 3"],
    sizes: list[tuple[int, int]],
) -> tuple[Tensor, Tensor, Tensor, dict[tuple[int, int], RelativePose]]:
    """Poses and points that fit the matches of all pairs best, and each pair's part in them.

    Twice: better poses agree with further matches.
    """
    for _ in range(2):
        pairs = explain_all(found, world2cam, intrinsics, sizes)
        sightings = sightings_of(link(pairs, len(sizes)), found.coordinates)
        points = triangulate_tracks(sightings, world2cam, intrinsics)
        good = agrees(world2cam, points, sightings, intrinsics, sizes, 3 * LARGEST_PX)
        sightings = sightings.where(good[..., None], torch.nan)
        kept = good.sum(0) > 1
        sightings, points = sightings[:, kept], points[kept]
        world2cam, points = adjust(world2cam, points, sightings, intrinsics, sizes)
    good = agrees(world2cam, points, sightings, intrinsics, sizes, LARGEST_PX)
    kept = good.sum(0) > 1
    sightings = sightings.where(good[..., None], torch.nan)
    pairs = explain_all(found, world2cam, intrinsics, sizes)
    enough = {pair: pose for pair, pose in pairs.items() if len(pose) >= FEWEST}
    return world2cam, points[kept], sightings[:, kept], enough


def _points_seen_by(
    third: int, base: tuple[int, int], found: Correspondences
) -> Int[Tensor, "sight 2"]:
    """Pairs (number of a point triangulated by the base, keypoint of the third that shows it)."""
    inliers = found.poses[base].inliers
    rows = []
    for side, view in enumerate(base):
        pair = (min(view, third), max(view, third))
        table = found.matches[pair] if view < third else found.matches[pair].flip(1)
        same = inliers[:, side, None] == table[None, :, 0]
        point, row = same.nonzero(as_tuple=True)
        rows.append(torch.stack([point, table[row, 1]], dim=1))
    return torch.cat(rows).unique(dim=0)


def depth_range(
    points: Float[Tensor, "point 3"], world2cam: Float[Tensor, "4 4"]
) -> tuple[float, float]:
    """The depths (near, far) that a sweep in this view should cover, from triangulated points."""
    z = transform_points(points, world2cam)[:, 2]
    inverse = 1 / z[z > 0]
    nearest = float(torch.quantile(inverse, 0.98)) * NEAR_MARGIN
    farthest = max(float(torch.quantile(inverse, 0.02)) * FAR_MARGIN, 1e-4 * nearest)
    return 1 / nearest, 1 / farthest
