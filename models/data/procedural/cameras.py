"""Random cameras: baselines, rotations and overlap between chosen bounds.

Poses are `cam2world` here, as they are sampled: a `Camera` would round them by inverting twice.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural.random import Rng
from models.data.procedural.scenes import Scenes
from models.data.procedural.shapes import FAR, RayPackets, distance_bound, intersect_shapes
from models.geometry.camera import Camera, camera_rays, project
from models.geometry.rigid import invert, look_at

_COARSE_SIZE = (9, 9)  # of depth maps that cameras are chosen by
_CANDIDATES = 6  # poses that each further view is chosen from
_MAX_ROTATION_RAD = math.radians(45)
_ROLL_RAD = math.radians(3)  # standard deviation
_UNKNOWN_DEPTH = 10.0  # median depth where there is only sky
_MIN_NEAREST = 0.1  # depth of the nearest thing, over the median
_MIN_OVERLAP = 0.3


def sample_intrinsics(
    rng: Rng, scenes: int, views: int, size: tuple[int, int]
) -> Float[Tensor, "scene view 3 3"]:
    """Sample fields of view of 40 to 90 degrees along the longer side; half differ by view."""
    height, width = size
    fov = rng.uniform(40, 90, scenes, views)
    fov = torch.where(rng.bernoulli(0.5, scenes, 1), fov, fov[:, :1]).deg2rad()
    focal_px = max(height, width) / 2 / (fov / 2).tan()
    intrinsics = rng.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]]).repeat(scenes, views, 1, 1)
    intrinsics[..., 0, 0] = focal_px / width
    intrinsics[..., 1, 1] = focal_px / height
    return intrinsics


def sample_cameras(
    rng: Rng, scenes: Scenes, intrinsics: Float[Tensor, "scene view 3 3"], difficulty: float
) -> tuple[Float[Tensor, "scene view 4 4"], Scenes]:
    """Return `cam2world` of every view, and the scenes without shapes too close to a camera."""
    count, views = intrinsics.shape[:2]
    first = _look_at(rng, scenes.eye, scenes.target)
    distance = (scenes.target - scenes.eye).norm(dim=-1)
    scenes = _remove_near(scenes, scenes.eye[:, None], 0.15 * distance)
    median = _median(_coarse_depth(scenes, first, intrinsics[:, 0]))
    scenes = _remove_near(scenes, scenes.eye[:, None], 0.25 * median)
    depth = _coarse_depth(scenes, first, intrinsics[:, 0])
    median = _median(depth)
    poses = [first]
    for view in range(1, views):
        candidates = _candidate_poses(rng, scenes, first, median, difficulty)
        wanted = rng.uniform(0.8 - 0.4 * difficulty, 0.95, count)
        pair = intrinsics[:, [0, view]]
        best = _score(scenes, first, candidates, pair, depth, wanted).argmax(1)
        poses.append(candidates[torch.arange(count, device=best.device), best])
    cam2world = torch.stack(poses, dim=1)
    return cam2world, _remove_near(scenes, cam2world[..., :3, 3], 0.15 * median)


def _coarse_depth(
    scenes: Scenes,
    cam2world: Float[Tensor, "scene *camera 4 4"],
    intrinsics: Float[Tensor, "scene 3 3"],
) -> Float[Tensor, "scene *camera height width"]:
    """Ray-trace coarse depth maps, with boxes for meshes, of several cameras of each scene."""
    cameras = cam2world[0, ..., 0, 0].numel()
    rays = camera_rays(intrinsics, _COARSE_SIZE).flatten(1, 2).repeat_interleave(cameras, dim=0)
    directions = cam2world[..., :3, :3].reshape(-1, 3, 3) @ rays.mT
    scene = torch.arange(len(intrinsics), device=rays.device).repeat_interleave(cameras)
    packets = RayPackets(scene, cam2world[..., :3, 3].reshape(-1, 3), directions)
    t = intersect_shapes(scenes.shapes, scenes.heights, packets).t
    return t.reshape(*cam2world.shape[:-2], *_COARSE_SIZE)


def _median(depth: Float[Tensor, "map height width"]) -> Float[Tensor, " map"]:
    """Return median depths without the sky."""
    hit = torch.where(depth < FAR, depth, torch.nan).flatten(1)
    return hit.nanmedian(dim=1).values.nan_to_num(_UNKNOWN_DEPTH)


def _remove_near(
    scenes: Scenes, eyes: Float[Tensor, "scene camera 3"], distance: Float[Tensor, " scene"]
) -> Scenes:
    """Remove shapes nearer to a camera than a distance, unless they are fixed."""
    shapes = scenes.shapes
    near = (distance_bound(shapes, eyes) < distance[:, None, None]).any(1)
    present = shapes.present & (shapes.fixed | ~near)
    return replace(scenes, shapes=replace(shapes, present=present))


def _look_at(
    rng: Rng, eye: Float[Tensor, "camera 3"], target: Float[Tensor, "camera 3"]
) -> Float[Tensor, "camera 4 4"]:
    """Return `cam2world` of cameras that look at targets, with a few degrees of roll."""
    down = torch.tensor([0.0, 1.0, 0.0], device=eye.device)
    cam2world = look_at(eye, target + 1e-4, down)
    roll = rng.normal(len(eye)) * _ROLL_RAD
    rotation = torch.eye(4, device=eye.device).repeat(len(eye), 1, 1)
    rotation[:, 0, 0] = rotation[:, 1, 1] = roll.cos()
    rotation[:, 0, 1], rotation[:, 1, 0] = -roll.sin(), roll.sin()
    return cam2world @ rotation


def _candidate_poses(
    rng: Rng,
    scenes: Scenes,
    first: Float[Tensor, "scene 4 4"],
    median: Float[Tensor, " scene"],
    difficulty: float | int,
) -> Float[Tensor, "scene candidate 4 4"]:
    """Sample other cameras that look at about the same things."""
    shape = (len(first), _CANDIDATES)
    baseline = rng.log_uniform(0.02, 0.1 + 0.5 * difficulty, *shape)
    spread = torch.tensor([1.0, 0.5, 0.7], device=first.device)
    step = torch.nn.functional.normalize(rng.normal(*shape, 3) * spread, dim=-1)
    step = step * (baseline * median[:, None])[..., None]
    eye = first[:, None, :3, 3] + step @ first[:, :3, :3].mT
    eye = eye.clamp(scenes.region[:, None, 0], scenes.region[:, None, 1])
    distance = median[:, None] * rng.log_uniform(0.7, 3, *shape)
    jitter = rng.normal(*shape, 3) * (median * (0.05 + 0.25 * difficulty))[:, None, None]
    target = first[:, None, :3, 3] + first[:, None, :3, 2] * distance[..., None] + jitter
    return _look_at(rng, eye.flatten(0, 1), target.flatten(0, 1)).unflatten(0, shape)


def _score(
    scenes: Scenes,
    first: Float[Tensor, "scene 4 4"],
    others: Float[Tensor, "scene candidate 4 4"],
    intrinsics: Float[Tensor, "scene 2 3 3"],
    depth: Float[Tensor, "scene height width"],
    wanted: Float[Tensor, " scene"],
) -> Float[Tensor, "scene candidate"]:
    """Score candidates: overlap as wanted, nothing too near, and rotation within bounds."""
    maps = _coarse_depth(scenes, others, intrinsics[:, 1])
    firsts, depths = first[:, None].expand_as(others), depth[:, None].expand_as(maps)
    one, other = (each[:, None].expand(*others.shape[:2], 3, 3) for each in intrinsics.unbind(1))
    overlap = torch.minimum(
        _overlap(scenes, (firsts, one), depths, (others, other)),
        _overlap(scenes, (others, other), maps, (firsts, one)),
    )
    nearest = maps.flatten(2).amin(2) / _median(maps.flatten(0, 1)).view_as(overlap)
    trace = (firsts[..., :3, :3] * others[..., :3, :3]).sum((-2, -1))
    rotation = (trace / 2 - 0.5).clamp(-1, 1).acos()
    bad = (nearest < _MIN_NEAREST).float() + (rotation > _MAX_ROTATION_RAD)
    bad = bad + 2.0 * (overlap < _MIN_OVERLAP)
    return -(overlap - wanted[:, None]).abs() - bad


def _overlap(
    scenes: Scenes,
    view: tuple[Float[Tensor, "scene candidate 4 4"], Float[Tensor, "scene candidate 3 3"]],
    depth: Float[Tensor, "scene candidate height width"],
    other: tuple[Float[Tensor, "scene candidate 4 4"], Float[Tensor, "scene candidate 3 3"]],
) -> Float[Tensor, "scene candidate"]:
    """Return the share of a view's points that another view sees, unoccluded.

    Views are `cam2world` and intrinsics.
    """
    cameras = Camera(view[1], invert(view[0]), (depth.shape[-2], depth.shape[-1]))
    points = cameras.unproject(depth).flatten(2, 3)
    cam2world, intrinsics = other
    coordinates, z = project(points, invert(cam2world), intrinsics)
    inside = (coordinates > 0).all(-1) & (coordinates < 1).all(-1) & (z > 0)
    eyes = cam2world[..., :3, 3]
    directions = (points - eyes[:, :, None]).mT.flatten(0, 1)
    scene = torch.arange(len(points), device=points.device).repeat_interleave(points.shape[1])
    packets = RayPackets(scene, eyes.flatten(0, 1), directions)
    t = intersect_shapes(scenes.shapes, scenes.heights, packets, limit=2.0).t
    hit = depth.flatten(2) < FAR
    visible = inside & (t.view_as(z) > 0.98) & hit
    return visible.float().sum(2) / hit.float().sum(2).clamp_min(1)
