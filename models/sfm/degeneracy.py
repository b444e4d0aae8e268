"""Where matches do not tell how two photos were taken, however many agree with one motion."""

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
import poselib
import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.camera import to_pixels
from models.geometry.rigid import rotation_angle
from models.sfm.two_view import (
    EPIPOLAR_ERROR_PX,
    FEWEST,
    MatchedPair,
    RelativePose,
    angle_between,
    explain,
    in_pixels,
    refine_motion,
    sample_motion,
)

NEARLY_ALL = 0.9  # share of the inliers that a mere cut-out explains
AS_WELL = 0.98  # of the inliers: so many agree with a second motion only if the scene is flat
SAME = math.radians(10)  # motions that differ less are one
RIVAL, FEWEST_OF_RIVAL = 0.4, 15  # of the inliers; fewer agree with a motion by chance


@dataclass(frozen=True)
class Doubts:
    """What speaks against the motion that most matches of two photos agree with."""

    cut_out: bool  # one photo is the other again, scaled or cut
    twin: float | None  # angle in radians to another motion that explains the inliers as well
    rival: int  # matches that agree with a second motion, if they are many

    @property
    def confidence(self) -> float:
        """The most that can be claimed: a flat scene's two motions are equally likely."""
        if self.cut_out:
            return 0.0
        return 0.3 if self.rival else 0.5 if self.twin is not None else 1.0

    @property
    def sentences(self) -> tuple[str, ...]:
        """The doubts in words."""
        said = []
        if self.cut_out:
            said.append("One photo is the other again, resized or cut out of it.")
        if self.twin is not None:
            said.append(
                "All matches lie on a flat surface, which a second pose, "
                f"{math.degrees(self.twin):.0f} degrees away, explains as well: "
                "this may be the wrong one of the two."
            )
        if self.rival:
            said.append(
                f"A second pose explains {self.rival} further matches: texture that repeats, or "
                "something that moved, may have misled the one that is given."
            )
        return tuple(said)


def settle(
    pair: MatchedPair, pose: RelativePose, seed: int = 0, is_chosen: bool = False
) -> tuple[RelativePose, Doubts]:
    """Look for what speaks against a pose that `relative_pose` found with this seed.

    Returns:
        The pose, or the other one that a flat scene admits where more matches agree with that,
        unless the choice between them `is_chosen` already; and the doubts about it.
    """
    twin = flat_twin(pair, pose)
    if not is_chosen and twin is not None and len(twin) > len(pose):
        pose, twin = replace(twin, others=(pose.first2second, *pose.others)), pose
    as_good = twin is not None and len(twin) >= AS_WELL * len(pose)
    angle = (
        angle_between(pose.first2second, twin.first2second)
        if twin is not None and as_good
        else None
    )
    return pose, replace(doubt(pair, pose, seed), twin=angle)


def doubt(pair: MatchedPair, pose: RelativePose, seed: int = 0) -> Doubts:
    """What speaks against a pose except a flat scene: a third photo has told its poses apart."""
    return Doubts(
        cut_out=is_cut_out(*pair.where(pose.inliers), pair.sizes),
        twin=None,
        rival=rival_support(pair, pose, seed),
    )


