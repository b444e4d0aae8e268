"""Where the photos are taken: baselines, rotations and overlap between chosen bounds."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural.random import Rng
from models.data.procedural.scenes import Scenes
from models.data.procedural.shapes import FAR, RayPackets, Shapes, distance_bound, intersect_shapes
from models.geometry.camera import camera_rays, project, unproject
from models.geometry.rigid import invert, look_at

_COARSE_SIZE = (9, 9)  # rays of a quick look around
_CANDIDATES = 6
_MAX_ROTATION_RAD = math.radians(45)


def sample_intrinsics(
    rng: Rng, scenes: int, views: int, size: tuple[int, int]
) -> Float[Tensor, "scene view 3 3"]:
    """Square pixels, 40 to 90 degrees along the longer side; different per view in 50 %."""
    height, width = size
    fov = rng.uniform(40, 90, scenes, views)
    fov = torch.where(rng.bernoulli(0.5, scenes, 1), fov, fov[:, :1]).deg2rad()
    focal_px = max(height, width) / 2 / (fov / 2).tan()
    intrinsics = torch.zeros(scenes, views, 3, 3, device=rng.device)
    intrinsics[..., 0, 0] = focal_px / width
    intrinsics[..., 1, 1] = focal_px / height
    intrinsics[..., :2, 2] = 0.5
    intrinsics[..., 2, 2] = 1
    return intrinsics


def sample_cameras(
    rng: Rng,
    scenes: Scenes,
    intrinsics: Float[Tensor, "scene view 3 3"],
    difficulty: float,
) -> tuple[Float[Tensor, "scene view 4 4"], Shapes]:
    """`cam2world` of every view, and the shapes without those that come too close to a camera."""
    count, views = intrinsics.shape[:2]
    first = _look_at(rng, scenes.eye, scenes.target)
    shapes = _remove_near(scenes.shapes, scenes.eye[:, None], 0.15 * _distance(scenes))
    depth = coarse_depth(shapes, scenes.heights, first, intrinsics[:, 0])
    median = _median(depth)
    shapes = _remove_near(shapes, scenes.eye[:, None], 0.25 * median)
    depth = coarse_depth(shapes, scenes.heights, first, intrinsics[:, 0])
    median = _median(depth)
    cameras = [first]
    for view in range(1, views):
        candidates = _candidate_poses(rng, scenes, first, median, difficulty)
        wanted = rng.uniform(0.8 - 0.4 * difficulty, 0.95, count)
        pair = intrinsics[:, [0, view]]
        best = _score(scenes, shapes, first, candidates, pair, depth, wanted).argmax(1)
        cameras.append(candidates[torch.arange(count, device=best.device), best])
    cam2world = torch.stack(cameras, dim=1)
    shapes = _remove_near(shapes, cam2world[..., :3, 3], 0.15 * median)
    return cam2world, shapes


def coarse_depth(
    shapes: Shapes,
    heights: Float[Tensor, "scene n n"],
    cam2world: Float[Tensor, "scene *camera 4 4"],
    intrinsics: Float[Tensor, "scene 3 3"],
) -> Float[Tensor, "scene *camera height width"]:
    """Coarse depth maps; each scene may have several cameras with the same intrinsics."""
    cameras = cam2world[0, ..., 0, 0].numel()
    rays = camera_rays(intrinsics, _COARSE_SIZE).flatten(1, 2).repeat_interleave(cameras, dim=0)
    directions = cam2world[..., :3, :3].reshape(-1, 3, 3) @ rays.mT
    scene = torch.arange(len(intrinsics), device=rays.device).repeat_interleave(cameras)
    packets = RayPackets(scene, cam2world[..., :3, 3].reshape(-1, 3), directions)
    t, _, _ = intersect_shapes(shapes, heights, packets)  # boxes stand for meshes
    return t.reshape(*cam2world.shape[:-2], *_COARSE_SIZE)


def _distance(scenes: Scenes) -> Tensor:
    return (scenes.target - scenes.eye).norm(dim=-1)


def _median(depth: Tensor) -> Tensor:
    """Of what is not sky."""
    hit = torch.where(depth < FAR, depth, torch.nan).flatten(1)
    return hit.nanmedian(dim=1).values.nan_to_num(10.0)


def _remove_near(shapes: Shapes, eyes: Tensor, nearest: Tensor) -> Shapes:
    """Without the loose shapes that are nearer than `nearest` to a camera."""
    near = (distance_bound(shapes, eyes) < nearest[:, None, None]).any(1)
    values = {**vars(shapes), "present": shapes.present & (shapes.fixed | ~near)}
    return Shapes(**values)


def _look_at(rng: Rng, eye: Tensor, target: Tensor) -> Tensor:
    """Look at the target, a few degrees of roll."""
    down = torch.tensor([0.0, 1.0, 0.0], device=eye.device)
    cam2world = look_at(eye, target + 1e-4, down)
    roll = rng.normal(len(eye)) * math.radians(3)
    turn = torch.zeros_like(cam2world)
    turn[:, 0, 0], turn[:, 0, 1] = roll.cos(), -roll.sin()
    turn[:, 1, 0], turn[:, 1, 1] = roll.sin(), roll.cos()
    turn[:, 2, 2] = turn[:, 3, 3] = 1
    return cam2world @ turn


def _candidate_poses(
    rng: Rng, scenes: Scenes, first: Tensor, median: Tensor, difficulty: float | int
) -> Float[Tensor, "scene candidate 4 4"]:
    """Other cameras that look at about the same things."""
    shape = (len(first), _CANDIDATES)
    share = rng.log_uniform(0.02, 0.1 + 0.5 * difficulty, *shape)
    spread = torch.tensor([1.0, 0.5, 0.7], device=first.device)
    step = torch.nn.functional.normalize(rng.normal(*shape, 3) * spread, dim=-1)
    step = step * (share * median[:, None])[..., None]
    eye = first[:, None, :3, 3] + step @ first[:, :3, :3].mT
    eye = eye.clamp(scenes.region[:, None, 0], scenes.region[:, None, 1])
    reach = median[:, None] * rng.log_uniform(0.7, 3, *shape)
    jitter = rng.normal(*shape, 3) * (median * (0.05 + 0.25 * difficulty))[:, None, None]
    target = first[:, None, :3, 3] + first[:, None, :3, 2] * reach[..., None] + jitter
    return _look_at(rng, eye.flatten(0, 1), target.flatten(0, 1)).unflatten(0, shape)


def _score(
    scenes: Scenes, shapes: Shapes, first: Tensor, others: Tensor, intrinsics: Tensor,
    depth: Tensor, wanted: Tensor,
) -> Float[Tensor, "scene candidate"]:  # fmt: skip
    """Highest where overlap is as wanted, nothing is too near, and rotation within bounds."""
    maps = coarse_depth(shapes, scenes.heights, others, intrinsics[:, 1])
    firsts, depths = first[:, None].expand_as(others), depth[:, None].expand_as(maps)
    seen = torch.minimum(
        _overlap(scenes, shapes, firsts, depths, intrinsics[:, 0], others, intrinsics[:, 1]),
        _overlap(scenes, shapes, others, maps, intrinsics[:, 1], firsts, intrinsics[:, 0]),
    )
    nearest = maps.flatten(2).amin(2) / _median(maps.flatten(0, 1)).view_as(seen)
    trace_of_turn = (firsts[..., :3, :3] * others[..., :3, :3]).sum((-2, -1))
    turn = (trace_of_turn / 2 - 0.5).clamp(-1, 1).acos()
    bad = (nearest < 0.1).float() + (turn > _MAX_ROTATION_RAD) + 2.0 * (seen < 0.3)
    return -(seen - wanted[:, None]).abs() - bad


def _overlap(
    scenes: Scenes, shapes: Shapes, source: Tensor, depth: Tensor, source_intrinsics: Tensor,
    other: Tensor, other_intrinsics: Tensor,
) -> Float[Tensor, "scene candidate"]:  # fmt: skip
    """Share of what each source sees that the other camera sees too, unoccluded."""
    points = unproject(depth, source, source_intrinsics[:, None].expand(*source.shape[:2], 3, 3))
    points = points.flatten(2, 3)
    wide = other_intrinsics[:, None].expand(*source.shape[:2], 3, 3)
    at, z = project(points, invert(other), wide)
    inside = (at > 0).all(-1) & (at < 1).all(-1) & (z > 0)
    eyes = other[..., :3, 3]
    directions = (points - eyes[:, :, None]).mT.flatten(0, 1)
    scene = torch.arange(len(points), device=points.device).repeat_interleave(points.shape[1])
    packets = RayPackets(scene, eyes.flatten(0, 1), directions)
    t, _, _ = intersect_shapes(shapes, scenes.heights, packets, limit=2.0)
    hit = depth.flatten(2) < FAR
    visible = inside & (t.view_as(z) > 0.98) & hit
    return visible.float().sum(2) / hit.float().sum(2).clamp_min(1)
