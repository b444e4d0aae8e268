"""A look at a reconstruction from outside: cameras as frusta, points, and which of them to show."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.geometry.rigid import cross_matrix, invert, transform_points

ASIDE = math.radians(-32), math.radians(28)  # azimuth and elevation of whom looks
ABOVE = 0.0, math.radians(90)
SHOWN = 0.9  # share of the points, the nearest ones, that has to fit
FRUSTUM = 0.16  # length of a frustum, by the distance of the scene
MARGIN = 0.07  # around everything, as a share of the picture


@dataclass(frozen=True)
class Overview:
    """A parallel projection of cameras and points, in coordinates of the picture ([0, 1])."""

    frusta: Float[Tensor, "view 5 2"]  # the camera's center, then its photo's corners, clockwise
    points: Float[Tensor, "point 2"]  # NaN where a point lies outside the picture


def look_from_outside(
    points: Float[Tensor, "point 3"],
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "view 3 3"],
    size: tuple[int, int],
    distance: float,
    *,
    above: bool = False,
) -> Overview:
    """Project cameras and points so that they fill a picture.

    The onlooker stands behind the cameras, to one side and a little higher, or straight above.

    Args:
        points: In the world; there may be none.
        world2cam: Of the cameras.
        intrinsics: Normalized.
        size: (height, width) of the picture.
        distance: Of the scene, which tells how large to draw a camera.
        above: Whether to look from straight above.
    """
    cam2world = invert(world2cam)
    centers = cam2world[:, :3, 3]
    far = (points - centers.mean(0)).norm(dim=-1)
    frusta = _frusta(cam2world, intrinsics, FRUSTUM * distance)
    turn = _seen_from(cam2world, *(ABOVE if above else ASIDE))
    near = far <= (far.quantile(SHOWN) if len(points) else 0)
    flat_frusta, flat_points = (frusta @ turn.T)[..., :2], (points @ turn.T)[:, :2]
    shown = torch.cat([flat_frusta.flatten(0, 1), flat_points[near]])
    low, high = shown.min(0).values, shown.max(0).values
    pixels = shown.new_tensor([size[1], size[0]])
    scale = ((1 - 2 * MARGIN) * pixels / (high - low).clamp(min=1e-9)).min()

    def place(flat: Tensor) -> Tensor:
        return 0.5 + (flat - (low + high) / 2) * scale / pixels

    placed = place(flat_points)
    inside = ((placed >= 0) & (placed <= 1)).all(-1, keepdim=True)
    return Overview(place(flat_frusta), placed.where(inside, torch.nan))


def _frusta(
    cam2world: Float[Tensor, "view 4 4"], intrinsics: Float[Tensor, "view 3 3"], length: float
) -> Float[Tensor, "view 5 3"]:
    corners = intrinsics.new_tensor([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]])
    rays = corners @ torch.linalg.inv(intrinsics).mT * length
    return transform_points(torch.cat([torch.zeros_like(rays[:, :1]), rays], dim=1), cam2world)


def _seen_from(
    cam2world: Float[Tensor, "view 4 4"], azimuth: float, elevation: float
) -> Float[Tensor, "3 3"]:
    """The rotation from the world to an onlooker above whose head is where the cameras' is."""
    down = torch.nn.functional.normalize(cam2world[:, :3, 1].mean(0), dim=0)
    ahead = cam2world[:, :3, 2].mean(0)
    right = torch.nn.functional.normalize(torch.linalg.cross(down, ahead), dim=0)
    level = torch.stack([right, down, torch.linalg.cross(right, down)])
    axes = level.new_tensor([[0.0, azimuth, 0.0], [elevation, 0.0, 0.0]])
    around, over = torch.linalg.matrix_exp(cross_matrix(axes))
    return over @ around @ level


def nearness(depth: Float[Tensor, " point"]) -> Float[Tensor, " point"]:
    """How near each point is among the others: 0 for the farthest, 1 for the nearest."""
    if len(depth) < 2:
        return torch.ones_like(depth)
    return 1 - depth.argsort().argsort() / (len(depth) - 1)


def spread(
    coordinates: Float[Tensor, "view point 2"], count: int, least: float = 0.0
) -> Int[Tensor, " chosen"]:
    """Numbers of points that are far from each other in every photo, the most central one first.

    Args:
        coordinates: Of the points in every photo, finite.
        count: How many at most.
        least: Distance below which no more are chosen.
    """
    if coordinates.shape[1] == 0:
        return torch.zeros(0, dtype=torch.long)
    central = (coordinates[0] - 0.5).norm(dim=-1).argmin()
    chosen = [int(central)]
    distance = torch.full_like(coordinates[0, :, 0], torch.inf)
    while len(chosen) < min(count, coordinates.shape[1]):
        last = coordinates[:, chosen[-1], None]
        distance = torch.minimum(distance, (coordinates - last).norm(dim=-1).amin(0))
        farthest = int(distance.argmax())
        if distance[farthest] <= least:
            break
        chosen.append(farthest)
    return torch.tensor(chosen)