def is_cut_out(
    first: Float[Tensor, "inlier 2"],
    second: Float[Tensor, "inlier 2"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> bool:
    """Whether one photo is the other again, scaled or cut: no rotation, no perspective.

    Args:
        first: Coordinates of the inliers in the first photo, in [0, 1].
        second: In the second.
        sizes: (height, width) of both, in the pixels in which errors are measured.
    """
    in_first, in_second = (
        coordinates * coordinates.new_tensor([size[1], size[0]])
        for coordinates, size in zip((first, second), sizes, strict=True)
    )
    good = torch.ones(len(first), dtype=torch.bool)
    for _ in range(5):
        here, there = in_first[good].mean(0), in_second[good].mean(0)
        from_here, from_there = in_first[good] - here, in_second[good] - there
        scale = (from_here * from_there).sum() / from_here.square().sum().clamp(min=1e-9)
        errors = (in_second - there - scale * (in_first - here)).norm(dim=1)
        good = errors <= torch.maximum(errors.median(), errors.new_tensor(2 * EPIPOLAR_ERROR_PX))
    if scale <= 0 or (errors <= 2 * EPIPOLAR_ERROR_PX).float().mean() < NEARLY_ALL:
        return False
    corners = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    frame, other = (corners * corners.new_tensor([size[1], size[0]]) for size in sizes)
    of_second = ((other - there) / scale + here) / frame[1]
    of_first = ((frame - here) * scale + there) / other[1]
    return any(bool((ends > -0.02).all() and (ends < 1.02).all()) for ends in (of_second, of_first))


def flat_twin(pair: MatchedPair, pose: RelativePose) -> RelativePose | None:
    """The motion other than this one that explains most, if the inliers lie on one plane.

    A homography stands for two motions, and often the plane is in front of the cameras in both.
    Random samples from a plane may lead to either.
    """
    at, cameras = pair.where(pair.matches), (pair.intrinsics, pair.sizes)
    twins = []
    for motion in flat_motions(*pair.where(pose.inliers), *cameras):
        refined = refine_motion(at, *cameras, motion, 2 * EPIPOLAR_ERROR_PX)
        twin = explain(at, pair.matches, *cameras, refined)
        if len(twin) >= FEWEST and angle_between(pose.first2second, twin.first2second) > SAME:
            twins.append(twin)
    return max(twins, key=len, default=None)


def rival_support(pair: MatchedPair, pose: RelativePose, seed: int = 0) -> int:
    """How many of the matches left over agree with a second, different motion.

    Texture that repeats has one; so have things that moved.

    Returns:
        Zero where they are few beside the inliers, or as few as agree by chance.
    """
    taken = (pair.matches[:, None] == pose.inliers[None]).all(-1).any(1)
    enough = max(FEWEST_OF_RIVAL, RIVAL * len(pose))
    if int((~taken).sum()) < enough:
        return 0
    left, cameras = pair.matches[~taken], (pair.intrinsics, pair.sizes)
    motion = sample_motion(pair.where(left), *cameras, seed)
    other = explain(pair.where(left), left, *cameras, motion)
    if len(other) < enough:
        return 0
    rotations = pose.first2second[:3, :3], other.first2second[:3, :3]
    return len(other) if float(rotation_angle(*rotations)) > SAME else 0


def flat_motions(
    first: Float[Tensor, "inlier 2"],
    second: Float[Tensor, "inlier 2"],
    intrinsics: Float[Tensor, "2 3 3"],
    sizes: tuple[tuple[int, int], tuple[int, int]],
) -> list[Float[Tensor, "4 4"]]:
    """The motions that the best homography stands for, with its plane in front of the camera."""
    homography, info = poselib.estimate_homography(
        in_pixels(first, sizes[0]),
        in_pixels(second, sizes[1]),
        {"max_reproj_error": 2 * EPIPOLAR_ERROR_PX, "min_iterations": 100, "max_iterations": 1000},
        {},
    )
    cameras = [
        to_pixels(matrix, size).double().numpy()
        for matrix, size in zip(intrinsics, sizes, strict=True)
    ]
    calibrated = np.linalg.inv(cameras[1]) @ homography @ cameras[0]
    rays = np.column_stack([in_pixels(first, sizes[0]), np.ones(len(first))])
    rays = rays[np.array(info["inliers"], bool)] @ np.linalg.inv(cameras[0]).T
    if len(rays) == 0 or not np.isfinite(calibrated).all():
        return []
    _, rotations, translations, normals = cv2.decomposeHomographyMat(calibrated, np.eye(3))
    motions = []
    for rotation, translation, normal in zip(rotations, translations, normals, strict=True):
        length = np.linalg.norm(translation)
        if length > 1e-6 and (rays @ normal > 0).mean() > NEARLY_ALL:
            motion = torch.eye(4)
            motion[:3, :3] = torch.from_numpy(rotation)
            motion[:3, 3] = torch.from_numpy(translation[:, 0] / length)
            motions.append(motion)
    return motions
