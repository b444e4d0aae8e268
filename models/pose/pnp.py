"""Perspective-n-Point: a camera's pose from Gaussian centers and the pixels that they belong to."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.geometry.camera import pixel_grid, project, to_pixels

MIN_OPACITY = 0.3  # of the centers that are used
MAX_REPROJECTION_ERROR = 5 / 256  # of an inlier, as a share of the longer side
MIN_POINTS = 6  # that PnP with RANSAC needs
COLLINEAR_RATIO = 1e-4  # of the points' second extent to the first: below it they lie on a line
RANSAC_ITERATIONS = 1000
RANSAC_POINTS = 4096  # few, so that many iterations are affordable
REFIT_POINTS = 16384
REFITS = 5  # each with the inliers of the one before: the error falls by 1.5 to 20 times


@dataclass(frozen=True)
class PnpPose:
    """A pose with its inliers, and their share of the points that were opaque and finite."""

    world2cam: Float[Tensor, "4 4"]
    inliers: int
    inlier_ratio: float


def pose_from_centers(
    means: Float[Tensor, "height width 3"],
    opacities: Float[Tensor, "height width"],
    intrinsics: Float[Tensor, "3 3"],
) -> PnpPose | None:
    """Find the camera that sees each center in the middle of its pixel (PnP with RANSAC).

    SQPnP (Terzakis and Lourakis, ECCV 2020), refitted to all inliers. The same input gives the
    same pose: OpenCV seeds its samples itself.

    Args:
        means: Centers predicted for every pixel of the view, in the first view's frame.
        opacities: Probabilities; only centers above `MIN_OPACITY` count.
        intrinsics: Normalized, of this view.

    Returns None where the centers do not determine a pose: too few of them, all on a point or a
    line, or fewer than `MIN_POINTS` inliers.
    """
    usable = (opacities > MIN_OPACITY) & means.isfinite().all(dim=-1)
    points = means.detach()[usable].double().cpu()
    if len(points) < MIN_POINTS or _are_collinear(points):
        return None
    height, width = opacities.shape
    sides = torch.tensor([width, height], dtype=torch.float64)
    pixels = pixel_grid((height, width), points)[usable.cpu()] * sides
    intrinsics_px = to_pixels(intrinsics.detach().double().cpu(), (height, width))
    threshold_px = MAX_REPROJECTION_ERROR * max(height, width)

    subset = _evenly_spaced(len(points), RANSAC_POINTS)
    ransac = {"iterationsCount": RANSAC_ITERATIONS, "reprojectionError": threshold_px}
    world2cam = _solve(points[subset], pixels[subset], intrinsics_px, **ransac)
    subset = _evenly_spaced(len(points), REFIT_POINTS)
    for _ in range(REFITS):
        if world2cam is None:
            return None
        near = _inliers(points[subset], pixels[subset], world2cam, intrinsics_px, threshold_px)
        world2cam = _solve(points[subset][near], pixels[subset][near], intrinsics_px)
    if world2cam is None:
        return None
    inliers = int(_inliers(points, pixels, world2cam, intrinsics_px, threshold_px).sum())
    if inliers < MIN_POINTS:
        return None
    return PnpPose(world2cam.to(means), inliers, inliers / len(points))


def _are_collinear(points: Float[Tensor, "point 3"]) -> bool:
    centered = points - points.mean(dim=0)
    extents = torch.linalg.svdvals(centered.mT @ centered).sqrt()
    return bool(extents[1] <= COLLINEAR_RATIO * extents[0])


def _evenly_spaced(count: int, limit: int) -> Int[Tensor, " chosen"]:
    """Return the indices of at most `limit` of `count` points."""
    return torch.linspace(0, count - 1, min(count, limit)).round().long()


def _inliers(
    points: Float[Tensor, "point 3"],
    pixels: Float[Tensor, "point 2"],
    world2cam: Float[Tensor, "4 4"],
    intrinsics_px: Float[Tensor, "3 3"],
    threshold_px: float,
) -> Bool[Tensor, " point"]:
    projected, depth = project(points, world2cam, intrinsics_px)
    return ((projected - pixels).norm(dim=-1) < threshold_px) & (depth > 0)


def _solve(
    points: Float[Tensor, "point 3"],
    pixels: Float[Tensor, "point 2"],
    intrinsics_px: Float[Tensor, "3 3"],
    **ransac: int | float,
) -> Float[Tensor, "4 4"] | None:
    """Solve PnP by SQPnP, with RANSAC if its options are given; None where there is no pose."""
    if len(points) < MIN_POINTS:
        return None
    solver: Any = cv2.solvePnPRansac if ransac else cv2.solvePnP
    arrays = points.numpy(), pixels.numpy(), intrinsics_px.numpy()
    try:
        found, rotation_vector, translation, *_ = solver(
            *arrays, None, flags=cv2.SOLVEPNP_SQPNP, **ransac
        )
    except cv2.error:  # how OpenCV says that these points admit no pose
        return None
    if not (found and np.isfinite(rotation_vector).all() and np.isfinite(translation).all()):
        return None
    world2cam = torch.eye(4, dtype=torch.float64)
    world2cam[:3, :3] = torch.from_numpy(cv2.Rodrigues(rotation_vector)[0])
    world2cam[:3, 3] = torch.from_numpy(translation[:, 0])
    return world2cam
