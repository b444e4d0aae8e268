"""Camera paths for videos: around a scene, between the photos, and the framing of a picture.

Paths are loops without a seam: the frame after the last would be the first. Every path keeps the
scene's center, a point on which the photos' cameras look, where it is in the picture.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.camera import project
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import (
    cross_matrix,
    from_wxyz,
    invert,
    look_at,
    nearest_rotation,
    to_wxyz,
)

ORBIT_DEG = 15.0  # a scene seen from two photos has no back: swing at most this far to each side,
LEAST_ORBIT_DEG = 6.0  # at least this far,
ORBIT_PER_PARALLAX = 2.0  # and so many times the angle between the photos: they show no more
WIGGLE_DEG = 2.5
DOLLY = 0.2  # share of the distance to the scene's center by which a camera goes in and out
SPIRAL = 0.5, 0.5  # of what the orbit swings by, and of what the dolly goes by
SPIRAL_TURNS = 2  # while it goes in and out once
FOREIGN_FOV_DEG = 60.0  # horizontal field of view for scenes that name no camera
FOREIGN_SIZE = 576, 768  # (height, width) of their pictures


@dataclass(frozen=True)
class Trajectory:
    """One camera per frame; intrinsics are normalized, for the size they were framed for."""

    world2cam: Float[Tensor, "frame 4 4"]
    intrinsics: Float[Tensor, "frame 3 3"]


def orbit(
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "3 3"],
    center: Float[Tensor, "3"],
    frames: int,
    amplitude_deg: float | None = None,
) -> Trajectory:
    """Swing around the scene's center, from the photos' mean camera to each side and back.

    A flat figure of eight: `amplitude_deg` to the left and right, a quarter of it up and down.
    Unless told, it is twice the angle between the photos as seen from the center, within 6 and 15
    degrees; 15 where there is one camera. The first frame is the mean camera itself.
    """
    phase = _phases(frames)
    if amplitude_deg is None:
        amplitude_deg = orbit_amplitude_deg(world2cam, center)
    amplitude = math.radians(amplitude_deg)
    angles = amplitude * torch.stack([phase.sin(), (2 * phase).sin() / 4], dim=-1)
    return _pivot(mean_camera(world2cam), intrinsics, center, angles)


def orbit_amplitude_deg(world2cam: Float[Tensor, "view 4 4"], center: Float[Tensor, "3"]) -> float:
    """How far an orbit swings to each side unless told: see `orbit`."""
    if len(world2cam) < 2:
        return ORBIT_DEG
    sight = torch.nn.functional.normalize(invert(world2cam)[:, :3, 3] - center, dim=-1)
    parallax = torch.rad2deg(2 * torch.asin(torch.cdist(sight, sight).max().clamp(max=2) / 2))
    return min(max(ORBIT_PER_PARALLAX * parallax.item(), LEAST_ORBIT_DEG), ORBIT_DEG)


def wiggle(
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "3 3"],
    center: Float[Tensor, "3"],
    frames: int,
    amplitude_deg: float = WIGGLE_DEG,
) -> Trajectory:
    """Move in a small circle across the image plane, the eyes on the scene's center.

    The circle's radius is `amplitude_deg` (2.5 unless told), as seen from the center.
    """
    phase = _phases(frames)
    angles = math.radians(amplitude_deg) * torch.stack([phase.sin(), phase.cos()], dim=-1)
    return _pivot(mean_camera(world2cam), intrinsics, center, angles)


def dolly(
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "3 3"],
    center: Float[Tensor, "3"],
    frames: int,
    amplitude: float = DOLLY,
) -> Trajectory:
    """Move from the photos' mean camera straight to the scene's center, then away, and back.

    `amplitude` is how far, as a share of the distance between them.
    """
    phase = _phases(frames)
    still = torch.zeros(frames, 2)
    return _pivot(mean_camera(world2cam), intrinsics, center, still, 1 - amplitude * phase.sin())


def spiral(
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "3 3"],
    center: Float[Tensor, "3"],
    frames: int,
    amplitude_deg: float | None = None,
) -> Trajectory:
    """Go around a flat ellipse twice, and in and out once, the eyes on the scene's center.

    `amplitude_deg` to the left and right as seen from the center, half of it up and down: unless
    told, it is half of what `orbit` swings by. In and out, it goes half as far as `dolly`.
    """
    phase = _phases(frames)
    wide, deep = SPIRAL
    if amplitude_deg is None:
        amplitude_deg = wide * orbit_amplitude_deg(world2cam, center)
    turning = SPIRAL_TURNS * phase
    angles = math.radians(amplitude_deg) * torch.stack([turning.sin(), turning.cos() / 2], dim=-1)
    distances = 1 - deep * DOLLY * phase.sin()
    return _pivot(mean_camera(world2cam), intrinsics, center, angles, distances)


def interpolate(
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "view 3 3"],
    center: Float[Tensor, "3"],
    frames: int,
) -> Trajectory:
    """Travel from the first photo's camera through the others and back, pausing at each.

    Rotations turn evenly about one axis from camera to camera, while the scene's center moves on
    a straight line in camera axes: cameras that look at it keep looking at it on the way.
    """
    views = len(world2cam)
    legs = max(2 * (views - 1), 1)
    position = torch.arange(frames) / frames * legs
    leg = position.floor()
    eased = (1 - torch.cos(math.pi * (position - leg))) / 2
    last = views - 1
    start = (last - (leg - last).abs()).long()
    stop = (last - (leg + 1 - last).abs()).long().clamp(min=0)

    weight = eased[:, None]
    centers = world2cam[:, :3, :3] @ center + world2cam[:, :3, 3]
    in_camera = (1 - weight) * centers[start] + weight * centers[stop]
    wxyz = to_wxyz(world2cam[:, :3, :3])
    rotation = from_wxyz(_slerp(wxyz[start], wxyz[stop], eased))
    between = (1 - eased)[:, None, None] * intrinsics[start] + eased[:, None, None] * intrinsics[
        stop
    ]
    return Trajectory(_rigid(rotation, in_camera - rotation @ center), between)


def mean_camera(world2cam: Float[Tensor, "view 4 4"]) -> Float[Tensor, "4 4"]:
    """The `world2cam` in the middle: mean position, nearest rotation to the mean."""
    cam2world = invert(world2cam)
    rotation = nearest_rotation(cam2world[:, :3, :3].mean(dim=0))
    return invert(_rigid(rotation, cam2world[:, :3, 3].mean(dim=0)))


def scene_center(gaussians: Gaussians, world2cam: Float[Tensor, "view 4 4"]) -> Float[Tensor, "3"]:
    """The point in the mean camera's line of sight at the median depth of what it sees."""
    cam2world = invert(mean_camera(world2cam.to(gaussians.means)))
    position, forward = cam2world[:3, 3], cam2world[:3, 2]
    depth = (gaussians.means - position) @ forward
    seen = depth[(depth > 0) & (gaussians.opacities > 0.1)]
    distance = seen.median() if len(seen) else depth.new_tensor(1.0)
    return (position + distance * forward).to(world2cam)


