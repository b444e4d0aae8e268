"""Photos in, a scene with its cameras out: the network's answer, refined by what the photos say."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from models.confidence import TRUSTED, back_up, best_support, match_evidence, weakest_link
from models.features.matcher import Matcher
from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.geometry.gaussians import join
from models.geometry.rigid import transform_points
from models.geometry.views import View, resize
from models.metrics.lpips import Lpips
from models.network.noposplat import NoPoSplat
from models.network.preprocessing import DEFAULT_PREPROCESSING, Preprocessing
from models.reconstruction import Reconstruction, predict
from models.scene.disocclusion import extrapolate
from models.scene.exposure import compensate_exposure
from models.scene.fusion import fuse
from models.sfm.contender import Contender
from models.sfm.registration import LEAST_PARALLAX, Registration, depth_range, register
from models.sfm.tracks import spread_depth
from models.stereo.depth import estimate_depths
from models.stereo.network import StereoNetwork
from models.stereo.tgv import regularize

PLAUSIBLE = 0.05  # confidence in the network's poses from which they are worth aligning

CLEAR = 0.1  # share of its inliers by which a pose is clearly ahead of any other


@dataclass(frozen=True)
class Refinement:
    """What turns the network's answer into what the photos say."""

    matchers: list[Matcher]  # asked in turn; see `correspond`
    stereo: StereoNetwork


