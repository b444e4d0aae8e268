"""What two photos have in common: SIFT matches, and the relative pose that explains them."""

from dataclasses import dataclass

import cv2
import numpy as np
import poselib
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from models.camera import to_pixels

FEATURES = 16_000
CONTRAST = 0.004  # well below OpenCV's 0.04: indoor walls have little else
RATIO = 0.8  # Lowe's test: best descriptor distance over second best
EPIPOLAR_ERROR_PX = 1.5  # at a working size of about 1000 pixels
FEWEST = 8  # matches below which there is no pose; one of so few is reported as unsure
RANSAC = {"min_iterations": 1000, "max_iterations": 10_000, "success_prob": 0.9999}


@dataclass(frozen=True)
class Features:
    """Keypoints of one photo: where (coordinates, in [0, 1]), and their RootSIFT descriptors."""

    coordinates: Float[Tensor, "keypoint 2"]
    descriptors: Float[Tensor, "keypoint 128"]


@dataclass(frozen=True)
class RelativePose:
    """The motion that explains the matches of two photos; its translation has unit length."""

    first2second: Float[Tensor, "4 4"]
    inliers: Int[Tensor, "inlier 2"]  # keypoint numbers in the first and the second photo
    depth: Float[Tensor, " inlier"]  # z of the triangulated points in the first camera
    parallax: Float[Tensor, " inlier"]  # angle between the two rays, radians
    inlier_ratio: float

    def __len__(self) -> int:
        """How many matches agree with the motion."""
        return len(self.inliers)


