"""Photos in, a scene with its cameras out: the network's answer, refined by what the photos say."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import transform_points
from models.evidence import (
    TRUSTED,
    PairEvidence,
    best_support,
    match_evidence,
    pnp_evidence,
)
from models.exposure import even_out
from models.fill import fill
from models.framing import ALL_OF_THEM, Framing
from models.fusion import PosedDepth, fuse
from models.gaussians import Gaussians, join
from models.lpips import Lpips
from models.matching.features import Matcher
from models.matching.focal import SharedFocal
from models.network.both_ways import reconstruct_in_every_order
from models.network.noposplat import NoPoSplat
from models.pose import PnpPose, align_pose, pose_from_centers
from models.refine import LEAST_PARALLAX, Registration, depth_range, register
from models.stereo.depth import estimate_depths
from models.stereo.network import StereoNetwork
from models.surface import settle
from models.views import resize


@dataclass(frozen=True)
class Refinement:
    """What turns the network's answer into what the photos say."""

    matchers: list[Matcher]  # asked in turn; see `correspond`
    stereo: StereoNetwork


@dataclass(frozen=True)
class Reconstruction:
    """A scene in the first view's frame, and where the photos were taken.

    `points` are what the photos are known to have in common, `sightings` where each shows them
    (coordinates, NaN where it does not); there are none when the network alone has answered.
    """

    gaussians: Gaussians
    world2cam: Float[Tensor, "view 4 4"]  # the first is the identity
    depths: tuple[Float[Tensor, "_height _width"], ...]  # z in each photo's own camera
    points: Float[Tensor, "point 3"]
    sightings: Float[Tensor, "view point 2"]
    pairs: tuple[PairEvidence, ...]
    problems: tuple[str, ...]  # sentences; any means that the result should not be trusted
    focal: SharedFocal | None = None  # the one that was estimated, if any was


