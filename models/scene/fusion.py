"""Depth maps of posed photos to one set of Gaussians, in the photos' own colors."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from models.geometry.depth_map import DepthMap, contradicted, covered
from models.geometry.gaussians import SH_DEGREE_0, Gaussians, join
from models.geometry.rigid import to_wxyz

FOOTPRINT = 0.5  # standard deviation of a Gaussian, in spacings of its neighbors
THICKNESS = 0.1  # of a Gaussian along its normal, in spacings
LONGEST = 4.0  # a slanted Gaussian is at most this many times longer than a fronto-parallel one
OPACITY = 0.95
DOUBT = 0.4  # difference in confidence from which a later view overrules an earlier one


def tangents(
    points: Float[Tensor, "height width 3"], spacing: Float[Tensor, "height width"]
) -> tuple[Float[Tensor, "height width 3"], Float[Tensor, "height width 3"]]:
    """Steps to the neighboring pixel's point, right and down.

    Of the two one-sided differences the shorter one is taken, so that a depth edge does not tilt
    the surfaces beside it; steps are cut to `LONGEST` spacings.
    """
    steps = []
    for axis in (1, 0):
        forward = points.diff(dim=axis)
        pad = (0, 0, 0, 1) if axis else (0, 0, 0, 0, 0, 1)
        back = (0, 0, 1, 0) if axis else (0, 0, 0, 0, 1, 0)
        after = functional.pad(forward, pad)
        before = functional.pad(forward, back)
        length_after = after.norm(dim=-1, keepdim=True)
        length_before = before.norm(dim=-1, keepdim=True)
        first = (length_before == 0) | ((length_after > 0) & (length_after < length_before))
        step = torch.where(first, after, before)
        length = step.norm(dim=-1, keepdim=True).clamp(min=1e-9)
        steps.append(step * (LONGEST * spacing[..., None] / length).clamp(max=1))
    return steps[0], steps[1]


def splat(
    view: DepthMap, keep: Bool[Tensor, "height width"], footprint: float = FOOTPRINT
) -> Gaussians:
    """One flat Gaussian per kept pixel, lying in the surface and reaching its neighbors."""
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


def fuse(views: list[DepthMap]) -> Gaussians:
    """Join all views: one Gaussian per pixel, but each surface drawn only once.

    Earlier views go first. A later one adds what they do not see: two copies of a surface that
    differ by a fraction of a pixel only blur each other. A point of an earlier view is left out
    where a later one is more confident, by `DOUBT`, to look through it.
    """
    parts = []
    for index, view in enumerate(views):
        drop = torch.zeros_like(view.depth, dtype=torch.bool)
        for earlier in views[:index]:
            drop |= covered(view, earlier)
        for later in views[index + 1 :]:
            drop |= contradicted(view, later, DOUBT)
        parts.append(splat(view, ~drop))
    return join(parts)
