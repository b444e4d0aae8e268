"""Points that photos have in common: how well they fit the photos, and their colors there."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import pixel_grid, project

CELL = 4  # pixels of a rough depth map that are computed as one


def reprojection_errors(
    points: Float[Tensor, "point 3"],
    sightings: Float[Tensor, "view point 2"],
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "view 3 3"],
    sizes: list[tuple[int, int]],
) -> Float[Tensor, "view point"]:
    """Distances in pixels between where points project to and where the photos show them.

    Args:
        points: In the world.
        sightings: Coordinates in [0, 1], NaN where a photo does not show a point.
        world2cam: Of the photos.
        intrinsics: Normalized.
        sizes: (height, width) of each photo, in the pixels that count.

    Returns:
        NaN where a photo does not show a point.
    """
    expected, _ = project(points.expand(len(world2cam), -1, -1), world2cam, intrinsics)
    pixels = torch.tensor([[width, height] for height, width in sizes]).to(expected)
    return ((expected - sightings) * pixels[:, None]).norm(dim=-1)


def spread_depth(
    coordinates: Float[Tensor, "point 2"], depth: Float[Tensor, " point"], size: tuple[int, int]
) -> Float[Tensor, "height width"]:
    """A rough depth map from a few points: nearby ones count by the square of their nearness.

    Args:
        coordinates: Of the points, in [0, 1]; there must be one.
        depth: Of the points.
        size: (height, width) of the map; one in `CELL` pixels is computed, the rest interpolated.
    """
    coarse = max(2, size[0] // CELL), max(2, size[1] // CELL)
    cells = pixel_grid(coarse, coordinates).flatten(0, 1)
    distance, nearest = torch.cdist(cells, coordinates).topk(min(4, len(depth)), largest=False)
    weight = 1 / (distance.square() + 1e-6)
    inverse = (weight / depth[nearest]).sum(1) / weight.sum(1)
    return 1 / functional.interpolate(inverse.view(1, 1, *coarse), size, mode="bilinear")[0, 0]


def mean_colors(
    images: list[Float[Tensor, "3 _height _width"]], sightings: Float[Tensor, "view point 2"]
) -> Float[Tensor, "point 3"]:
    """RGB of every point: the mean over the photos that show it, of which there must be one."""
    colors = []
    for image, coordinates in zip(images, sightings, strict=True):
        grid = 2 * coordinates.nan_to_num(0.5) - 1
        sampled = functional.grid_sample(
            image[None], grid[None, None], padding_mode="border", align_corners=False
        )
        colors.append(sampled[0, :, 0].T)
    seen = sightings.isfinite().all(-1)[..., None]
    return (torch.stack(colors) * seen).sum(0) / seen.sum(0)