@torch.no_grad()
def reconstruct(
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    network: NoPoSplat,
    refinement: Refinement | None,
    resolution: int = 512,
    seed: int = 0,
    unknown_focal: tuple[int, ...] = (),
    align: bool = False,
    framing: Framing = ALL_OF_THEM,
    lpips: Lpips | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Reconstruction:
    """Reconstruct a scene from two or three photos, each of its own size and camera.

    Args:
        images: Upright photos, RGB in [0, 1]; a long side of about 1024 is enough.
        intrinsics: Normalized, one per photo.
        network: Gives the first answer, and the scale.
        refinement: How to refine, or None for the network's answer alone.
        resolution: Long side of the refined depth maps: one Gaussian per pixel of these.
        seed: Of the random samples from which poses are estimated.
        unknown_focal: Numbers of photos of one camera, whose focal length is only a guess.
        align: Whether poses that only the network tells are then aligned with the photos.
        framing: What the network sees of the photos.
        lpips: The perceptual distance, where there is one, by which they are aligned too.
        on_stage: Called with a few words as each stage begins.
    """
    registration = None
    if refinement is not None:
        on_stage("matching the photos")
        registration = register(images, intrinsics, refinement.matchers, seed, unknown_focal)
    focal = None if registration is None else registration.focal
    if focal is not None:
        intrinsics = focal.applied_to(intrinsics)
    on_stage("predicting Gaussians")
    answer = replace(
        predict(images, intrinsics, network, framing, align and registration is None, lpips),
        focal=focal,
    )
    if refinement is None:
        return answer
    if registration is None:
        return replace(
            answer,
            problems=(
                "The photos have too little in common to find where they were taken: "
                "poses and shapes are the network's guess.",
            ),
        )
    if registration.parallax < LEAST_PARALLAX or registration.doubts.cut_out:
        return barely_moved(answer, registration)
    on_stage("measuring depth")
    return measure(images, intrinsics, registration, answer, refinement.stereo, resolution)


def barely_moved(answer: Reconstruction, registration: Registration) -> Reconstruction:
    """The network's shapes with the poses that matches tell: rotations, and next to no baseline."""
    if registration.doubts.cut_out:
        problem = "One photo is the other again, resized or cut out of it"
    else:
        parallax = math.degrees(registration.parallax)
        problem = f"The camera hardly moved between the photos ({parallax:.1f} degrees of parallax)"
    pairs = (
        replace(pair, method="matches", inliers=len(found), inlier_ratio=found.inlier_ratio)
        if (found := registration.pairs.get((pair.first, pair.second)))
        else pair
        for pair in answer.pairs
    )
    world2cam, _ = at_scale(registration, answer)
    return replace(
        answer,
        world2cam=world2cam,
        pairs=tuple(replace(pair, confidence=0.0) for pair in pairs),
        problems=(f"{problem}: only rotations are known, and shapes are the network's guess.",),
    )


def at_scale(
    registration: Registration, answer: Reconstruction
) -> tuple[Float[Tensor, "view 4 4"], Float[Tensor, "point 3"]]:
    """Registered poses and points at the network's scale: matches alone have none."""
    scale = float(answer.depths[0].median() / registration.points[:, 2].median())
    world2cam = registration.world2cam.clone()
    world2cam[:, :3, 3] *= scale
    return world2cam, registration.points * scale


def predict(
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    network: NoPoSplat,
    framing: Framing,
    align: bool = False,
    lpips: Lpips | None = None,
) -> Reconstruction:
    """The network's answer alone: its Gaussians, and poses by PnP on their centers.

    With `align`, the poses are then moved until the Gaussians look most like the photos.
    """
    views = framing.apply(images, intrinsics)
    height, width = views.size
    gaussians = (
        reconstruct_in_every_order(network, views)
        if framing.symmetric
        else network.reconstruct(views)
    )
    centers = gaussians.means.unflatten(0, (len(images), height, width))
    opacities = gaussians.opacities.unflatten(0, (len(images), height, width))
    identity = torch.eye(4, device=intrinsics.device)
    poses = [
        pose_from_centers(centers[view], opacities[view], views.intrinsics[0, view])
        for view in range(1, len(images))
    ]
    if align:
        poses = [
            pose
            and _aligned(pose, gaussians, views.intrinsics[0, view], views.images[0, view], lpips)
            for view, pose in enumerate(poses, start=1)
        ]
    world2cam = torch.stack(
        [identity, *(identity if pose is None else pose.world2cam for pose in poses)]
    )
    depths = tuple(
        transform_points(points.flatten(0, 1), pose)[:, 2].unflatten(0, (height, width))
        for points, pose in zip(centers, world2cam, strict=True)
    )
    views_with_depth = [
        PosedDepth(image, depth, torch.ones_like(depth), matrix, pose)
        for image, depth, matrix, pose in zip(
            views.images[0], depths, views.intrinsics[0], world2cam, strict=True
        )
    ]
    pairs = tuple(
        pnp_evidence(view, pose, views_with_depth) for view, pose in enumerate(poses, start=1)
    )
    if align:
        pairs = tuple(replace(pair, method="pnp+photometric") for pair in pairs)
    problems = tuple(
        f"The network's centers do not tell where photo {pair.second + 1} was taken."
        for pair in pairs
        if pair.confidence < TRUSTED
    )
    return Reconstruction(
        gaussians=gaussians,
        world2cam=world2cam,
        depths=depths,
        points=world2cam.new_zeros(0, 3),
        sightings=world2cam.new_zeros(len(images), 0, 2),
        pairs=pairs,
        problems=problems,
    )


@torch.enable_grad()
def _aligned(
    pose: PnpPose,
    gaussians: Gaussians,
    intrinsics: Float[Tensor, "3 3"],
    photo: Float[Tensor, "3 height width"],
    lpips: Lpips | None,
) -> PnpPose:
    world2cam = align_pose(gaussians, pose.world2cam, intrinsics, photo, lpips=lpips)
    return replace(pose, world2cam=world2cam)


def measure(
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    registration: Registration,
    answer: Reconstruction,
    stereo: StereoNetwork,
    resolution: int,
) -> Reconstruction:
    """Replace the network's geometry by what the photos show at their registered poses."""
    world2cam, points = at_scale(registration, answer)
    resized = [resize(image, even_size(image, resolution)) for image in images]
    ranges = [depth_range(points, pose) for pose in world2cam]
    estimates = estimate_depths(
        resized, intrinsics, world2cam, ranges, points, registration.sightings, stereo
    )
    views = [
        PosedDepth(image, found.depth, found.confidence, matrix, pose)
        for image, found, matrix, pose in zip(
            resized, estimates, intrinsics, world2cam, strict=True
        )
    ]
    pairs = tuple(
        match_evidence(first, second, registration, views)
        for first, second in combinations(range(len(images)), 2)
    )
    problems = registration.doubts.sentences + tuple(
        f"Photo {view + 1} is placed by only {support.inliers} matches: its pose may be wrong."
        for view in range(1, len(images))
        if (support := best_support(view, pairs)).confidence < TRUSTED
    )
    views = even_out(settle(views, ranges, stereo.config.steps))
    return Reconstruction(
        gaussians=join([fuse(views), fill(views)]),
        world2cam=world2cam,
        depths=tuple(view.depth for view in views),
        points=points,
        sightings=registration.sightings,
        pairs=pairs,
        problems=problems,
        focal=registration.focal,
    )


def even_size(image: Float[Tensor, "3 height width"], resolution: int) -> tuple[int, int]:
    """(height, width) with this long side, multiples of 16."""
    scale = resolution / max(image.shape[-2:])
    height, width = (max(16, round(side * scale / 16) * 16) for side in image.shape[-2:])
    return height, width