def guess_camera(gaussians: Gaussians) -> tuple[Float[Tensor, "4 4"], Float[Tensor, "3 3"]]:
    """A `world2cam` and intrinsics for a scene that names none.

    The first camera of our own convention, at the origin looking along +z, where it has at least
    half of the scene in view; else one that looks along +z at the scene from outside.
    """
    height, width = FOREIGN_SIZE
    focal = 0.5 / math.tan(math.radians(FOREIGN_FOV_DEG) / 2)
    intrinsics = torch.tensor([[focal, 0, 0.5], [0, focal * width / height, 0.5], [0, 0, 1]])
    world2cam = torch.eye(4)
    means = gaussians.means.detach().float().cpu()
    if len(means) == 0:
        return world2cam, intrinsics
    coordinates, depth = project(means, world2cam, intrinsics)
    in_view = (depth > 0) & ((coordinates - 0.5).abs() < 0.5).all(dim=-1)
    if in_view.float().mean() >= 0.5:
        return world2cam, intrinsics
    middle = means.median(dim=0).values
    radius = (means - middle).norm(dim=-1).quantile(0.9).clamp(min=1e-6)
    half_height = math.atan(0.5 / intrinsics[1, 1].item())
    eye = middle - torch.tensor([0.0, 0.0, 1.0]) * radius / math.sin(half_height)
    return invert(look_at(eye, middle, torch.tensor([0.0, 1.0, 0.0]))), intrinsics


