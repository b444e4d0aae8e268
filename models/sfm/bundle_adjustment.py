"""Points that several photos share, and bundle adjustment: poses and points that fit them best."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.geometry.camera import project, to_pixels
from models.geometry.rigid import cross_matrix, invert, se3_exponential, transform_points
from models.sfm.correspondences import Correspondences
from models.sfm.two_view import RelativePose, explain

ERROR_PX = 0.7  # at which the pull of a sighting begins to fade (Cauchy's loss)
LARGEST_PX = 2.0  # error of a sighting that is kept
STEPS = 20
LEAST_GAIN = 1e-5  # share of the cost; a step that gains less is the last


def explain_all(
    found: Correspondences,
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "view 3 3"],
    sizes: list[tuple[int, int]],
) -> dict[tuple[int, int], RelativePose]:
    """Every pair's part of one set of poses, with the matches that agree with it."""
    explained = {}
    for pair, matches in found.matches.items():
        first, second = pair
        motion = world2cam[second] @ invert(world2cam[first])
        length = motion[:3, 3].norm()
        if len(matches) == 0 or length == 0:
            continue
        motion[:3, 3] /= length
        at = found.coordinates[first][matches[:, 0]], found.coordinates[second][matches[:, 1]]
        cameras = intrinsics[[first, second]]
        explained[pair] = explain(at, matches, cameras, (sizes[first], sizes[second]), motion)
    return explained


def link(pairs: dict[tuple[int, int], RelativePose], views: int) -> Int[Tensor, "track view"]:
    """Chain the matches of pairs to tracks: a keypoint number for each view, -1 where it has none.

    A match that contradicts an earlier one is left out.
    """
    tracks: list[list[int]] = []
    known: dict[tuple[int, int], int] = {}  # (view, keypoint) to the track that has it
    for (first, second), pose in pairs.items():
        for ends in pose.inliers.tolist():
            nodes = (first, ends[0]), (second, ends[1])
            of = [known.get(node) for node in nodes]
            if None not in of:
                continue  # the same track, or two that disagree
            track = of[0] if of[0] is not None else of[1]
            if track is None:
                track = len(tracks)
                tracks.append([-1] * views)
            if all(tracks[track][view] in (-1, keypoint) for view, keypoint in nodes):
                for view, keypoint in nodes:
                    tracks[track][view] = keypoint
                    known[view, keypoint] = track
    return torch.tensor(tracks, dtype=torch.long).reshape(-1, views)


def sightings_of(
    tracks: Int[Tensor, "track view"], coordinates: list[Float[Tensor, "_keypoint 2"]]
) -> Float[Tensor, "view track 2"]:
    """Coordinates of the tracks in every view, NaN where it does not show them."""
    sightings = torch.full((len(coordinates), len(tracks), 2), torch.nan)
    for view, keypoints in enumerate(tracks.T):
        shown = keypoints >= 0
        sightings[view, shown] = coordinates[view][keypoints[shown]]
    return sightings


def triangulate_tracks(
    sightings: Float[Tensor, "view track 2"],
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "view 3 3"],
) -> Float[Tensor, "track 3"]:
    """World points nearest to all rays that see them (least squares)."""
    shown = sightings.isfinite().all(-1)
    homogeneous = torch.cat([sightings, torch.ones_like(sightings[..., :1])], dim=-1).nan_to_num()
    rays = homogeneous @ torch.linalg.inv(intrinsics).mT @ world2cam[:, :3, :3]
    rays = torch.nn.functional.normalize(rays, dim=-1)
    across = torch.eye(3).to(rays) - rays[..., :, None] * rays[..., None, :]
    across = across * shown[..., None, None]
    centers = invert(world2cam)[:, :3, 3]
    pulled = torch.einsum("vtij,vj->ti", across, centers)
    tiny = 1e-9 * torch.eye(3).to(rays)
    return torch.linalg.solve(across.sum(0) + tiny, pulled)


def adjust(
    world2cam: Float[Tensor, "view 4 4"],
    points: Float[Tensor, "point 3"],
    sightings: Float[Tensor, "view point 2"],
    intrinsics: Float[Tensor, "view 3 3"],
    sizes: list[tuple[int, int]],
) -> tuple[Float[Tensor, "view 4 4"], Float[Tensor, "point 3"]]:
    """Move all cameras but the first, and all points, to where reprojection errors are least.

    Levenberg and Marquardt's steps with Cauchy's loss; points are eliminated from each (Triggs et
    al., Bundle Adjustment: A Modern Synthesis, 2000). The scale is held by damping alone.

    Args:
        world2cam: Where to begin.
        points: In the world.
        sightings: Coordinates in [0, 1], NaN where a view does not show a point.
        intrinsics: Normalized; they stay.
        sizes: (height, width) of each photo, in the pixels that count.
    """
    kept = world2cam.dtype
    sides = torch.tensor([[width, height] for height, width in sizes])
    cameras = torch.stack([to_pixels(*each) for each in zip(intrinsics, sizes, strict=True)])
    poses, points, cameras = world2cam.double(), points.double(), cameras.double()
    pixels = sightings.double() * sides[:, None]
    cost, damping = _cost(poses, points, pixels, cameras), 1e-3
    for _ in range(STEPS):
        twists, shifts = _step(poses, points, pixels, cameras, damping)
        moved, shifted = se3_exponential(twists) @ poses, points + shifts
        new = _cost(moved, shifted, pixels, cameras)
        if new < cost:
            gain, cost = 1 - new / cost, new
            poses, points, damping = moved, shifted, damping / 5
            if gain < LEAST_GAIN:
                break
        else:
            damping *= 10
    return poses.to(kept), points.to(kept)


