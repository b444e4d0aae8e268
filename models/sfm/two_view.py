"""Two-view geometry: `TwoView`, and the relative pose that RANSAC finds from its matches."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import poselib
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from models.features.matcher import NO_TENTATIVE_MATCHES, TentativeMatches
from models.geometry.camera import Camera
from models.geometry.epipolar import fundamental_matrix
from models.geometry.rigid import rotation_angle

MAX_EPIPOLAR_ERROR_PX = 1.0  # epipolar error of an inlier, at a working size of about 1000 pixels
ENOUGH_INLIERS = 200  # of a pose that is as good as it gets
MIN_MATCHES = 8  # below which there is no pose; one of so few is reported as unsure
SCORE_SCALES_PX = (0.5, 1.0, 2.0, 3.0)  # largest errors of inliers over which a score is a mean
RANSAC: dict[str, int | float] = {
    "min_iterations": 1000,
    "max_iterations": 10_000,
    "success_prob": 0.9999,
}


@dataclass(frozen=True)
class RelativePose:
    """The relative pose of two cameras, and the matches that agree with it."""

    first2second: Float[Tensor, "4 4"]  # with a translation of unit length
    inliers: Int[Tensor, "inlier 2"]  # keypoint numbers in the first and the second image
    depth: Float[Tensor, " inlier"]  # of the triangulated inliers: z in the first camera
    parallax: Float[Tensor, " inlier"]  # angle between the two rays, in radians
    inlier_ratio: float  # share of the matches
    alternatives: tuple[Float[Tensor, "4 4"], ...] = ()  # other poses that RANSAC found

    def __len__(self) -> int:
        """Return the number of inliers."""
        return len(self.inliers)


@dataclass(frozen=True)
class TwoView:
    """Two calibrated images with matched keypoints; errors are in pixels of the cameras' sizes."""

    cameras: tuple[Camera, Camera]  # whose poses are ignored
    keypoints: tuple[Float[Tensor, "_first 2"], Float[Tensor, "_second 2"]]  # in [0, 1]
    matches: Int[Tensor, "match 2"]  # keypoint numbers in the first and the second image
    tentative: TentativeMatches = NO_TENTATIVE_MATCHES

    def with_matches(self, matches: Int[Tensor, "some 2"]) -> "TwoView":
        """Return the same images with other matches."""
        return replace(self, matches=matches)

    @cached_property
    def points(self) -> tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]]:
        """Coordinates of the matches in [0, 1], in both images."""
        first, second = self.keypoints
        return first[self.matches[:, 0]], second[self.matches[:, 1]]

    @cached_property
    def points_px(self) -> tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]]:
        """Pixel coordinates of the matches in both images, in float64 as PoseLib takes them."""
        first, second = (
            points.double() * torch.tensor(camera.size[::-1])
            for points, camera in zip(self.points, self.cameras, strict=True)
        )
        return first, second

    @cached_property
    def intrinsics_px(self) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3 3"]]:
        """Calibration matrices in pixels, in float64."""
        first, second = self.cameras
        return first.intrinsics_px.double(), second.intrinsics_px.double()

    @cached_property
    def rays(self) -> tuple[Float[Tensor, "match 3"], Float[Tensor, "match 3"]]:
        """Rays (z = 1) of the matches in the axes of each camera."""
        (first, second), points = self.cameras, self.points
        return first.rays_at(points[0]), second.rays_at(points[1])

    def sampson_px(self, poses: Float[Tensor, "*pose 4 4"]) -> Float[Tensor, "*pose match"]:
        """Return the signed Sampson errors of all matches (Hartley and Zisserman, eq. 11.9).

        Infinite where a pose tells nothing about a match: it has no baseline, or both points lie
        on their epipoles.
        """
        return self._sampson_of(fundamental_matrix(poses.double(), *self.intrinsics_px))

    def _sampson_of(self, fundamental: Float[Tensor, "*pose 3 3"]) -> Float[Tensor, "*pose match"]:
        first, second = (functional.pad(points, (0, 1), value=1.0) for points in self.points_px)
        lines = second @ fundamental, first @ fundamental.mT
        gradient = torch.cat([line[..., :2] for line in lines], dim=-1)
        length = gradient.square().sum(-1).sqrt()
        return ((second * lines[1]).sum(-1) / length).where(length > 0, torch.inf)

    def triangulate(
        self, poses: Float[Tensor, "*pose 4 4"]
    ) -> tuple[Float[Tensor, "*pose match"], Float[Tensor, "*pose match"]]:
        """Return the matches' depth (z in the first camera) and parallax (angle of their rays).

        The depth is that of least squares in the second image; negative where the rays diverge.
        """
        rotated = self.rays[0] @ poses[..., :3, :3].mT
        other = self.rays[1].expand_as(rotated)
        normal = torch.linalg.cross(other, rotated)
        moment = torch.linalg.cross(other, poses[..., None, :3, 3].expand_as(other))
        depth = -(normal * moment).sum(-1) / (normal * normal).sum(-1).clamp(min=1e-12)
        parallax = torch.atan2(normal.norm(dim=-1), (other * rotated).sum(-1))
        return depth, parallax

    def scores(self, poses: Float[Tensor, "*pose 4 4"]) -> Float[Tensor, "*pose match"]:
        """Score every match in [0, 1] by `robust_score`; zero where it is behind the camera."""
        depth, _ = self.triangulate(poses)
        return robust_score(self.sampson_px(poses)) * (depth > 0)

    def find_inliers(self, first2second: Float[Tensor, "4 4"]) -> RelativePose:
        """Return the pose with the matches near their epipolar lines, in front of the camera."""
        errors_px = self.sampson_px(first2second).abs()
        depth, parallax = self.triangulate(first2second)
        inlier: Bool[Tensor, " match"] = (errors_px < MAX_EPIPOLAR_ERROR_PX) & (depth > 0)
        return RelativePose(
            first2second=first2second,
            inliers=self.matches[inlier],
            depth=depth[inlier],
            parallax=parallax[inlier],
            inlier_ratio=float(inlier.float().mean()),
        )

    def ransac(
        self,
        seed: int,
        max_error_px: float = MAX_EPIPOLAR_ERROR_PX,
        options: dict[str, int | float] = RANSAC,
    ) -> tuple[Float[Tensor, "4 4"], float]:
        """Estimate the relative pose by PoseLib's five-point LO-RANSAC; return its MSAC cost too.

        `options` are the iterations and the confidence.
        """
        pose, report = poselib.estimate_relative_pose(
            *(points.numpy() for points in self.points_px),
            *(poselib_camera(camera) for camera in self.cameras),
            {"max_epipolar_error": max_error_px, "seed": seed, **options},
            {},
        )
        return _to_relative_pose(pose), report["model_score"]

    def free_sampson_px(self, seed: int = 0) -> Float[Tensor, " match"]:
        """Return the Sampson errors under the best fundamental matrix, which needs no cameras."""
        options = {"max_epipolar_error": MAX_EPIPOLAR_ERROR_PX, "seed": seed, **RANSAC}
        first, second = (points.numpy() for points in self.points_px)
        fundamental, _ = poselib.estimate_fundamental(first, second, options, {})
        return self._sampson_of(torch.from_numpy(fundamental))

    def refine_pose(
        self, first2second: Float[Tensor, "4 4"], max_error_px: float = MAX_EPIPOLAR_ERROR_PX
    ) -> Float[Tensor, "4 4"]:
        """Refine a pose on the matches whose error is smaller (PoseLib's truncated loss)."""
        start = poselib.CameraPose()
        start.R = first2second[:3, :3].double().numpy()
        start.t = first2second[:3, 3].double().numpy()
        refined, _ = poselib.refine_relative_pose(
            *(points.numpy() for points in self.points_px),
            start,
            *(poselib_camera(camera) for camera in self.cameras),
            {"loss_type": "TRUNCATED", "loss_scale": max_error_px},
        )
        return _to_relative_pose(refined)