def frame_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], photo_size: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Intrinsics of a picture of another aspect: the largest central part of the photo's view.

    Sizes are (height, width). Where the aspects agree the intrinsics are unchanged.
    """
    widening = (size[1] / size[0]) / (photo_size[1] / photo_size[0])
    kept = intrinsics.new_tensor([min(1.0, widening), min(1.0, 1 / widening)])
    framed = intrinsics.clone()
    framed[..., :2, :2] = intrinsics[..., :2, :2] / kept[:, None]
    framed[..., :2, 2] = (intrinsics[..., :2, 2] - 0.5) / kept + 0.5
    return framed


def video_size(photo_size: tuple[int, int], long_side: int = 768) -> tuple[int, int]:
    """A (height, width) of the photo's shape with even numbers, as video codecs want them."""
    scale = long_side / max(photo_size)
    height, width = (max(2, 2 * round(side * scale / 2)) for side in photo_size)
    return height, width


def _phases(frames: int) -> Float[Tensor, " frame"]:
    return torch.arange(frames) * (2 * math.pi / frames)


def _pivot(
    world2cam: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    center: Float[Tensor, "3"],
    angles: Float[Tensor, "frame 2"],
    distances: Float[Tensor, " frame"] | None = None,
) -> Trajectory:
    """Turn a camera about a point, by angles around its own vertical and horizontal axes.

    Positive angles move the camera to the right and down. `distances` are from the point, in
    units of the camera's own; as far as it is unless told.
    """
    cam2world = invert(world2cam)
    right, down = cam2world[:3, 0], cam2world[:3, 1]
    sideways, vertical = angles[:, :1], angles[:, 1:]
    around_down = torch.linalg.matrix_exp(cross_matrix(-sideways * down))
    around_right = torch.linalg.matrix_exp(cross_matrix(vertical * right))
    turn = around_down @ around_right
    rotation = turn @ cam2world[:3, :3]
    arm = (turn @ (cam2world[:3, 3] - center)[:, None])[..., 0]
    position = center + (arm if distances is None else distances[:, None] * arm)
    moved = invert(_rigid(rotation, position))
    return Trajectory(moved, intrinsics.expand(len(moved), 3, 3))


def _slerp(
    start: Float[Tensor, "frame 4"], stop: Float[Tensor, "frame 4"], weight: Float[Tensor, " frame"]
) -> Float[Tensor, "frame 4"]:
    """Even rotation from one unit quaternion to another, the short way round."""
    stop = torch.where((start * stop).sum(dim=-1, keepdim=True) < 0, -stop, stop)
    angle = 2 * torch.atan2((start - stop).norm(dim=-1), (start + stop).norm(dim=-1))
    near = angle < 1e-4
    sine = torch.where(near, 1.0, angle.sin())
    first = torch.where(near, 1 - weight, ((1 - weight) * angle).sin() / sine)
    second = torch.where(near, weight, (weight * angle).sin() / sine)
    return first[:, None] * start + second[:, None] * stop


def _rigid(
    rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    transform = rotation.new_zeros(*rotation.shape[:-2], 4, 4)
    transform[..., :3, :3] = rotation
    transform[..., :3, 3] = translation
    transform[..., 3, 3] = 1
    return transform
