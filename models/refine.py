"""Poses from what photos have in common, depth from what they show at those poses."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.camera import invert, transform_points
from models.matching import Correspondences, correspond
from models.matching.degenerate import Doubts, settle
from models.matching.features import Matcher
from models.matching.focal import SharedFocal, calibrate
from models.matching.motion import RelativePose, absolute_pose

LEAST_PARALLAX = 0.006  # radians, median over the inliers: below, depth is a guess
NEAR_MARGIN, FAR_MARGIN = 1.25, 0.4  # widen the range of inverse depths seen by the matches


@dataclass(frozen=True)
class Registration:
    """Where the photos were taken, according to their matches; the scale is arbitrary.

    `points` are the triangulated matches in the world, `sightings` where each photo shows them
    (coordinates, NaN where it does not); `pairs` maps (first, second) to the evidence of that pair
    alone; `doubts` are about the pair `base`, on which the rest stands; `focal` is None where no
    focal length was estimated.
    """

    world2cam: Float[Tensor, "view 4 4"]
    points: Float[Tensor, "point 3"]
    sightings: Float[Tensor, "view point 2"]
    parallax: float  # median angle between the rays of a point, radians
    pairs: dict[tuple[int, int], RelativePose]
    base: tuple[int, int]
    doubts: Doubts
    focal: SharedFocal | None


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
) -> Registration | None:
    """Find the poses of two or three photos from their matches.

    The pair with the most inliers comes first; a third photo is added by the points that it shares
    with that pair (PnP). Only the matchers run where the photos are, the rest on the CPU. The focal
    length of `unknown_focal`, photos of one camera, is a guess, which the matches may correct.

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
    base = max(found.poses, key=lambda pair: len(found.poses[pair]))
    pose, doubts = _settle(base, found, intrinsics, sizes, seed)
    found = replace(found, poses=found.poses | {base: pose})
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
        if found_pose is None:
            return None
        world2cam[third], agree = found_pose
        sightings[third, seen[agree, 0]] = coordinates[agree]
    return Registration(
        world2cam=(world2cam @ invert(world2cam[0])).to(device),
        points=transform_points(points, world2cam[0]).to(device),
        sightings=sightings.to(device),
        parallax=float(pose.parallax.median()),
        pairs=found.poses,
        base=base,
        doubts=doubts,
        focal=focal,
    )


def _settle(
    base: tuple[int, int],
    found: Correspondences,
    intrinsics: Float[Tensor, "view 3 3"],
    sizes: list[tuple[int, int]],
    seed: int,
) -> tuple[RelativePose, Doubts]:
    first, second = base
    return settle(
        found.coordinates[first],
        found.coordinates[second],
        found.matches[base],
        intrinsics[[first, second]],
        (sizes[first], sizes[second]),
        found.poses[base],
        seed,
    )


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
