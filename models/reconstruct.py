"""The pipeline from two or three photos to camera poses and a scene of 3D Gaussians.

Begin with `reconstruct`, or with `estimate_poses` where the scene does not matter:

    photos       list[View]: poses unknown
      |
      +--------- noposplat -----------------> prediction    Reconstruction: Gaussians, poses by PnP
      |                                           |
      | SIFT, ALIKED + LightGlue                  |
      v                                           |
    matches      Correspondences                  |
      |                                           |
      | two-view geometry, bundle adjustment      |
      v                                           |
    poses        Registration: no scale           |
      |                                           |
      +<-------- scale of its depth --------------+-------> the result where matches do not tell
      v                                                     the poses, or its own, aligned with the
    posed        list[View]                                 photos, are more certain
      |
      | plane sweep, semi-global matching (again, with features of DINOv2, where unsure),
      | stereo network
      v
    depth        list[DepthMap]
      |
      | total generalized variation, exposure compensation, visibility
      v
    surfaces     list[DepthMap]
      |
      | one Gaussian per pixel; disocclusions and borders are extrapolated
      v
    Gaussians    Reconstruction
"""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations

import torch

from models.confidence import (
    TRUSTED_CONFIDENCE,
    combine,
    least_confidence,
    match_quality,
    registration_problems,
)
from models.geometry.camera import with_poses
from models.geometry.depth_map import DepthMap
from models.geometry.gaussians import join
from models.geometry.views import View
from models.options import POSES, SCENE, Options, PoseMethod
from models.reconstruction import (
    Networks,
    Reconstruction,
    align_prediction,
    predict,
    without_masked,
)
from models.scene.disocclusion import extrapolate
from models.scene.exposure import compensate_exposure
from models.scene.fusion import fuse
from models.scene.polish import polish
from models.scene.visibility import push_back_contradicted
from models.sfm.registration import MIN_PARALLAX_RAD, Registration, register
from models.sfm.tracks import depth_bounds, spread_depth
from models.stereo.depth import estimate_depths
from models.stereo.tgv import regularize

MIN_PARAMETERS_FOR_ALL_THREADS = 100_000_000  # of a network that predicts before, not meanwhile
MIN_CONFIDENCE_TO_ALIGN = 0.05  # in the network's poses: others are too far off to be aligned
NOTHING_IN_COMMON = (
    "The photos have too little in common to find where they were taken: "
    "poses and shapes are the network's guess."
)


def _ignore(stage: str) -> None:
    """Report no progress."""


@torch.no_grad()
def reconstruct(
    views: list[View],
    networks: Networks,
    options: Options = SCENE,
    on_stage: Callable[[str], None] = _ignore,
) -> Reconstruction:
    """Reconstruct a scene, and the photos' cameras, from two or three photos.

    Args:
        views: Upright photos, each of its own size and camera; a long side of 1024 is enough.
        networks: See `Networks`.
        options: See `Options`.
        on_stage: Called with a few words as each stage begins.
    """
    views = [view.to(networks.device) for view in views]
    prediction, registration = _predict_and_register(views, networks, options, on_stage)
    if registration is None or networks.stereo is None:
        return without_masked(prediction, views, networks)
    on_stage("measuring depth")
    points, observations = registration.points, registration.observations
    near_far = [depth_bounds(points, camera) for camera in registration.cameras]
    posed = _posed(views, registration, options.resolution)
    depth_maps = estimate_depths(
        posed, near_far, points, observations, networks.stereo, networks.encoder
    )
    surfaces = compensate_exposure(regularize(depth_maps, near_far, networks.stereo.config.steps))
    surfaces = [
        replace(surface, mask=view.mask) for surface, view in zip(surfaces, posed, strict=True)
    ]
    surfaces = push_back_contradicted(surfaces)
    gaussians = join([fuse(surfaces), extrapolate(surfaces)])
    if options.polish:
        on_stage("polishing the scene")
        gaussians = polish(gaussians, surfaces)
    return replace(
        _registered(prediction, registration, depth_maps),
        gaussians=gaussians,
        depths=tuple(surface.depth for surface in surfaces),
    )


@torch.no_grad()
def estimate_poses(
    views: list[View],
    networks: Networks,
    options: Options = POSES,
    on_stage: Callable[[str], None] = _ignore,
) -> Reconstruction:
    """Estimate the poses that `reconstruct` would; the scene is the network's prediction.

    Depth is interpolated from the nearest matched points.
    """
    views = [view.to(networks.device) for view in views]
    prediction, registration = _predict_and_register(views, networks, options, on_stage)
    if registration is None:
        return prediction
    on_stage("measuring depth")
    depth_maps = []
    posed = _posed(views, registration, options.resolution)
    for view, observed in zip(posed, registration.observations, strict=True):
        visible = observed.isfinite().all(-1)
        _, z = view.camera.project(registration.points[visible])
        depth = spread_depth(observed[visible], z, view.camera.size)
        depth_maps.append(DepthMap(view.image, depth, torch.ones_like(depth), view.camera))
    return _registered(prediction, registration, depth_maps)