def agrees(
    world2cam: Float[Tensor, "view 4 4"],
    points: Float[Tensor, "point 3"],
    sightings: Float[Tensor, "view point 2"],
    intrinsics: Float[Tensor, "view 3 3"],
    sizes: list[tuple[int, int]],
    largest_px: float,
) -> Bool[Tensor, "view point"]:
    """Which sightings lie so near their point, which is in front of the camera."""
    sides = torch.tensor([[width, height] for height, width in sizes])
    at, depth = project(points.expand(len(world2cam), -1, -1), world2cam, intrinsics)
    return (((at - sightings) * sides[:, None]).norm(dim=-1) < largest_px) & (depth > 0)


def _errors(
    poses: Float[Tensor, "view 4 4"],
    points: Float[Tensor, "point 3"],
    pixels: Float[Tensor, "view point 2"],
    cameras: Float[Tensor, "view 3 3"],
) -> tuple[Float[Tensor, "view point 2"], Bool[Tensor, "view point"]]:
    """Errors in pixels, zero where they do not count: not shown, or behind the camera."""
    at, depth = project(points.expand(len(poses), -1, -1), poses, cameras)
    counts = pixels.isfinite().all(-1) & (depth > 1e-9)
    return (at - pixels).where(counts[..., None], 0), counts


def _cost(
    poses: Float[Tensor, "view 4 4"],
    points: Float[Tensor, "point 3"],
    pixels: Float[Tensor, "view point 2"],
    cameras: Float[Tensor, "view 3 3"],
) -> float:
    errors, counts = _errors(poses, points, pixels, cameras)
    shown = pixels.isfinite().all(-1)
    squares = (errors.square().sum(-1) / ERROR_PX**2).where(counts | ~shown, 1e6)
    return float(squares.log1p().sum())


def _step(
    poses: Float[Tensor, "view 4 4"],
    points: Float[Tensor, "point 3"],
    pixels: Float[Tensor, "view point 2"],
    cameras: Float[Tensor, "view 3 3"],
    damping: float,
) -> tuple[Float[Tensor, "view 6"], Float[Tensor, "point 3"]]:
    """The damped step: twists to the left of every pose, the first one's zero, and shifts."""
    errors, counts = _errors(poses, points, pixels, cameras)
    weight = counts / (1 + errors.square().sum(-1) / ERROR_PX**2)
    in_camera = transform_points(points.expand(len(poses), -1, -1), poses)
    inverse = 1 / in_camera[..., 2].where(counts, 1)
    focal = cameras[:, None, [0, 1], [0, 1]] * inverse[..., None]
    slope = -(focal * in_camera[..., :2] * inverse[..., None])
    by_camera = torch.cat([torch.diag_embed(focal), slope[..., None]], dim=-1)
    by_twist = torch.cat([by_camera, -by_camera @ cross_matrix(in_camera)], dim=-1)[1:]
    by_point = by_camera @ poses[:, None, :3, :3]

    def normal(left: Tensor, right: Tensor, sums: str, first: int = 0) -> Tensor:
        return torch.einsum(sums, left, weight[first:], right)

    points_only = normal(by_point, by_point, "vpki,vp,vpkj->pij")
    mixed = normal(by_twist, by_point[1:], "vpki,vp,vpkj->pvij", 1).flatten(1, 2)
    views_only = torch.block_diag(*normal(by_twist, by_twist, "vpki,vp,vpkj->vij", 1))
    down_points = normal(by_point, errors, "vpki,vp,vpk->pi")
    down_views = normal(by_twist, errors[1:], "vpki,vp,vpk->vi", 1).flatten()

    def damped(matrix: Tensor) -> Tensor:
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)
        return matrix + torch.diag_embed(damping * diagonal + 1e-9)

    inverse_points = torch.linalg.inv(damped(points_only))
    through = mixed @ inverse_points
    reduced = damped(views_only) - torch.einsum("pij,pkj->ik", through, mixed)
    twists = torch.linalg.solve(
        reduced, torch.einsum("pij,pj->i", through, down_points) - down_views
    )
    pull = down_points + torch.einsum("pij,i->pj", mixed, twists)
    shifts = -(inverse_points @ pull[..., None])[..., 0]
    return torch.cat([twists.new_zeros(1, 6), twists.view(-1, 6)]), shifts
