"""The motion between photos that their matches tell."""

from dataclasses import dataclass, replace

import numpy as np
import poselib
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from models.features.matcher import NO_GUESSES, Guesses
from models.geometry.camera import to_pixels
from models.geometry.epipolar import fundamental_matrix
from models.geometry.rigid import rotation_angle

EPIPOLAR_ERROR_PX = 1.0  # at a working size of about 1000 pixels
ENOUGH = 200  # inliers of a pose that is as good as it gets
SCALES_PX = (0.5, 1.0, 2.0, 3.0)  # how large the errors of good matches may be
FEWEST = 8  # matches below which there is no pose; one of so few is reported as unsure
SHORT_RUNS = 16  # for each of the larger errors of good matches
SHORT: dict[str, int | float] = {"min_iterations": 100, "max_iterations": 100}
RANSAC: dict[str, int | float] = {
    "min_iterations": 1000,
    "max_iterations": 10_000,
    "success_prob": 0.9999,
}


@dataclass(frozen=True)
class RelativePose:
    """The motion that explains the matches of two photos; its translation has unit length."""

    first2second: Float[Tensor, "4 4"]
    inliers: Int[Tensor, "inlier 2"]  # keypoint numbers in the first and the second photo
    depth: Float[Tensor, " inlier"]  # z of the triangulated points in the first camera
    parallax: Float[Tensor, " inlier"]  # angle between the two rays, radians
    inlier_ratio: float
    others: tuple[Float[Tensor, "4 4"], ...] = ()  # motions that competed and lost

    def __len__(self) -> int:
        """How many matches agree with the motion."""
        return len(self.inliers)


@dataclass(frozen=True)
class MatchedPair:
    """Two photos as their matches see them."""

    first: Float[Tensor, "first_keypoint 2"]  # coordinates of keypoints, in [0, 1]
    second: Float[Tensor, "second_keypoint 2"]
    matches: Int[Tensor, "match 2"]  # keypoint numbers in the first and the second
    intrinsics: Float[Tensor, "2 3 3"]  # normalized
    sizes: tuple[tuple[int, int], tuple[int, int]]  # (height, width), in pixels of errors
    guesses: Guesses = NO_GUESSES  # what else may belong together

    def where(
        self, matches: Int[Tensor, "some 2"]
    ) -> tuple[Float[Tensor, "some 2"], Float[Tensor, "some 2"]]:
        """Where these matches are in both photos."""
        return self.first[matches[:, 0]], self.second[matches[:, 1]]


def triangulate(
    first: Float[Tensor, "match 2"],
    second: Float[Tensor, "match 2"],
    first_intrinsics: Float[Tensor, "3 3"],
    second_intrinsics: Float[Tensor, "3 3"],
    first2second: Float[Tensor, "*motion 4 4"],
) -> tuple[Float[Tensor, "*motion match"], Float[Tensor, "*motion match"]]:
    """Depth (z in the first camera) where each pair of rays comes closest, and their angle.

    The depth is least squares in the second image; negative where the rays diverge.
    """

    def rays(points: Tensor, intrinsics: Tensor) -> Tensor:
        homogeneous = torch.cat([points, torch.ones_like(points[:, :1])], dim=1)
        return homogeneous @ torch.linalg.inv(intrinsics).T

    turned = rays(first, first_intrinsics) @ first2second[..., :3, :3].mT
    other = rays(second, second_intrinsics).expand_as(turned)
    sine = torch.linalg.cross(other, turned)
    shift = torch.linalg.cross(other, first2second[..., None, :3, 3].expand_as(other))
    depth = -(sine * shift).sum(-1) / (sine * sine).sum(-1).clamp(min=1e-12)
    angle = torch.atan2(sine.norm(dim=-1), (other * turned).sum(-1))
    return depth, angle


def poselib_camera(intrinsics: Float[Tensor, "3 3"], size: tuple[int, int]) -> dict[str, object]:
    """A camera as PoseLib takes it, in pixels."""
    fx, _, cx, _, fy, cy, *_ = to_pixels(intrinsics, size).flatten().tolist()
    height, width = size
    return {"model": "PINHOLE", "width": width, "height": height, "params": [fx, fy, cx, cy]}


def in_pixels(coordinates: Float[Tensor, "point 2"], size: tuple[int, int]) -> np.ndarray:
    """Coordinates as PoseLib takes them."""
    return coordinates.double().numpy() * np.array([size[1], size[0]])


def to_motion(pose: poselib.CameraPose) -> Float[Tensor, "4 4"]:
    """PoseLib's pose as a matrix whose translation has unit length."""
    motion = to_matrix(pose)
    motion[:3, 3] = functional.normalize(motion[:3, 3], dim=0)
    return motion


def to_matrix(pose: poselib.CameraPose) -> Float[Tensor, "4 4"]:
    """PoseLib's pose as a matrix."""
    matrix = torch.eye(4)
    matrix[:3, :3] = torch.from_numpy(np.array(pose.R)).float()
    matrix[:3, 3] = torch.from_numpy(np.array(pose.t)).float()
    return matrix


def angle_between(one: Float[Tensor, "4 4"], other: Float[Tensor, "4 4"]) -> float:
    """The larger of the angles, in radians, between two rotations and between two directions."""
    directions = one[:3, 3], other[:3, 3]
    turn = torch.linalg.cross(*directions).norm().atan2(directions[0] @ directions[1])
    return max(float(rotation_angle(one[:3, :3], other[:3, :3])), float(turn))


