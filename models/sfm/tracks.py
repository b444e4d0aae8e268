"""Tracks: points that several photos observe, from the matches of pairs."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import Camera, pixel_grid, project
from models.geometry.rigid import invert, transform_points
from models.geometry.sampling import sample_bilinear
from models.sfm.two_view import RelativePose

CELL_PX = 4  # side of the cells of a rough depth map that are computed as one
NEAR_MARGIN, FAR_MARGIN = 1.5, 0.25  # factors that widen the range of the points' inverse depths
QUANTILES = 0.02, 0.98  # of the points' inverse depths
NEIGHBORS = 4  # points that each cell interpolates


def build_tracks(
    pairs: dict[tuple[int, int], RelativePose], views: int
) -> Int[Tensor, "track view"]:
    """Chain the inliers of pairs to tracks: a keypoint number for each view, -1 where it has none.

    A match that contradicts an earlier one is left out.
    """
    tracks: list[list[int]] = []
    track_of: dict[tuple[int, int], int] = {}  # by (view, keypoint)
    for (first, second), pose in pairs.items():
        for keypoints in pose.inliers.tolist():
            nodes = (first, keypoints[0]), (second, keypoints[1])
            of_nodes = [track_of.get(node) for node in nodes]
            if None not in of_nodes:
                continue  # the same track, or two that disagree
            track = of_nodes[0] if of_nodes[0] is not None else of_nodes[1]
            if track is None:
                track = len(tracks)
                tracks.append([-1] * views)
            if all(tracks[track][view] in (-1, keypoint) for view, keypoint in nodes):
                for view, keypoint in nodes:
                    tracks[track][view] = keypoint
                    track_of[view, keypoint] = track
    return torch.tensor(tracks, dtype=torch.long).reshape(-1, views)


def observations_of(
    tracks: Int[Tensor, "track view"], keypoints: list[Float[Tensor, "_keypoint 2"]]
) -> Float[Tensor, "view track 2"]:
    """Return the tracks' coordinates in every view, NaN where it does not observe them."""
    observations = torch.full((len(keypoints), len(tracks), 2), torch.nan)
    for view, numbers in enumerate(tracks.T):
        observed = numbers >= 0
        observations[view, observed] = keypoints[view][numbers[observed]]
    return observations


def triangulate_tracks(
    observations: Float[Tensor, "view track 2"], cameras: Sequence[Camera]
) -> Float[Tensor, "track 3"]:
    """Triangulate the world points nearest to all rays that observe them (least squares).

    Those of parallel rays are anywhere along them, or not finite.
    """
    world2cam, intrinsics = _stacked(cameras)
    observed = observations.isfinite().all(-1)
    homogeneous = functional.pad(observations, (0, 1), value=1.0).nan_to_num()
    rays = homogeneous @ torch.linalg.inv(intrinsics).mT @ world2cam[:, :3, :3]
    rays = functional.normalize(rays, dim=-1)
    across = torch.eye(3).to(rays) - rays[..., :, None] * rays[..., None, :]
    across = across * observed[..., None, None]
    centers = invert(world2cam)[:, :3, 3]
    right_side = torch.einsum("vtij,vj->ti", across, centers)
    regularizer = 1e-9 * torch.eye(3).to(rays)
    return torch.linalg.solve_ex(across.sum(0) + regularizer, right_side).result


def reprojection_errors_px(
    points: Float[Tensor, "point 3"],
    observations: Float[Tensor, "view point 2"],
    cameras: Sequence[Camera],
) -> Float[Tensor, "view point"]:
    """Return distances between projections and observations; NaN where a view observes nothing."""
    projected, _ = project(points.expand(len(cameras), -1, -1), *_stacked(cameras))
    width_height = torch.tensor([camera.size[::-1] for camera in cameras]).to(projected)
    return ((projected - observations) * width_height[:, None]).norm(dim=-1)


def is_inlier(
    points: Float[Tensor, "point 3"],
    observations: Float[Tensor, "view point 2"],
    cameras: Sequence[Camera],
    max_error_px: float,
) -> Bool[Tensor, "view point"]:
    """Test which observations have a smaller reprojection error, in front of the camera."""
    _, depth = project(points.expand(len(cameras), -1, -1), *_stacked(cameras))
    return (reprojection_errors_px(points, observations, cameras) < max_error_px) & (depth > 0)


def depth_bounds(points: Float[Tensor, "point 3"], camera: Camera) -> tuple[float, float]:
    """Return the depths (near, far) that a sweep in this camera should cover, from its points."""
    z = transform_points(points, camera.world2cam)[:, 2]
    inverse = 1 / z[z > 0]
    nearest = float(torch.quantile(inverse, QUANTILES[1])) * NEAR_MARGIN
    farthest = max(float(torch.quantile(inverse, QUANTILES[0])) * FAR_MARGIN, 1e-4 * nearest)
    return 1 / nearest, 1 / farthest


def spread_depth(
    coordinates: Float[Tensor, "point 2"], depth: Float[Tensor, " point"], size: tuple[int, int]
) -> Float[Tensor, "height width"]:
    """Interpolate a rough depth map from at least one point: inverse depth, by inverse squares.

    Cells of `CELL_PX` are computed, the rest interpolated.
    """
    coarse = max(2, size[0] // CELL_PX), max(2, size[1] // CELL_PX)
    cells = pixel_grid(coarse, coordinates).flatten(0, 1)
    count = min(NEIGHBORS, len(depth))
    distance, nearest = torch.cdist(cells, coordinates).topk(count, largest=False)
    weight = 1 / (distance.square() + 1e-6)
    inverse = (weight / depth[nearest]).sum(1) / weight.sum(1)
    return 1 / functional.interpolate(inverse.view(1, 1, *coarse), size, mode="bilinear")[0, 0]


def mean_colors(
    images: list[Float[Tensor, "3 _height _width"]], observations: Float[Tensor, "view point 2"]
) -> Float[Tensor, "point 3"]:
    """Return every point's mean RGB over the images that observe it, of which there must be one."""
    colors = []
    for image, coordinates in zip(images, observations, strict=True):
        colors.append(sample_bilinear(image, coordinates.nan_to_num(0.5)).T)
    observed = observations.isfinite().all(-1)[..., None]
    return (torch.stack(colors) * observed).sum(0) / observed.sum(0)


def _stacked(
    cameras: Sequence[Camera],
) -> tuple[Float[Tensor, "view 4 4"], Float[Tensor, "view 3 3"]]:
    """Return the poses and intrinsics of cameras, whose sizes may differ, as batches."""
    world2cam = torch.stack([camera.world2cam for camera in cameras])
    return world2cam, torch.stack([camera.intrinsics for camera in cameras])
