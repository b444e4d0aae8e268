"""Camera paths for videos: around a scene, or through the photos' cameras.

Paths are loops without a seam: the frame after the last would be the first. Every path keeps the
scene's center, a point on which the photos' cameras look, at its place in the image. Functions
take the photos' cameras as one batch, and return a batch with a camera for every frame.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import (
    cross_matrix,
    from_wxyz,
    invert,
    look_at,
    nearest_rotation,
    rigid_motion,
    to_wxyz,
)

MAX_ORBIT_DEG = 15.0  # to each side: a scene seen from two photos has no back
MIN_ORBIT_DEG = 6.0
ORBIT_PER_PARALLAX = 2.0  # an orbit's amplitude over the angle between the photos
WIGGLE_DEG = 2.5
DOLLY_RATIO = 0.2  # of the distance to the scene's center, by which a camera goes in and out
SPIRAL_ORBIT_RATIO = 0.5  # a spiral's amplitude over an orbit's
SPIRAL_DOLLY_RATIO = 0.5  # how far a spiral goes in and out, over a dolly
SPIRAL_TURNS = 2  # while it goes in and out once
DEFAULT_FOV_DEG = 60.0  # horizontal field of view for scenes that name no camera
DEFAULT_SIZE = 576, 768  # (height, width) of their images


def orbit(
    cameras: Camera, center: Float[Tensor, "3"], frames: int, amplitude_deg: float | None = None
) -> Camera:
    """Swing around the scene's center, from the mean camera to each side and back.

    A flat figure of eight: `amplitude_deg` to the left and right, a quarter of it up and down.
    The default is `orbit_amplitude_deg`. The first frame is the mean camera itself.
    """
    phase = _phases(frames)
    if amplitude_deg is None:
        amplitude_deg = orbit_amplitude_deg(cameras, center)
    amplitude = math.radians(amplitude_deg)
    angles = amplitude * torch.stack([phase.sin(), (2 * phase).sin() / 4], dim=-1)
    return _turn_around(mean_camera(cameras), center, angles)


def orbit_amplitude_deg(cameras: Camera, center: Float[Tensor, "3"]) -> float:
    """Return how far an orbit swings to each side by default.

    Twice the angle between the photos as seen from the center, within 6 and 15 degrees; 15 where
    there is one camera.
    """
    if len(cameras) < 2:
        return MAX_ORBIT_DEG
    directions = torch.nn.functional.normalize(cameras.center - center, dim=-1)
    largest_chord = torch.cdist(directions, directions).max().clamp(max=2)
    parallax_deg = torch.rad2deg(2 * torch.asin(largest_chord / 2))
    return min(max(ORBIT_PER_PARALLAX * parallax_deg.item(), MIN_ORBIT_DEG), MAX_ORBIT_DEG)


def wiggle(
    cameras: Camera, center: Float[Tensor, "3"], frames: int, amplitude_deg: float = WIGGLE_DEG
) -> Camera:
    """Move in a small circle across the image plane, looking at the scene's center.

    The circle's radius is `amplitude_deg`, as seen from the center.
    """
    phase = _phases(frames)
    angles = math.radians(amplitude_deg) * torch.stack([phase.sin(), phase.cos()], dim=-1)
    return _turn_around(mean_camera(cameras), center, angles)


def dolly(
    cameras: Camera, center: Float[Tensor, "3"], frames: int, amplitude: float = DOLLY_RATIO
) -> Camera:
    """Move from the mean camera straight to the scene's center, then away, and back.

    `amplitude` is how far, over the distance between them.
    """
    phase = _phases(frames)
    no_turn = torch.zeros(frames, 2)
    return _turn_around(mean_camera(cameras), center, no_turn, 1 - amplitude * phase.sin())


def spiral(
    cameras: Camera, center: Float[Tensor, "3"], frames: int, amplitude_deg: float | None = None
) -> Camera:
    """Go around a flat ellipse twice, and in and out once, looking at the scene's center.

    `amplitude_deg` to the left and right as seen from the center, half of it up and down; the
    default is half of an orbit's. In and out, it goes half as far as `dolly`.
    """
    phase = _phases(frames)
    if amplitude_deg is None:
        amplitude_deg = SPIRAL_ORBIT_RATIO * orbit_amplitude_deg(cameras, center)
    turns = SPIRAL_TURNS * phase
    angles = math.radians(amplitude_deg) * torch.stack([turns.sin(), turns.cos() / 2], dim=-1)
    distances = 1 - SPIRAL_DOLLY_RATIO * DOLLY_RATIO * phase.sin()
    return _turn_around(mean_camera(cameras), center, angles, distances)


def interpolate(cameras: Camera, center: Float[Tensor, "3"], frames: int) -> Camera:
    """Travel from the first photo's camera through the others and back, pausing at each.

    Rotations turn evenly about one axis from camera to camera, while the scene's center moves on
    a straight line in camera axes: cameras that look at it keep looking at it on the way.
    """
    last = len(cameras) - 1
    position = torch.arange(frames) / frames * max(2 * last, 1)
    leg = position.floor()
    eased = (1 - torch.cos(math.pi * (position - leg))) / 2
    start = (last - (leg - last).abs()).long()
    stop = (last - (leg + 1 - last).abs()).long().clamp(min=0)

    def blend(values: Tensor) -> Tensor:
        weight = eased.view(-1, *[1] * (values.dim() - 1))
        return (1 - weight) * values[start] + weight * values[stop]

    rotations = cameras.world2cam[:, :3, :3]
    centers = rotations @ center + cameras.world2cam[:, :3, 3]
    wxyz = to_wxyz(rotations)
    rotation = from_wxyz(_slerp(wxyz[start], wxyz[stop], eased))
    in_camera = blend(centers)
    return Camera(
        intrinsics=blend(cameras.intrinsics),
        world2cam=rigid_motion(rotation, in_camera - rotation @ center),
        size=cameras.size,
    )


def mean_camera(cameras: Camera) -> Camera:
    """Return the camera at the mean position, with the rotation nearest to the mean one.

    All else is as in the first camera.
    """
    rotation = nearest_rotation(cameras.cam2world[:, :3, :3].mean(dim=0))
    cam2world = rigid_motion(rotation, cameras.center.mean(dim=0))
    return replace(cameras[0], world2cam=invert(cam2world))


def scene_center(gaussians: Gaussians, cameras: Camera) -> Float[Tensor, "3"]:
    """Return the point on the mean camera's optical axis at the median depth of what it sees."""
    gaussians = gaussians.sample()
    cam2world = mean_camera(cameras.to(gaussians.means.device)).cam2world
    position, forward = cam2world[:3, 3], cam2world[:3, 2]
    depth = (gaussians.means - position) @ forward
    visible = depth[(depth > 0) & (gaussians.opacities > 0.1)]
    distance = visible.median() if len(visible) else depth.new_tensor(1.0)
    return (position + distance * forward).to(cameras.world2cam)


