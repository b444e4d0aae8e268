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
      | plane sweep, semi-global matching, stereo network
      v
    depth        list[DepthMap]
      |
      | total generalized variation, exposure compensation
      v
    surfaces     list[DepthMap]
      |
      | one Gaussian per pixel; disocclusions and borders are extrapolated
      v
    Gaussians    Reconstruction
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from models.confidence import (
    TRUSTED_CONFIDENCE,
    best_pair,
    combine,
    degeneracy_messages,
    least_confidence,
    low_confidence_message,
    match_quality,
)
from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.geometry.gaussians import join
from models.geometry.rigid import transform_points
from models.geometry.views import View
from models.options import POSES, SCENE, Options, PoseMethod
from models.reconstruction import Networks, Reconstruction, align_prediction, predict
from models.scene.disocclusion import extrapolate
from models.scene.exposure import compensate_exposure
from models.scene.fusion import fuse
from models.sfm.registration import MIN_PARALLAX_RAD, Registration, register
from models.sfm.tracks import depth_bounds, spread_depth
from models.stereo.depth import estimate_depths
from models.stereo.network import StereoNetwork
from models.stereo.tgv import regularize

MIN_CONFIDENCE_TO_ALIGN = 0.05  # in the network's poses: others are too far off to be aligned


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
    prediction, registration = _find_poses(views, networks, options, on_stage)
    if registration is None or networks.stereo is None:
        return prediction
    on_stage("measuring depth")
    return refine_depth(views, prediction, registration, networks.stereo, options)


@torch.no_grad()
def estimate_poses(
    views: list[View],
    networks: Networks,
    options: Options = POSES,
    on_stage: Callable[[str], None] = _ignore,
) -> Reconstruction:
    """Estimate the poses that `reconstruct` would, with the network's scene; see there."""
    views = [view.to(networks.device) for view in views]
    prediction, registration = _find_poses(views, networks, options, on_stage)
    if registration is None:
        return prediction
    on_stage("measuring depth")
    return poses_only_result(views, prediction, registration, options)


def _find_poses(
    views: list[View], networks: Networks, options: Options, on_stage: Callable[[str], None]
) -> tuple[Reconstruction, Registration | None]:
    """Predict and register; the registration is None where the prediction is the result."""
    method = options.method
    if method in (PoseMethod.pnp, PoseMethod.photometric) or not networks.matchers:
        on_stage("predicting Gaussians")
        prediction = predict(views, networks)
        if method is PoseMethod.photometric:
            prediction = align_prediction(prediction, views, networks)
        return prediction, None
    on_stage("matching the photos")
    with ThreadPoolExecutor(1) as pool:  # matching leaves half of a small machine idle
        early = pool.submit(predict, views, networks)
        registration = register(views, networks.matchers, options.seed)
        prediction = early.result()
    if registration is not None and registration.focal is not None:
        cameras = registration.focal.applied_to(tuple(view.camera for view in views))
        views = [replace(view, camera=camera) for view, camera in zip(views, cameras, strict=True)]
        prediction = replace(predict(views, networks), focal=registration.focal)
    confidence = 0.0 if registration is None else least_confidence(registration)
    if method is PoseMethod.auto and confidence < TRUSTED_CONFIDENCE:
        if _confidence(prediction) > MIN_CONFIDENCE_TO_ALIGN:
            on_stage("aligning the network's poses")
            prediction = align_prediction(prediction, views, networks)
    if registration is not None and has_too_little_parallax(registration):
        return rotation_only_result(prediction, registration), None
    if method is PoseMethod.auto and _confidence(prediction) > max(confidence, TRUSTED_CONFIDENCE):
        return prediction, None
    if registration is None:
        problem = (
            "The photos have too little in common to find where they were taken: "
            "poses and shapes are the network's guess."
        )
        return replace(prediction, problems=(problem,)), None
    return prediction, registration


def _confidence(prediction: Reconstruction) -> float:
    """Return the least confidence in any of the network's poses."""
    return min(pair.confidence for pair in prediction.pairs)


def has_too_little_parallax(registration: Registration) -> bool:
    """Tell whether matches give rotations at most."""
    is_crop = registration.degeneracies[registration.seed_pair].is_crop
    return is_crop or registration.parallax < MIN_PARALLAX_RAD