def relative_pose(
    first: Float[Tensor, "first_keypoint 2"],
    second: Float[Tensor, "second_keypoint 2"],
    matches: Int[Tensor, "match 2"],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    seed: int = 0,
) -> RelativePose | None:
    """Estimate the motion between two calibrated photos (PoseLib's five-point LO-RANSAC).

    Where few matches agree, motions found with errors of half and twice the usual size compete. The
    winner fits best whatever the size of the errors is, as in MAGSAC (Barath et al., CVPR 2019).

    Args:
        first: Coordinates of the keypoints of the first photo, in [0, 1].
        second: Of the second.
        matches: Keypoint numbers in the first and the second.
        intrinsics: Normalized, of both photos.
        sizes: (height, width) of both, in the pixels in which errors are measured.
        seed: Of the random samples.

    Returns:
        None where there are too few matches, or no motion explains enough of them.
    """
    if len(matches) < FEWEST:
        return None
    at = first[matches[:, 0]], second[matches[:, 1]]
    found = [explain(at, matches, intrinsics, sizes, sample_motion(at, intrinsics, sizes, seed))]
    if len(found[0]) < ENOUGH:
        further = (sample_motion(at, intrinsics, sizes, seed, scale) for scale in (0.5, 2.0))
        found += [explain(at, matches, intrinsics, sizes, other) for other in further]

    def agreement(pose: RelativePose) -> float:
        return float(support(at, intrinsics, sizes, pose.first2second).sum())

    best = max(found, key=agreement) if len(found) > 1 else found[0]
    others = tuple(pose.first2second for pose in found if pose is not best)
    return replace(best, others=others) if len(best) >= FEWEST else None


def support(
    at: tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    first2second: Float[Tensor, "*motion 4 4"],
) -> Float[Tensor, "*motion match"]:
    """How well each match agrees with a motion, in [0, 1], whatever the size of errors is."""
    squares = epipolar_offsets(at, intrinsics, sizes, first2second).square()
    costs = [(squares / scale**2).clamp(max=1) for scale in SCALES_PX]
    return 1 - torch.stack(costs).mean(0)


def support_in_front(
    at: tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    first2second: Float[Tensor, "*motion 4 4"],
) -> Float[Tensor, "*motion match"]:
    """How well each match agrees with a motion; not at all if it is behind the camera then."""
    depth, _ = triangulate(*at, intrinsics[0], intrinsics[1], first2second)
    return support(at, intrinsics, sizes, first2second) * (depth > 0)


def refine_motion(
    at: tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    motion: Float[Tensor, "4 4"],
    largest_px: float = EPIPOLAR_ERROR_PX,
) -> Float[Tensor, "4 4"]:
    """The motion nearby that fits those matches best whose error is smaller than `largest_px`."""
    start = poselib.CameraPose()
    start.R, start.t = motion[:3, :3].double().numpy(), motion[:3, 3].double().numpy()
    refined, _ = poselib.refine_relative_pose(
        in_pixels(at[0], sizes[0]),
        in_pixels(at[1], sizes[1]),
        start,
        poselib_camera(intrinsics[0], sizes[0]),
        poselib_camera(intrinsics[1], sizes[1]),
        {"loss_type": "TRUNCATED", "loss_scale": largest_px},
    )
    return to_motion(refined)


def propose(pair: MatchedPair) -> list[Float[Tensor, "4 4"]]:
    """What short RANSAC runs find: of motions that explain matches as well, each sometimes."""
    at = pair.where(pair.matches)
    return [
        sample_motion(at, pair.intrinsics, pair.sizes, seed, scale, SHORT)
        for scale in SCALES_PX[1:]
        for seed in range(1, 1 + SHORT_RUNS)
    ]


def sample_motion(
    at: tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    seed: int,
    scale: float = 1.0,
    length: dict[str, int | float] = RANSAC,
) -> Float[Tensor, "4 4"]:
    """The motion that PoseLib's LO-RANSAC finds, with errors up to `scale` times the usual."""
    pose, _ = poselib.estimate_relative_pose(
        in_pixels(at[0], sizes[0]),
        in_pixels(at[1], sizes[1]),
        poselib_camera(intrinsics[0], sizes[0]),
        poselib_camera(intrinsics[1], sizes[1]),
        {"max_epipolar_error": scale * EPIPOLAR_ERROR_PX, "seed": seed, **length},
        {},
    )
    return to_motion(pose)


def epipolar_offsets(
    at: tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    first2second: Float[Tensor, "*motion 4 4"],
) -> Float[Tensor, "*motion match"]:
    """Sampson's distances in pixels, with a sign, of matches (their coordinates) to a motion."""
    rays = [
        torch.from_numpy(np.column_stack([in_pixels(coordinates, size), np.ones(len(coordinates))]))
        for coordinates, size in zip(at, sizes, strict=True)
    ]
    cameras = [to_pixels(*each).double() for each in zip(intrinsics, sizes, strict=True)]
    fundamental = fundamental_matrix(first2second.double(), *cameras)
    lines = rays[1] @ fundamental, rays[0] @ fundamental.mT
    slope = torch.cat([line[..., :2] for line in lines], dim=-1).square().sum(-1)
    return (rays[1] * lines[1]).sum(-1) / slope.sqrt()


def explain(
    at: tuple[Float[Tensor, "match 2"], Float[Tensor, "match 2"]],
    matches: Int[Tensor, "match 2"],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
    first2second: Float[Tensor, "4 4"],
) -> RelativePose:
    """A motion with the matches that agree: near their epipolar lines, before the first camera."""
    errors = epipolar_offsets(at, intrinsics, sizes, first2second).abs()
    depth, parallax = triangulate(*at, intrinsics[0], intrinsics[1], first2second)
    good: Bool[Tensor, " match"] = (errors < EPIPOLAR_ERROR_PX) & (depth > 0)
    return RelativePose(
        first2second, matches[good], depth[good], parallax[good], float(good.float().mean())
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
