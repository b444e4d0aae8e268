"""Fuse depth maps into one set of Gaussians, in the images' own colors."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from models.geometry.depth_map import DepthMap, contradicted, covered
from models.geometry.gaussians import SH_DEGREE_0, Gaussians, join
from models.geometry.rigid import to_wxyz

FOOTPRINT = 0.5  # standard deviation of a Gaussian, in spacings of its neighbors
THICKNESS = 0.1  # of a Gaussian along its normal, in spacings
MAX_STRETCH = 4.0  # length of a slanted Gaussian over that of a fronto-parallel one
OPACITY = 0.95
MIN_MARGIN = 0.4  # of confidence by which a later view overrules an earlier one


def fuse(depth_maps: list[DepthMap]) -> Gaussians:
    """Join all views: one Gaussian per pixel, but each surface only once.

    Earlier views go first. A later one adds what they do not see: two copies of a surface that
    differ by a fraction of a pixel only blur each other. A point of an earlier view is left out
    where a later one is more confident, by `MIN_MARGIN`, to look through it. Pixels that do not
    show the scene make none.
    """
    parts = []
    for index, view in enumerate(depth_maps):
        drop = torch.zeros_like(view.depth, dtype=torch.bool) if view.mask is None else ~view.mask
        for earlier in depth_maps[:index]:
            drop = drop | covered(view, earlier)
        for later in depth_maps[index + 1 :]:
            drop = drop | contradicted(view, later, MIN_MARGIN)
        parts.append(splat(view, ~drop))
    return join(parts)


def splat(
    view: DepthMap, keep: Bool[Tensor, "height width"], footprint: float = FOOTPRINT
) -> Gaussians:
    """Make one flat Gaussian per kept pixel, lying in the surface and reaching its neighbors."""
    points = view.camera.unproject(view.depth)
    spacing = view.depth / view.camera.intrinsics_px[0, 0]
    right, down = (step[keep] for step in tangents(points, spacing))
    first = functional.normalize(right, dim=-1)
    normal = torch.linalg.cross(first, down)
    facing = view.camera.cam2world[:3, 2].expand_as(normal)
    normal = functional.normalize(
        torch.where(normal.norm(dim=-1, keepdim=True) > 1e-12, normal, facing), dim=-1
    )
    second = torch.linalg.cross(normal, first)
    height = (down * second).sum(-1)
    spacing = spacing[keep]
    scales = torch.stack(
        [footprint * right.norm(dim=-1), footprint * height.abs(), THICKNESS * spacing], dim=-1
    )
    color = view.image.permute(1, 2, 0)[keep]
    return Gaussians(
        means=points[keep],
        scales=torch.maximum(scales, THICKNESS * spacing[:, None]),
        rotations=to_wxyz(torch.stack([first, second, normal], dim=-1)),
        harmonics=((color - 0.5) / SH_DEGREE_0)[..., None],
        opacities=torch.full_like(spacing, OPACITY),
    )


def tangents(
    points: Float[Tensor, "height width 3"], spacing: Float[Tensor, "height width"]
) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width 3"]]:
    """Return the steps to the neighboring pixels' points, right and down.

    Of the two one-sided differences the shorter one is taken, so that a depth edge does not tilt
    the surfaces beside it; steps are cut to `MAX_STRETCH` spacings.
    """
    steps = []
    for axis, other_axes in ((1, (0, 0)), (0, (0, 0, 0, 0))):
        difference = points.diff(dim=axis)
        after = functional.pad(difference, (*other_axes, 0, 1))
        before = functional.pad(difference, (*other_axes, 1, 0))
        after_length = after.norm(dim=-1, keepdim=True)
        before_length = before.norm(dim=-1, keepdim=True)
        take_after = (before_length == 0) | ((after_length > 0) & (after_length < before_length))
        step = torch.where(take_after, after, before)
        length = step.norm(dim=-1, keepdim=True).clamp(min=1e-9)
        steps.append(step * (MAX_STRETCH * spacing[..., None] / length).clamp(max=1))
    return steps[0], steps[1]
