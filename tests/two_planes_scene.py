"""A textured wall with a textured card in front of it, ray-traced: exact images and depth."""

import torch
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import Camera, camera_rays
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import invert, se3_exponential

INTRINSICS = torch.tensor([[0.9, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]])
SIZE = (192, 256)
SECOND = se3_exponential(torch.tensor([-0.3, 0.05, 0.1, 0.02, -0.12, 0.03]))
FIRST_CAMERA, SECOND_CAMERA = (Camera(INTRINSICS, pose, SIZE) for pose in (torch.eye(4), SECOND))
WALL, CARD = 3.0, 2.0  # z of the two planes
HALF_CARD = 0.35


def _texture(seed: int) -> Tensor:
    """Return noise on several scales, so that there is something to match at every size."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, 512, 512)
    for cells, weight in ((8, 0.4), (32, 0.35), (128, 0.35)):
        noise = torch.rand(1, 3, cells, cells, generator=generator)
        total += weight * functional.interpolate(noise, size=(512, 512), mode="bicubic")
    return (total - total.amin()) / (total.amax() - total.amin())


_WALL_TEXTURE, _CARD_TEXTURE = _texture(1), _texture(2)


def raytrace(
    world2cam: Tensor, intrinsics: Tensor = INTRINSICS, size: tuple[int, int] = SIZE
) -> tuple[Tensor, Tensor]:
    """Return a camera's image [3, height, width] and its depth (z)."""
    cam2world = invert(world2cam)
    rays = camera_rays(intrinsics, size) @ cam2world[:3, :3].T
    eye = cam2world[:3, 3]
    color, depth = None, None
    for plane, texture, extent in ((WALL, _WALL_TEXTURE, 4.0), (CARD, _CARD_TEXTURE, 1.0)):
        t = (plane - eye[2]) / rays[..., 2]
        hit = eye + rays * t[..., None]
        grid = (hit[..., :2] / extent)[None]
        seen = functional.grid_sample(texture, grid, align_corners=False, padding_mode="reflection")
        if color is None:
            color, depth = seen[0], t
        else:
            on_card = (hit[..., :2].abs() < HALF_CARD).all(-1)
            color, depth = torch.where(on_card, seen[0], color), torch.where(on_card, t, depth)
    return color, depth


def depth_map_at(world2cam: Tensor) -> DepthMap:
    """Return the exact depth map of a camera, confident everywhere."""
    image, depth = raytrace(world2cam)
    return DepthMap(image, depth, torch.ones(SIZE), Camera(INTRINSICS, world2cam, SIZE))