def robust_score(errors_px: Float[Tensor, "*match"]) -> Float[Tensor, "*match"]:
    """Score errors in [0, 1], whatever the noise: the mean of MSAC's scores over several scales.

    Marginalizes over the noise scale as MAGSAC does (Barath et al., CVPR 2019).
    """
    squares = errors_px.square()
    costs = [(squares / scale**2).clamp(max=1) for scale in SCORE_SCALES_PX]
    return 1 - torch.stack(costs).mean(0)


def estimate_relative_pose(pair: TwoView, seed: int = 0) -> RelativePose | None:
    """Estimate the relative pose of two calibrated images by LO-RANSAC.

    Where few matches agree, RANSAC runs with half and twice the inlier threshold too, and the pose
    of the highest `robust_score` wins. Returns None where there are fewer than `MIN_MATCHES`
    matches or inliers.
    """
    if len(pair.matches) < MIN_MATCHES:
        return None
    poses = [pair.find_inliers(pair.ransac(seed)[0])]
    if len(poses[0]) < ENOUGH_INLIERS:
        poses += [
            pair.find_inliers(pair.ransac(seed, scale * MAX_EPIPOLAR_ERROR_PX)[0])
            for scale in (0.5, 2.0)
        ]
    best = max(
        poses, key=lambda pose: float(robust_score(pair.sampson_px(pose.first2second)).sum())
    )
    alternatives = tuple(pose.first2second for pose in poses if pose is not best)
    return replace(best, alternatives=alternatives) if len(best) >= MIN_MATCHES else None


