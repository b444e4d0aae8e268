"""Degenerate pairs: many matches agree with one pose, and still do not determine it."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import poselib
import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.rigid import rotation_angle
from models.sfm.two_view import (
    MAX_EPIPOLAR_ERROR_PX,
    MIN_MATCHES,
    RelativePose,
    TwoView,
    pose_angle,
)

MIN_CROP_RATIO = 0.9  # share of the inliers that a scaling explains in a crop
MIN_IN_FRONT_RATIO = 0.9  # share of a homography's inliers that lie in front of the camera
SAME_SUPPORT = 0.98  # of the inliers: so many agree with a second pose only on a plane
SECOND_POSE_RAD = math.radians(10)  # by which a second pose differs at least
SECOND_POSE_RATIO, MIN_SECOND_POSE_INLIERS = 0.4, 15  # fewer agree with a pose by chance
CROP_ITERATIONS = 5
HOMOGRAPHY_RANSAC = {"min_iterations": 100, "max_iterations": 1000}


@dataclass(frozen=True)
class Degeneracy:
    """Reasons to doubt the relative pose with most inliers."""

    is_crop: bool  # one photo is the other, resized or cropped
    planar_ambiguity_rad: float | None  # angle to another pose that explains inliers on a plane
    second_pose_inliers: int  # how many of the other matches agree with a second pose; 0 if few

    @property
    def max_confidence(self) -> float:
        """The most that can be claimed: the two poses of a plane are equally likely."""
        if self.is_crop:
            return 0.0
        if self.second_pose_inliers:
            return 0.3
        return 1.0 if self.planar_ambiguity_rad is None else 0.5

    @property
    def messages(self) -> tuple[str, ...]:
        """The reasons in sentences."""
        messages = []
        if self.is_crop:
            messages.append("One photo is the other again, resized or cut out of it.")
        if self.planar_ambiguity_rad is not None:
            messages.append(
                "All matches lie on a flat surface, which a second pose, "
                f"{math.degrees(self.planar_ambiguity_rad):.0f} degrees away, explains as well: "
                "this may be the wrong one of the two."
            )
        if self.second_pose_inliers:
            messages.append(
                f"A second pose explains {self.second_pose_inliers} further matches: texture that "
                "repeats, or something that moved, may have misled the one that is given."
            )
        return tuple(messages)


def resolve_planar_ambiguity(
    pair: TwoView, pose: RelativePose, seed: int = 0, is_selected: bool = False
) -> tuple[RelativePose, Degeneracy]:
    """Return whichever pose of a plane has more inliers, and reasons to doubt it.

    A pose that `is_selected`, by more than its inliers, is kept.
    """
    other = second_planar_pose(pair, pose)
    if not is_selected and other is not None and len(other) > len(pose):
        pose, other = replace(other, alternatives=(pose.first2second, *pose.alternatives)), pose
    degeneracy = detect_degeneracy(pair, pose, seed)
    if other is None or len(other) < SAME_SUPPORT * len(pose):
        return pose, degeneracy
    angle_rad = pose_angle(pose.first2second, other.first2second)
    return pose, replace(degeneracy, planar_ambiguity_rad=angle_rad)


def detect_degeneracy(pair: TwoView, pose: RelativePose, seed: int = 0) -> Degeneracy:
    """Detect all but planar ambiguity, which a third photo resolves."""
    crop = is_crop(pair.with_matches(pose.inliers))
    return Degeneracy(crop, None, count_second_pose_inliers(pair, pose, seed))


def is_crop(inliers: TwoView) -> bool:
    """Test if one image is the other, scaled or cropped: no rotation, no perspective.

    Fits scale and shift to the matches by iterated least trimmed squares.
    """
    first, second = (points.float() for points in inliers.points_px)
    good = torch.ones(len(first), dtype=torch.bool)
    for _ in range(CROP_ITERATIONS):
        mean_first, mean_second = first[good].mean(0), second[good].mean(0)
        from_mean = first[good] - mean_first, second[good] - mean_second
        scale = (from_mean[0] * from_mean[1]).sum() / from_mean[0].square().sum().clamp(min=1e-9)
        errors_px = (second - mean_second - scale * (first - mean_first)).norm(dim=1)
        good = errors_px <= torch.maximum(
            errors_px.median(), errors_px.new_tensor(2 * MAX_EPIPOLAR_ERROR_PX)
        )
    if scale <= 0 or (errors_px <= 2 * MAX_EPIPOLAR_ERROR_PX).float().mean() < MIN_CROP_RATIO:
        return False
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    corners_first, corners_second = (
        corners * corners.new_tensor(camera.size[::-1]) for camera in inliers.cameras
    )
    second_in_first = ((corners_second - mean_second) / scale + mean_first) / corners_first[1]
    first_in_second = ((corners_first - mean_first) * scale + mean_second) / corners_second[1]
    return any(
        bool((frame > -0.02).all() and (frame < 1.02).all())
        for frame in (second_in_first, first_in_second)
    )


def second_planar_pose(pair: TwoView, pose: RelativePose) -> RelativePose | None:
    """Return the other pose with most inliers, if the inliers of `pose` lie on one plane.

    A homography decomposes into two poses, often with the plane in front of the cameras in both.
    RANSAC's samples from a plane may lead to either.
    """
    others = []
    for candidate in poses_from_homography(pair.with_matches(pose.inliers)):
        other = pair.find_inliers(pair.refine_pose(candidate, 2 * MAX_EPIPOLAR_ERROR_PX))
        angle = pose_angle(pose.first2second, other.first2second)
        if len(other) >= MIN_MATCHES and angle > SECOND_POSE_RAD:
            others.append(other)
    return max(others, key=len, default=None)


def count_second_pose_inliers(pair: TwoView, pose: RelativePose, seed: int = 0) -> int:
    """Count the matches that agree with a second pose, among those that are no inliers.

    Repeated texture has one; so have things that moved. Returns zero where they are few beside the
    inliers, or as few as agree by chance.
    """
    is_inlier = (pair.matches[:, None] == pose.inliers[None]).all(-1).any(1)
    enough = max(MIN_SECOND_POSE_INLIERS, SECOND_POSE_RATIO * len(pose))
    if int((~is_inlier).sum()) < enough:
        return 0
    rest = pair.with_matches(pair.matches[~is_inlier])
    other = rest.find_inliers(rest.ransac(seed)[0])
    if len(other) < enough:
        return 0
    angle = rotation_angle(pose.first2second[:3, :3], other.first2second[:3, :3])
    return len(other) if float(angle) > SECOND_POSE_RAD else 0


def poses_from_homography(inliers: TwoView) -> list[Float[Tensor, "4 4"]]:
    """Decompose the best homography of the matches into the poses with its plane in front."""
    first, second = (points.numpy() for points in inliers.points_px)
    options = {"max_reproj_error": 2 * MAX_EPIPOLAR_ERROR_PX, **HOMOGRAPHY_RANSAC}
    homography, report = poselib.estimate_homography(first, second, options, {})
    intrinsics_px = [matrix.numpy() for matrix in inliers.intrinsics_px]
    calibrated = np.linalg.inv(intrinsics_px[1]) @ homography @ intrinsics_px[0]
    rays = np.column_stack([first, np.ones(len(first))])
    rays = rays[np.array(report["inliers"], bool)] @ np.linalg.inv(intrinsics_px[0]).T
    if len(rays) == 0 or not np.isfinite(calibrated).all():
        return []
    _, *decompositions = cv2.decomposeHomographyMat(calibrated, np.eye(3))
    poses = []
    for rotation, translation, normal in zip(*decompositions, strict=True):
        length = np.linalg.norm(translation)
        if length > 1e-6 and (rays @ normal > 0).mean() > MIN_IN_FRONT_RATIO:
            pose = torch.eye(4)
            pose[:3, :3] = torch.from_numpy(rotation)
            pose[:3, 3] = torch.from_numpy(translation[:, 0] / length)
            poses.append(pose)
    return poses