@torch.no_grad()
def reconstruct(
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    network: NoPoSplat,
    refinement: Refinement | None,
    resolution: int = 512,
    seed: int = 0,
    unknown_focal: tuple[int, ...] = (),
    guessed: bool = False,
    align: bool = False,
    compete: bool = False,
    poses_only: bool = False,
    preprocessing: Preprocessing = DEFAULT_PREPROCESSING,
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
        guessed: Whether any focal length is only a guess.
        align: Whether the network's poses are aligned with the photos if there is no refinement.
        compete: Whether, where matches leave doubts, the network's poses are aligned with the
            photos too; those with more in their favor win.
        poses_only: Whether the scene does not matter: it is then the network's.
        preprocessing: What the network sees of the photos.
        lpips: The perceptual distance, where there is one, by which they are aligned too.
        on_stage: Called with a few words as each stage begins.
    """
    if refinement is None:
        on_stage("predicting Gaussians")
        return predict(images, intrinsics, network, preprocessing, align, lpips)
    on_stage("matching the photos")
    with ThreadPoolExecutor(1) as pool:  # matching leaves half of a small machine idle
        early = pool.submit(predict, images, intrinsics, network, preprocessing)
        registration = register(
            images, intrinsics, refinement.matchers, seed, unknown_focal, guessed
        )
        answer = early.result()
    focal = None if registration is None else registration.focal
    if focal is not None:
        intrinsics = focal.applied_to(intrinsics)
        answer = predict(images, intrinsics, network, preprocessing)
    sure = 0.0 if registration is None else weakest_link(registration)
    if compete and sure < TRUSTED and _confidence(answer) > PLAUSIBLE:
        on_stage("aligning the network's poses")
        answer = predict(images, intrinsics, network, preprocessing, True, lpips)
    answer = replace(answer, focal=focal)
    if registration is not None and hardly_moved(registration):
        return barely_moved(answer, registration)
    if compete and _confidence(answer) > max(sure, TRUSTED):
        return answer
    if registration is None:
        return replace(
            answer,
            problems=(
                "The photos have too little in common to find where they were taken: "
                "poses and shapes are the network's guess.",
            ),
        )
    on_stage("measuring depth")
    if poses_only:
        return locate(images, intrinsics, registration, answer, resolution)
    return measure(images, intrinsics, registration, answer, refinement.stereo, resolution)


def hardly_moved(registration: Registration) -> bool:
    """Whether matches tell rotations at most."""
    cut_out = registration.doubts[registration.base].cut_out
    return cut_out or registration.parallax < LEAST_PARALLAX


def _confidence(answer: Reconstruction) -> float:
    """How sure the network's poses are, the least of them."""
    return min(pair.confidence for pair in answer.pairs)


def barely_moved(answer: Reconstruction, registration: Registration) -> Reconstruction:
    """The network's shapes with the poses that matches tell: rotations, and next to no baseline."""
    if registration.doubts[registration.base].cut_out:
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


def locate(
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    registration: Registration,
    answer: Reconstruction,
    resolution: int,
) -> Reconstruction:
    """The registered poses with the network's scene; depth is that of the matches nearby."""
    world2cam, points = at_scale(registration, answer)
    resized = [resize(image, even_size(image, resolution)) for image in images]
    views = []
    for image, seen, matrix, pose in zip(
        resized, registration.sightings, intrinsics, world2cam, strict=True
    ):
        shown = seen.isfinite().all(-1)
        near = transform_points(points[shown], pose)[:, 2]
        depth = spread_depth(seen[shown], near, (image.shape[-2], image.shape[-1]))
        camera = Camera(matrix, pose, (image.shape[-2], image.shape[-1]))
        views.append(DepthMap(image, depth, torch.ones_like(depth), camera))
    return _with_evidence(answer, registration, views, points)


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
    views = [
        View(resize(image, size), Camera(matrix, pose, size))
        for image, matrix, pose in zip(images, intrinsics, world2cam, strict=True)
        for size in [even_size(image, resolution)]
    ]
    ranges = [depth_range(points, pose) for pose in world2cam]
    depth_maps = estimate_depths(views, ranges, points, registration.sightings, stereo)
    result = _with_evidence(answer, registration, depth_maps, points)
    depth_maps = compensate_exposure(regularize(depth_maps, ranges, stereo.config.steps))
    return replace(
        result,
        gaussians=join([fuse(depth_maps), extrapolate(depth_maps)]),
        depths=tuple(depth_map.depth for depth_map in depth_maps),
    )


def _with_evidence(
    answer: Reconstruction,
    registration: Registration,
    views: list[DepthMap],
    points: Float[Tensor, "point 3"],
) -> Reconstruction:
    """The views' poses, what supports and what speaks against them; the network's scene."""
    world2cam = torch.stack([view.camera.world2cam for view in views])
    backers = {(pair.first, pair.second): pair for pair in answer.pairs}
    pairs = tuple(
        back_up(pair, world2cam, backers[ends], answer.world2cam)
        if (ends := (pair.first, pair.second)) in backers
        else pair
        for pair in (
            match_evidence(first, second, registration, views)
            for first, second in combinations(range(len(views)), 2)
        )
    )
    problems = doubts_in_words(registration) + tuple(
        f"Photo {view + 1} {weak_point(support.inliers, registration.contender)}"
        for view in range(1, len(views))
        if (support := best_support(view, pairs)).confidence < TRUSTED
    )
    return Reconstruction(
        gaussians=answer.gaussians,
        world2cam=world2cam,
        depths=tuple(view.depth for view in views),
        points=points,
        sightings=registration.sightings,
        pairs=pairs,
        problems=problems,
        focal=registration.focal,
    )


def weak_point(inliers: int, other: Contender | None) -> str:
    """Why a view's pose is not to be trusted, in words that follow its name."""
    if other is None or other.margin > CLEAR * inliers:
        return f"is placed by only {inliers} matches: its pose may be wrong."
    degrees = math.degrees(other.angle)
    return (
        f"may be misplaced: a pose {degrees:.0f} degrees away explains the matches about as well."
    )


def doubts_in_words(registration: Registration) -> tuple[str, ...]:
    """What speaks against the poses; of three photos, which two it is about."""
    return tuple(
        f"Photos {first + 1} and {second + 1}: {sentence}"
        if len(registration.world2cam) > 2
        else sentence
        for (first, second), doubts in sorted(registration.doubts.items())
        for sentence in doubts.sentences
    )


def even_size(image: Float[Tensor, "3 height width"], resolution: int) -> tuple[int, int]:
    """(height, width) with this long side, multiples of 16."""
    scale = resolution / max(image.shape[-2:])
    height, width = (max(16, round(side * scale / 16) * 16) for side in image.shape[-2:])
    return height, width