def detect(image: Float[Tensor, "3 height width"]) -> Features:
    """Find SIFT keypoints; RootSIFT descriptors (Arandjelovic and Zisserman, CVPR 2012)."""
    height, width = image.shape[-2:]
    gray = (image.mean(0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    sift = cv2.SIFT.create(
        nfeatures=FEATURES, contrastThreshold=CONTRAST, enable_precise_upscale=True
    )
    keypoints, descriptors = sift.detectAndCompute(gray, None)
    if not keypoints:
        return Features(torch.zeros(0, 2), torch.zeros(0, 128))
    # OpenCV counts from the center of the first pixel, we from its corner.
    centers = torch.from_numpy(cv2.KeyPoint.convert(keypoints)) + 0.5
    rooted = functional.normalize(torch.from_numpy(descriptors), p=1, dim=1).sqrt()
    return Features(centers / torch.tensor([width, height]), rooted)


def match(first: Features, second: Features) -> Int[Tensor, "match 2"]:
    """Keypoint numbers of mutual nearest neighbors that pass the ratio test."""
    if len(first.coordinates) < 2 or len(second.coordinates) < 2:
        return torch.zeros(0, 2, dtype=torch.long)
    similarity = first.descriptors @ second.descriptors.T
    best, index = similarity.topk(2, dim=1)
    distance = (2 - 2 * best).clamp(min=0).sqrt()
    number = torch.arange(len(index))
    mutual = similarity.argmax(0)[index[:, 0]] == number
    good = mutual & (distance[:, 0] < RATIO * distance[:, 1])
    return torch.stack([number[good], index[good, 0]], dim=1)


def triangulate(
    first: Float[Tensor, "match 2"],
    second: Float[Tensor, "match 2"],
    first_intrinsics: Float[Tensor, "3 3"],
    second_intrinsics: Float[Tensor, "3 3"],
    first2second: Float[Tensor, "4 4"],
) -> tuple[Float[Tensor, " match"], Float[Tensor, " match"]]:
    """Depth (z in the first camera) where each pair of rays comes closest, and their angle.

    The depth is least squares in the second image; negative where the rays diverge.
    """

    def rays(points: Tensor, intrinsics: Tensor) -> Tensor:
        homogeneous = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
        return homogeneous @ torch.linalg.inv(intrinsics).T

    turned = rays(first, first_intrinsics) @ first2second[:3, :3].T
    other = rays(second, second_intrinsics)
    sine = torch.linalg.cross(other, turned)
    shift = torch.linalg.cross(other, first2second[:3, 3].expand_as(other))
    depth = -(sine * shift).sum(1) / (sine * sine).sum(1).clamp(min=1e-12)
    angle = torch.atan2(sine.norm(dim=1), (other * turned).sum(1))
    return depth, angle


def poselib_camera(intrinsics: Float[Tensor, "3 3"], size: tuple[int, int]) -> dict[str, object]:
    """A camera as PoseLib takes it, in pixels."""
    fx, _, cx, _, fy, cy, *_ = to_pixels(intrinsics, size).flatten().tolist()
    height, width = size
    return {"model": "PINHOLE", "width": width, "height": height, "params": [fx, fy, cx, cy]}


def in_pixels(coordinates: Float[Tensor, "point 2"], size: tuple[int, int]) -> np.ndarray:
    """Coordinates as PoseLib takes them."""
    return coordinates.double().numpy() * np.array([size[1], size[0]])


def to_matrix(pose: poselib.CameraPose) -> Float[Tensor, "4 4"]:
    """PoseLib's pose as a matrix."""
    matrix = torch.eye(4)
    matrix[:3, :3] = torch.from_numpy(np.array(pose.R)).float()
    matrix[:3, 3] = torch.from_numpy(np.array(pose.t)).float()
    return matrix


def relative_pose(
    first: Features,
    second: Features,
    matches: Int[Tensor, "match 2"],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    seed: int = 0,
) -> RelativePose | None:
    """Estimate the motion between two calibrated photos (PoseLib's five-point LO-RANSAC).

    Args:
        first: Keypoints of the first photo.
        second: Keypoints of the second.
        matches: What `match` says of them.
        intrinsics: Normalized, of both photos.
        sizes: (height, width) of both, in the pixels in which errors are measured.
        seed: Of the random samples.

    Returns:
        None where there are too few matches, or no motion explains enough of them.
    """
    if len(matches) < FEWEST:
        return None
    at_first = first.coordinates[matches[:, 0]]
    at_second = second.coordinates[matches[:, 1]]
    pose, info = poselib.estimate_relative_pose(
        in_pixels(at_first, sizes[0]),
        in_pixels(at_second, sizes[1]),
        poselib_camera(intrinsics[0], sizes[0]),
        poselib_camera(intrinsics[1], sizes[1]),
        {"max_epipolar_error": EPIPOLAR_ERROR_PX, "seed": seed, **RANSAC},
        {},
    )
    first2second = to_matrix(pose)
    first2second[:3, 3] = functional.normalize(first2second[:3, 3], dim=0)
    depth, parallax = triangulate(at_first, at_second, intrinsics[0], intrinsics[1], first2second)
    good: Bool[Tensor, " match"] = torch.tensor(info["inliers"], dtype=torch.bool) & (depth > 0)
    if int(good.sum()) < FEWEST:
        return None
    return RelativePose(
        first2second=first2second,
        inliers=matches[good],
        depth=depth[good],
        parallax=parallax[good],
        inlier_ratio=float(good.float().mean()),
    )


def absolute_pose(
    points: Float[Tensor, "point 3"],
    coordinates: Float[Tensor, "point 2"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
    seed: int = 0,
) -> tuple[Float[Tensor, "4 4"], Bool[Tensor, " point"]] | None:
    """The `world2cam` that sees these world points at these coordinates, and which points agree.

    Returns:
        None where there are too few points, or no pose explains enough of them.
    """
    if len(points) < FEWEST:
        return None
    pose, info = poselib.estimate_absolute_pose(
        in_pixels(coordinates, size),
        points.double().numpy(),
        poselib_camera(intrinsics, size),
        {"max_reproj_error": 2 * EPIPOLAR_ERROR_PX, "seed": seed, **RANSAC},
        {},
    )
    good = torch.tensor(info["inliers"], dtype=torch.bool)
    if int(good.sum()) < FEWEST:
        return None
    return to_matrix(pose), good
