"""Extrapolate a scene to what no image shows: behind depth edges, and around the frame.

A camera that leaves the photos' own positions looks past foreground objects and over the borders.
Continuing the background there, coarsely, is closer to the truth than a black hole.
"""

from dataclasses import replace

import torch
from torch.nn import functional

from models.geometry.depth_map import DepthMap, contradicted, look_up
from models.geometry.gaussians import Gaussians, join
from models.geometry.views import resize
from models.scene.fusion import splat

# Behind edges there are two levels, a fine one close by and a coarse one further in: pixels of the
# image per Gaussian along each side, and how many Gaussians deep it extends.
LEVELS = ((4, 6), (16, 4))
BORDER_CELL_PX = 4  # pixels of the image per Gaussian around the frame, along each side
FOOTPRINT = 0.7  # soft: wider than what was seen
BACKGROUND_RATIO = 1.1  # a background is at least this many times deeper than the edge before it
BORDER_SHARE = 0.25  # of the frame's size, continued on each side of it
BLUR_RADIUS_CELLS = 4  # over which colors around the frame are averaged


def extrapolate(depth_maps: list[DepthMap]) -> Gaussians:
    """Return the Gaussians of all that is extrapolated from the views of a scene.

    Nothing is from those with a mask: what is cut out has nothing behind or around it.
    """
    parts = []
    for view in depth_maps:
        if view.mask is not None:
            parts.append(splat(view, torch.zeros_like(view.mask)))
            continue
        others = [other for other in depth_maps if other is not view]
        parts += [inpaint_disocclusions(view, others, cell, radius) for cell, radius in LEVELS]
        parts.append(outpaint_border(view, others))
    guesses = join(parts)
    return replace(guesses, guessed=torch.ones_like(guesses.opacities, dtype=torch.bool))


def inpaint_disocclusions(
    view: DepthMap, others: list[DepthMap], cell: int, radius: int
) -> Gaussians:
    """Continue the background beside each depth edge behind the foreground.

    There is one Gaussian per `cell` pixels along each side, and `radius` of them behind the edge.
    Where another view sees past it, it is left out.
    """
    coarse = coarsen(view, cell)
    window = 2 * radius + 1
    deepest = functional.max_pool2d(coarse.depth[None], window, 1, radius)[0]
    nearest = -functional.adaptive_max_pool2d(-view.depth[None], coarse.depth.shape)[0]
    # The background's color: of the cells in the window, those about as deep as the deepest.
    padded = functional.pad(
        torch.cat([coarse.image, coarse.depth[None]])[None], (radius,) * 4, mode="replicate"
    )
    neighbors = functional.unfold(padded, window).unflatten(1, (4, window * window))[0]
    background = (neighbors[3] * BACKGROUND_RATIO > deepest.flatten()).float()
    color = (neighbors[:3] * background).sum(1) / background.sum(0)
    hidden = DepthMap(
        color.unflatten(1, coarse.depth.shape), deepest, coarse.confidence, coarse.camera
    )
    keep = deepest > BACKGROUND_RATIO * nearest
    for other in others:
        keep &= ~contradicted(hidden, other)
    return splat(hidden, keep, FOOTPRINT)


def outpaint_border(view: DepthMap, others: list[DepthMap]) -> Gaussians:
    """Continue the borders of an image outward, where no other view looks."""
    coarse = coarsen(view, BORDER_CELL_PX)
    height, width = coarse.camera.size
    rows, columns = round(BORDER_SHARE * height), round(BORDER_SHARE * width)
    padding = (columns, columns, rows, rows)
    image = functional.pad(coarse.image[None], padding, mode="replicate")[0]
    depth = functional.pad(coarse.depth[None], padding, mode="replicate")[0]
    window, radius = 2 * BLUR_RADIUS_CELLS + 1, BLUR_RADIUS_CELLS
    padded = DepthMap(
        image=functional.avg_pool2d(image, window, 1, radius, count_include_pad=False),
        depth=depth,
        confidence=torch.zeros_like(depth),
        camera=coarse.camera.cropped(-rows, -columns, (height + 2 * rows, width + 2 * columns)),
    )
    keep = torch.ones_like(depth, dtype=torch.bool)
    keep[rows : rows + height, columns : columns + width] = False
    for other in others:
        _, seen, _ = look_up(padded, other, other.depth[None])
        keep &= ~seen.unflatten(0, depth.shape)
    return splat(padded, keep, FOOTPRINT)


def coarsen(view: DepthMap, cell: int) -> DepthMap:
    """Return the view at one pixel per cell: the farthest depth of each, without confidence."""
    height, width = view.camera.size
    size = (height // cell, width // cell)
    return DepthMap(
        image=resize(view.image, size),
        depth=functional.adaptive_max_pool2d(view.depth[None], size)[0],
        confidence=view.depth.new_zeros(size),
        camera=view.camera.resized(size),
    )