def guess_camera(gaussians: Gaussians) -> Camera:
    """Return a camera for a scene that names none.

    The first camera of our own convention, at the origin looking along +z, where it has at least
    half of the scene in view; else one that looks along +z at the scene from outside.
    """
    height, width = DEFAULT_SIZE
    focal = 0.5 / math.tan(math.radians(DEFAULT_FOV_DEG) / 2)
    intrinsics = torch.tensor([[focal, 0, 0.5], [0, focal * width / height, 0.5], [0, 0, 1]])
    camera = Camera(intrinsics, torch.eye(4), DEFAULT_SIZE)
    means = gaussians.sample().means.detach().float().cpu()
    if len(means) == 0:
        return camera
    coordinates, depth = camera.project(means)
    in_view = (depth > 0) & ((coordinates - 0.5).abs() < 0.5).all(dim=-1)
    if in_view.float().mean() >= 0.5:
        return camera
    middle = means.median(dim=0).values
    radius = (means - middle).norm(dim=-1).quantile(0.9).clamp(min=1e-6)
    half_height = math.atan(0.5 / intrinsics[1, 1].item())
    position = middle - torch.tensor([0.0, 0.0, 1.0]) * radius / math.sin(half_height)
    cam2world = look_at(position, middle, torch.tensor([0.0, 1.0, 0.0]))
    return replace(camera, world2cam=invert(cam2world))


def video_size(photo_size: tuple[int, int], long_side: int = 768) -> tuple[int, int]:
    """Return a (height, width) of the photo's shape with even sides, as video codecs want."""
    scale = long_side / max(photo_size)
    height, width = (max(2, 2 * round(side * scale / 2)) for side in photo_size)
    return height, width


def _phases(frames: int) -> Float[Tensor, " frame"]:
    return torch.arange(frames) * (2 * math.pi / frames)


def _turn_around(
    camera: Camera,
    center: Float[Tensor, "3"],
    angles: Float[Tensor, "frame 2"],
    distances: Float[Tensor, " frame"] | None = None,
) -> Camera:
    """Turn a camera about a point, by angles around its own vertical and horizontal axes.

    Positive angles move the camera to the right and down. `distances` are from the point, over
    the camera's own; 1 by default.
    """
    cam2world = camera.cam2world
    right, down = cam2world[:3, 0], cam2world[:3, 1]
    sideways, vertical = angles[:, :1], angles[:, 1:]
    around_down = torch.linalg.matrix_exp(cross_matrix(-sideways * down))
    around_right = torch.linalg.matrix_exp(cross_matrix(vertical * right))
    turn = around_down @ around_right
    rotation = turn @ cam2world[:3, :3]
    arm = (turn @ (cam2world[:3, 3] - center)[:, None])[..., 0]
    position = center + (arm if distances is None else distances[:, None] * arm)
    return replace(
        camera,
        intrinsics=camera.intrinsics.expand(len(angles), 3, 3),
        world2cam=invert(rigid_motion(rotation, position)),
    )


def _slerp(
    start: Float[Tensor, "frame 4"], stop: Float[Tensor, "frame 4"], weight: Float[Tensor, " frame"]
) -> Float[Tensor, "frame 4"]:
    """Interpolate unit quaternions at even angular speed, the short way round (Shoemake, 1985)."""
    stop = torch.where((start * stop).sum(dim=-1, keepdim=True) < 0, -stop, stop)
    angle = 2 * torch.atan2((start - stop).norm(dim=-1), (start + stop).norm(dim=-1))
    near = angle < 1e-4
    sine = torch.where(near, 1.0, angle.sin())
    first = torch.where(near, 1 - weight, ((1 - weight) * angle).sin() / sine)
    second = torch.where(near, weight, (weight * angle).sin() / sine)
    return first[:, None] * start + second[:, None] * stop
