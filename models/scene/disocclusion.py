"""What no photo shows, guessed from what lies beside it: behind edges, and around the frame.

A camera that leaves the photos' own positions looks past foreground objects and over the borders.
Continuing the background there, coarsely, is closer to the truth than a black hole.
"""

import torch
from torch.nn import functional

from models.geometry.depth_map import DepthMap, contradicted, look_up
from models.geometry.gaussians import Gaussians, join
from models.geometry.views import resize
from models.scene.fusion import splat

# Behind edges the guess has two levels, a fine one close by and a coarse one further in: pixels of
# the photo per Gaussian along each side, and how many Gaussians deep it reaches.
LEVELS = ((4, 6), (16, 4))
CELL = 4  # pixels of the photo per Gaussian around the frame, along each side
FOOTPRINT = 0.7  # guesses are soft: wider than what was seen
DEEPER = 1.1  # a background is behind an edge if it is this many times deeper
MARGIN = 0.25  # of the frame's size that is guessed on each side of it
BLUR = 4  # cells over which colors around the frame are averaged


def coarsen(view: DepthMap, cell: int) -> DepthMap:
    """The view at one pixel per cell; of each cell, the farthest depth, without confidence."""
    height, width = view.depth.shape
    size = (height // cell, width // cell)
    return DepthMap(
        image=resize(view.image, size),
        depth=functional.adaptive_max_pool2d(view.depth[None], size)[0],
        confidence=view.depth.new_zeros(size),
        camera=view.camera.resized(size),
    )


def behind_edges(view: DepthMap, others: list[DepthMap], cell: int, reach: int) -> Gaussians:
    """The background beside each depth edge, continued behind the foreground.

    It is a guess: where another photo sees past it, it is left out.
    """
    coarse = coarsen(view, cell)
    window = 2 * reach + 1
    deepest = functional.max_pool2d(coarse.depth[None], window, 1, reach)[0]
    nearest = -functional.adaptive_max_pool2d(-view.depth[None], coarse.depth.shape)[0]
    # The background's color: of the cells in reach, those that are about as deep as the deepest.
    padded = functional.pad(
        torch.cat([coarse.image, coarse.depth[None]])[None], (reach,) * 4, mode="replicate"
    )
    around = functional.unfold(padded, window).unflatten(1, (4, window * window))[0]
    background = (around[3] * DEEPER > deepest.flatten()).float()
    color = (around[:3] * background).sum(1) / background.sum(0)
    hidden = DepthMap(
        image=color.unflatten(1, coarse.depth.shape),
        depth=deepest,
        confidence=coarse.confidence,
        camera=coarse.camera,
    )
    keep = deepest > DEEPER * nearest
    for other in others:
        keep &= ~contradicted(hidden, other)
    return splat(hidden, keep, FOOTPRINT)


def around_frame(view: DepthMap, others: list[DepthMap]) -> Gaussians:
    """The borders of a photo continued outward, where no other photo looks."""
    coarse = coarsen(view, CELL)
    height, width = coarse.depth.shape
    rows, columns = round(MARGIN * height), round(MARGIN * width)
    pads = (columns, columns, rows, rows)
    image = functional.pad(coarse.image[None], pads, mode="replicate")[0]
    depth = functional.pad(coarse.depth[None], pads, mode="replicate")[0]
    blurred = functional.avg_pool2d(image, 2 * BLUR + 1, 1, BLUR, count_include_pad=False)
    wide = DepthMap(
        image=blurred,
        depth=depth,
        confidence=torch.zeros_like(depth),
        camera=coarse.camera.cropped(-rows, -columns, (height + 2 * rows, width + 2 * columns)),
    )
    keep = torch.ones_like(depth, dtype=torch.bool)
    keep[rows : rows + height, columns : columns + width] = False
    for other in others:
        _, seen, _ = look_up(wide, other, other.depth[None])
        keep &= ~seen.unflatten(0, depth.shape)
    return splat(wide, keep, FOOTPRINT)


def fill(views: list[DepthMap]) -> Gaussians:
    """Everything that is guessed, for all views of a scene."""
    parts = []
    for view in views:
        others = [other for other in views if other is not view]
        parts += [behind_edges(view, others, cell, reach) for cell, reach in LEVELS]
        parts.append(around_frame(view, others))
    return join(parts)
