"""Poses from what photos have in common, depth from what they show at those poses."""

from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import invert, transform_points
from models.matching import (
    Features,
    RelativePose,
    absolute_pose,
    detect,
    match,
    relative_pose,
)

LEAST_PARALLAX = 0.006  # radians, median over the inliers: below, depth is a guess
NEAR_MARGIN, FAR_MARGIN = 1.25, 0.4  # widen the range of inverse depths seen by the matches


@dataclass(frozen=True)
class Registration:
    """Where the photos were taken, according to their matches; the scale is arbitrary.

    `points` are the triangulated matches in the world, `pairs` maps (first, second) to the evidence
    of that pair alone.
    """

    world2cam: Float[Tensor, "view 4 4"]
    points: Float[Tensor, "point 3"]
    parallax: float  # median angle between the rays of a point, radians
    pairs: dict[tuple[int, int], RelativePose]


def bearings(
    features: Features, numbers: Tensor, intrinsics: Float[Tensor, "3 3"]
) -> Float[Tensor, "point 3"]:
    """Rays (z = 1) of keypoints in camera axes."""
    coordinates = features.coordinates[numbers]
    homogeneous = torch.cat([coordinates, torch.ones_like(coordinates[:, :1])], dim=1)
    return homogeneous @ torch.linalg.inv(intrinsics).T


def register(
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    seed: int = 0,
) -> Registration | None:
    """Find the poses of two or three photos from their matches.

    The pair with the most inliers comes first; a third photo is added by the points that it shares
    with that pair (PnP). All of this runs on the CPU, wherever the photos are.

    Returns:
        None where the matches do not tell all the poses.
    """
    device = intrinsics.device
    intrinsics = intrinsics.cpu()
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    features = [detect(image) for image in images]
    matches, pairs = {}, {}
    for first, second in combinations(range(len(images)), 2):
        found = match(features[first], features[second])
        matches[first, second] = found
        pose = relative_pose(
            features[first],
            features[second],
            found,
            intrinsics[[first, second]],
            (sizes[first], sizes[second]),
            seed,
        )
        if pose is not None:
            pairs[first, second] = pose
    if not pairs:
        return None
    base = max(pairs, key=lambda pair: len(pairs[pair]))
    pose = pairs[base]
    world2cam = torch.eye(4).repeat(len(images), 1, 1)
    world2cam[base[1]] = pose.first2second
    rays = bearings(features[base[0]], pose.inliers[:, 0], intrinsics[base[0]])
    points = rays * pose.depth[:, None]
    for third in set(range(len(images))) - set(base):
        seen = _points_seen_by(third, base, pose, matches)
        coordinates = features[third].coordinates[seen[:, 1]]
        found_pose = absolute_pose(
            points[seen[:, 0]], coordinates, intrinsics[third], sizes[third], seed
        )
        if found_pose is None:
            return None
        world2cam[third] = found_pose[0]
    return Registration(
        world2cam=(world2cam @ invert(world2cam[0])).to(device),
        points=transform_points(points, world2cam[0]).to(device),
        parallax=float(pose.parallax.median()),
        pairs=pairs,
    )


def _points_seen_by(
    third: int,
    base: tuple[int, int],
    pose: RelativePose,
    matches: dict[tuple[int, int], Tensor],
) -> Tensor:
    """Pairs (number of a triangulated point, keypoint of the third photo that shows it)."""
    rows = []
    for side, view in enumerate(base):
        pair = (min(view, third), max(view, third))
        table = matches[pair] if view < third else matches[pair].flip(1)
        same = pose.inliers[:, side, None] == table[None, :, 0]
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