def _predict_and_register(
    views: list[View], networks: Networks, options: Options, on_stage: Callable[[str], None]
) -> tuple[Reconstruction, Registration | None]:
    """Return the prediction, and the poses from matches at its scale.

    The registration is None where the prediction, or it with registered poses, is the result.
    """
    method = options.method
    if method in (PoseMethod.pnp, PoseMethod.photometric) or not networks.matchers:
        on_stage("predicting Gaussians")
        prediction = predict(views, networks)
        if method is PoseMethod.photometric:
            prediction = align_prediction(prediction, views, networks)
        return prediction, None
    on_stage("matching the photos")
    prediction, registration = _predict_while_matching(views, networks, options.seed)
    confidence = 0.0
    if registration is not None:
        confidence = least_confidence(registration)
        if registration.focal is not None:
            cameras = registration.focal.applied_to(tuple(view.camera for view in views))
            views = [replace(view, camera=each) for view, each in zip(views, cameras, strict=True)]
            prediction = replace(predict(views, networks), focal=registration.focal)
        registration = _at_scale_of(prediction, registration)
    if method is PoseMethod.auto and confidence < TRUSTED_CONFIDENCE:
        if prediction.confidence > MIN_CONFIDENCE_TO_ALIGN:
            on_stage("aligning the network's poses")
            prediction = align_prediction(prediction, views, networks)
    if registration is not None and (problem := _lack_of_parallax(registration)):
        return _with_rotations(prediction, registration, problem), None
    if method is PoseMethod.auto and prediction.confidence > max(confidence, TRUSTED_CONFIDENCE):
        return prediction, None
    if registration is None:
        return replace(prediction, problems=(NOTHING_IN_COMMON,)), None
    return prediction, registration


def _predict_while_matching(
    views: list[View], networks: Networks, seed: int
) -> tuple[Reconstruction, Registration | None]:
    """Return the prediction and the registration, the same on every number of threads.

    Two networks compute at once, one thread each: a sum that several threads share is rounded
    otherwise, ALIKED then finds other keypoints, and few matches may so end in another pose. A
    large network goes first, with all threads: rounding hardly moves what it predicts.
    """
    parameters = sum(parameter.numel() for parameter in networks.noposplat.parameters())
    large = parameters > MIN_PARAMETERS_FOR_ALL_THREADS
    prediction = predict(views, networks) if large else None
    with _one_thread(), ThreadPoolExecutor(1) as pool:
        early = pool.submit(lambda: prediction or predict(views, networks))
        registration = register(views, networks.matchers, seed)
        return early.result(), registration


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _at_scale_of(prediction: Reconstruction, registration: Registration) -> Registration:
    """Return cameras and points at the network's scale: matches alone have none."""
    scale = float(prediction.depths[0].median() / registration.points[:, 2].median())
    world2cam = registration.world2cam.clone()
    world2cam[:, :3, 3] *= scale
    cameras = with_poses(prediction.cameras, world2cam)
    return replace(registration, cameras=cameras, points=registration.points * scale)


def _lack_of_parallax(registration: Registration) -> str | None:
    """Explain why matches give rotations at most; return None where they give more."""
    if registration.degeneracies[registration.seed_pair].is_crop:
        return "One photo is the other again, resized or cut out of it"
    if registration.parallax < MIN_PARALLAX_RAD:
        parallax_deg = math.degrees(registration.parallax)
        return (
            f"The camera hardly moved between the photos ({parallax_deg:.1f} degrees of parallax)"
        )
    return None


def _with_rotations(
    prediction: Reconstruction, registration: Registration, problem: str
) -> Reconstruction:
    """Return the network's shapes with the registered poses: rotations, and next to no baseline."""
    pairs = []
    for pair in prediction.pairs:
        if found := registration.pairs.get((pair.first, pair.second)):
            inliers, ratio = len(found), found.inlier_ratio
            pair = replace(pair, method=PoseMethod.matches, inliers=inliers, inlier_ratio=ratio)
        pairs.append(replace(pair, confidence=0.0))
    return replace(
        prediction,
        cameras=registration.cameras,
        pairs=tuple(pairs),
        problems=(f"{problem}: only rotations are known, and shapes are the network's guess.",),
    )


def _posed(views: list[View], registration: Registration, resolution: int) -> list[View]:
    """Return the views with registered cameras, resized to this long side in pixels."""
    posed = []
    for view, camera in zip(views, registration.cameras, strict=True):
        scale = resolution / max(camera.size)
        height, width = (max(16, round(side * scale / 16) * 16) for side in camera.size)
        posed.append(replace(view, camera=camera).resized((height, width)))
    return posed


def _registered(
    prediction: Reconstruction, registration: Registration, depth_maps: list[DepthMap]
) -> Reconstruction:
    """Return the network's scene with registered poses, their quality and problems."""
    predicted = {(pair.first, pair.second): pair for pair in prediction.pairs}
    pairs = []
    for ends in combinations(range(len(depth_maps)), 2):
        pair = match_quality(*ends, registration, depth_maps)
        if ends in predicted:
            pair = combine(pair, registration.cameras, predicted[ends], prediction.cameras)
        pairs.append(pair)
    return replace(
        prediction,
        cameras=registration.cameras,
        depths=tuple(depth_map.depth for depth_map in depth_maps),
        points=registration.points,
        observations=registration.observations,
        pairs=tuple(pairs),
        problems=registration_problems(registration, pairs),
        focal=registration.focal,
    )