def rotation_only_result(prediction: Reconstruction, registration: Registration) -> Reconstruction:
    """Return the network's shapes with the registered poses: rotations, and next to no baseline."""
    if registration.degeneracies[registration.seed_pair].is_crop:
        problem = "One photo is the other again, resized or cut out of it"
    else:
        parallax = math.degrees(registration.parallax)
        problem = f"The camera hardly moved between the photos ({parallax:.1f} degrees of parallax)"
    pairs = (
        replace(
            pair, method=PoseMethod.matches, inliers=len(found), inlier_ratio=found.inlier_ratio
        )
        if (found := registration.pairs.get((pair.first, pair.second)))
        else pair
        for pair in prediction.pairs
    )
    cameras, _ = scale_to_prediction(registration, prediction)
    return replace(
        prediction,
        cameras=cameras,
        pairs=tuple(replace(pair, confidence=0.0) for pair in pairs),
        problems=(f"{problem}: only rotations are known, and shapes are the network's guess.",),
    )


def scale_to_prediction(
    registration: Registration, prediction: Reconstruction
) -> tuple[tuple[Camera, ...], Float[Tensor, "point 3"]]:
    """Return registered cameras and points at the network's scale: matches alone have none."""
    scale = float(prediction.depths[0].median() / registration.points[:, 2].median())
    world2cam = registration.world2cam.clone()
    world2cam[:, :3, 3] *= scale
    cameras = tuple(
        replace(camera, world2cam=pose)
        for camera, pose in zip(prediction.cameras, world2cam, strict=True)
    )
    return cameras, registration.points * scale


def poses_only_result(
    views: list[View], prediction: Reconstruction, registration: Registration, options: Options
) -> Reconstruction:
    """Return the registered poses with the network's scene; depth is that of nearby matches."""
    cameras, points = scale_to_prediction(registration, prediction)
    depth_maps = []
    for view, observed in zip(
        _posed(views, cameras, options.resolution), registration.observations, strict=True
    ):
        visible = observed.isfinite().all(-1)
        z = transform_points(points[visible], view.camera.world2cam)[:, 2]
        depth = spread_depth(observed[visible], z, view.camera.size)
        depth_maps.append(DepthMap(view.image, depth, torch.ones_like(depth), view.camera))
    return _registered_result(prediction, registration, cameras, points, depth_maps)


def refine_depth(
    views: list[View],
    prediction: Reconstruction,
    registration: Registration,
    stereo: StereoNetwork,
    options: Options,
) -> Reconstruction:
    """Replace the network's geometry by what the photos show at their registered poses."""
    cameras, points = scale_to_prediction(registration, prediction)
    posed = _posed(views, cameras, options.resolution)
    near_far = [depth_bounds(points, camera) for camera in cameras]
    depth_maps = estimate_depths(posed, near_far, points, registration.observations, stereo)
    result = _registered_result(prediction, registration, cameras, points, depth_maps)
    surfaces = compensate_exposure(regularize(depth_maps, near_far, stereo.config.steps))
    return replace(
        result,
        gaussians=join([fuse(surfaces), extrapolate(surfaces)]),
        depths=tuple(surface.depth for surface in surfaces),
    )


def _posed(views: list[View], cameras: tuple[Camera, ...], resolution: int) -> list[View]:
    """Return the views with these cameras, resized to the resolution."""
    return [
        replace(view, camera=camera).resized(working_size(camera.size, resolution))
        for view, camera in zip(views, cameras, strict=True)
    ]


def _registered_result(
    prediction: Reconstruction,
    registration: Registration,
    cameras: tuple[Camera, ...],
    points: Float[Tensor, "point 3"],
    depth_maps: list[DepthMap],
) -> Reconstruction:
    """Return the registered poses, their quality and problems, with the network's scene."""
    predicted = {(pair.first, pair.second): pair for pair in prediction.pairs}
    pairs = tuple(
        combine(pair, cameras, predicted[ends], prediction.cameras)
        if (ends := (pair.first, pair.second)) in predicted
        else pair
        for pair in (
            match_quality(first, second, registration, depth_maps)
            for first, second in combinations(range(len(cameras)), 2)
        )
    )
    problems = degeneracy_messages(registration) + tuple(
        f"Photo {view + 1} {low_confidence_message(best.inliers, registration.runner_up)}"
        for view in range(1, len(cameras))
        if (best := best_pair(view, pairs)).confidence < TRUSTED_CONFIDENCE
    )
    return Reconstruction(
        gaussians=prediction.gaussians,
        cameras=cameras,
        depths=tuple(depth_map.depth for depth_map in depth_maps),
        points=points,
        observations=registration.observations,
        pairs=pairs,
        problems=problems,
        focal=registration.focal,
    )


def working_size(size: tuple[int, int], resolution: int) -> tuple[int, int]:
    """Scale (height, width) to this long side, in multiples of 16 pixels."""
    scale = resolution / max(size)
    height, width = (max(16, round(side * scale / 16) * 16) for side in size)
    return height, width
