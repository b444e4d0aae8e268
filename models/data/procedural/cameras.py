"""Where the photos are taken: baselines, rotations and overlap between chosen bounds."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import camera_rays, invert, look_at, project, unproject
from models.data.procedural.dice import Dice
from models.data.procedural.shapes import FAR, Shapes, Tiles, distance_bound, trace
from models.data.procedural.worlds import Scenes

_PROBE = (9, 9)  # rays of a quick look around
_CANDIDATES = 6
_MOST_TURN = math.radians(45)


def draw_intrinsics(
    dice: Dice, scenes: int, views: int, size: tuple[int, int]
) -> Float[Tensor, "scene view 3 3"]:
    """Square pixels, 40 to 90 degrees along the longer side; different per view in 30 %."""
    height, width = size
    fov = dice.uniform(40, 90, scenes, views)
    fov = torch.where(dice.chance(0.3, scenes, 1), fov, fov[:, :1]).deg2rad()
    focal_px = max(height, width) / 2 / (fov / 2).tan()
    intrinsics = torch.zeros(scenes, views, 3, 3, device=dice.device)
    intrinsics[..., 0, 0] = focal_px / width
    intrinsics[..., 1, 1] = focal_px / height
    intrinsics[..., :2, 2] = 0.5
    intrinsics[..., 2, 2] = 1
    return intrinsics


def draw_cameras(
    dice: Dice,
    scenes: Scenes,
    intrinsics: Float[Tensor, "scene view 3 3"],
    difficulty: float,
) -> tuple[Float[Tensor, "scene view 4 4"], Shapes]:
    """`cam2world` of every view, and the shapes without those that come too close to a camera."""
    count, views = intrinsics.shape[:2]
    first = _aim(dice, scenes.eye, scenes.target)
    shapes = _clear(scenes.shapes, scenes.eye[:, None], 0.15 * _distance(scenes))
    depth = probe(shapes, scenes.heights, first, intrinsics[:, 0])
    median = _median(depth)
    shapes = _clear(shapes, scenes.eye[:, None], 0.25 * median)
    depth = probe(shapes, scenes.heights, first, intrinsics[:, 0])
    median = _median(depth)
    cameras = [first]
    for view in range(1, views):
        candidates = [
            _neighbor(dice, scenes, first, median, difficulty)
            for _ in range(_CANDIDATES)
        ]
        wanted = dice.uniform(0.8 - 0.4 * difficulty, 0.95, count)
        scores = torch.stack([
            _score(scenes, shapes, first, candidate, intrinsics[:, [0, view]], depth, wanted)
            for candidate in candidates
        ])  # fmt: skip
        best = scores.argmax(0)
        cameras.append(
            torch.stack(candidates)[best, torch.arange(count, device=best.device)]
        )
    cam2world = torch.stack(cameras, dim=1)
    shapes = _clear(shapes, cam2world[..., :3, 3], 0.15 * median)
    return cam2world, shapes


def probe(
    shapes: Shapes,
    heights: Float[Tensor, "scene n n"],
    cam2world: Float[Tensor, "scene 4 4"],
    intrinsics: Float[Tensor, "scene 3 3"],
) -> Float[Tensor, "scene height width"]:
    """A coarse depth map."""
    rays = camera_rays(intrinsics, _PROBE).flatten(1, 2)
    directions = cam2world[:, :3, :3] @ rays.mT
    scene = torch.arange(len(rays), device=rays.device)
    t, _ = trace(shapes, heights, Tiles(scene, cam2world[:, :3, 3], directions))
    return t.unflatten(1, _PROBE)


def _distance(scenes: Scenes) -> Tensor:
    return (scenes.target - scenes.eye).norm(dim=-1)


def _median(depth: Tensor) -> Tensor:
    """Of what is not sky."""
    hit = torch.where(depth < FAR, depth, torch.nan).flatten(1)
    return hit.nanmedian(dim=1).values.nan_to_num(10.0)


def _clear(shapes: Shapes, eyes: Tensor, nearest: Tensor) -> Shapes:
    """Without the loose shapes that are nearer than `nearest` to a camera."""
    near = (distance_bound(shapes, eyes) < nearest[:, None, None]).any(1)
    values = {**vars(shapes), "present": shapes.present & (shapes.fixed | ~near)}
    return Shapes(**values)


def _aim(dice: Dice, eye: Tensor, target: Tensor) -> Tensor:
    """Look at the target, a few degrees of roll."""
    down = torch.tensor([0.0, 1.0, 0.0], device=eye.device)
    cam2world = look_at(eye, target + 1e-4, down)
    roll = dice.normal(len(eye)) * math.radians(3)
    turn = torch.zeros_like(cam2world)
    turn[:, 0, 0], turn[:, 0, 1] = roll.cos(), -roll.sin()
    turn[:, 1, 0], turn[:, 1, 1] = roll.sin(), roll.cos()
    turn[:, 2, 2] = turn[:, 3, 3] = 1
    return cam2world @ turn


def _neighbor(
    dice: Dice, scenes: Scenes, first: Tensor, median: Tensor, difficulty: float
) -> Tensor:
    """Another camera that looks at about the same things."""
    count = len(first)
    share = dice.log_uniform(0.02, 0.1 + 0.5 * difficulty, count)
    spread = torch.tensor([1.0, 0.5, 0.7], device=first.device)
    step = torch.nn.functional.normalize(dice.normal(count, 3) * spread, dim=-1)
    step = step * (share * median)[:, None]
    eye = first[:, :3, 3] + (first[:, :3, :3] @ step[..., None])[..., 0]
    eye = eye.clamp(scenes.region[:, 0], scenes.region[:, 1])
    forward = first[:, :3, 2] * (median * dice.log_uniform(0.7, 3, count))[:, None]
    jitter = dice.normal(count, 3) * (median * (0.05 + 0.25 * difficulty))[:, None]
    return _aim(dice, eye, first[:, :3, 3] + forward + jitter)


def _score(
    scenes: Scenes, shapes: Shapes, first: Tensor, second: Tensor, intrinsics: Tensor,
    depth: Tensor, wanted: Tensor,
) -> Tensor:  # fmt: skip
    """Highest where overlap is as wanted, nothing is too near, and rotation within bounds."""
    other = probe(shapes, scenes.heights, second, intrinsics[:, 1])
    seen = torch.minimum(
        _seen(scenes, shapes, first, depth, intrinsics[:, 0], second, intrinsics[:, 1]),
        _seen(scenes, shapes, second, other, intrinsics[:, 1], first, intrinsics[:, 0]),
    )
    nearest = other.flatten(1).amin(1) / _median(depth)
    turn = (
        ((first[:, :3, :3] * second[:, :3, :3]).sum((1, 2)) / 2 - 0.5)
        .clamp(-1, 1)
        .acos()
    )
    bad = (nearest < 0.1).float() + (turn > _MOST_TURN) + 2.0 * (seen < 0.3)
    return -(seen - wanted).abs() - bad


def _seen(
    scenes: Scenes, shapes: Shapes, source: Tensor, depth: Tensor, source_intrinsics: Tensor,
    other: Tensor, other_intrinsics: Tensor,
) -> Tensor:  # fmt: skip
    """Share of what the source sees that the other sees too, unoccluded."""
    points = unproject(depth, source, source_intrinsics).flatten(1, 2)
    at, z = project(points, invert(other), other_intrinsics)
    inside = (at > 0).all(-1) & (at < 1).all(-1) & (z > 0)
    directions = (points - other[:, None, :3, 3]).mT
    scene = torch.arange(len(points), device=points.device)
    t, _ = trace(
        shapes, scenes.heights, Tiles(scene, other[:, :3, 3], directions), limit=2.0
    )
    visible = inside & (t > 0.98) & (depth.flatten(1) < FAR)
    return visible.float().sum(1) / (depth.flatten(1) < FAR).float().sum(1).clamp_min(1)