def estimate_absolute_pose(
    points: Float[Tensor, "point 3"],
    coordinates: Float[Tensor, "point 2"],
    camera: Camera,
    seed: int = 0,
) -> tuple[Float[Tensor, "4 4"], Bool[Tensor, " point"]] | None:
    """Estimate the `world2cam` of a camera, whose pose is ignored, by PoseLib's P3P LO-RANSAC.

    Returns the pose and which points, seen at `coordinates` in [0, 1], are its inliers; None where
    these are fewer than `MIN_MATCHES`.
    """
    if len(points) < MIN_MATCHES:
        return None
    pose, report = poselib.estimate_absolute_pose(
        (coordinates.double() * torch.tensor(camera.size[::-1])).numpy(),
        points.double().numpy(),
        poselib_camera(camera),
        {"max_reproj_error": 2 * MAX_EPIPOLAR_ERROR_PX, "seed": seed, **RANSAC},
        {},
    )
    inlier = torch.tensor(report["inliers"], dtype=torch.bool)
    return (_to_matrix(pose), inlier) if int(inlier.sum()) >= MIN_MATCHES else None


def pose_angle(one: Float[Tensor, "4 4"], other: Float[Tensor, "4 4"]) -> float:
    """Return the larger of the angles between rotations and between translations, in radians."""
    directions = one[:3, 3], other[:3, 3]
    translation = torch.linalg.cross(*directions).norm().atan2(directions[0] @ directions[1])
    return max(float(rotation_angle(one[:3, :3], other[:3, :3])), float(translation))


def poselib_camera(camera: Camera) -> dict[str, object]:
    """Return a camera's intrinsics as PoseLib takes them, in pixels."""
    fx, _, cx, _, fy, cy, *_ = camera.intrinsics_px.flatten().tolist()
    height, width = camera.size
    return {"model": "PINHOLE", "width": width, "height": height, "params": [fx, fy, cx, cy]}


def _to_relative_pose(pose: poselib.CameraPose) -> Float[Tensor, "4 4"]:
    """Convert PoseLib's pose to a matrix whose translation has unit length."""
    matrix = _to_matrix(pose)
    matrix[:3, 3] = functional.normalize(matrix[:3, 3], dim=0)
    return matrix


def _to_matrix(pose: poselib.CameraPose) -> Float[Tensor, "4 4"]:
    matrix = torch.eye(4)
    matrix[:3] = torch.from_numpy(np.array(pose.Rt)).float()
    return matrix
