"""Depth maps of posed photos to one set of Gaussians, in the photos' own colors."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import invert, project, unproject
from models.geometry.gaussians import SH_DEGREE_0, Gaussians, join

FOOTPRINT = 0.5  # standard deviation of a Gaussian, in spacings of its neighbors
THICKNESS = 0.1  # of a Gaussian along its normal, in spacings
LONGEST = 4.0  # a slanted Gaussian is at most this many times longer than a fronto-parallel one
OPACITY = 0.95
DOUBT = 0.4  # difference in confidence from which a later view overrules an earlier one
SURFACE = 0.03  # relative depth difference up to which two views are said to see one surface


@dataclass(frozen=True)
class PosedDepth:
    """A photo with its camera and the depth (z) of its pixels."""

    image: Float[Tensor, "3 height width"]
    depth: Float[Tensor, "height width"]
    confidence: Float[Tensor, "height width"]
    intrinsics: Float[Tensor, "3 3"]
    world2cam: Float[Tensor, "4 4"]


def sample_nearest(
    maps: Float[Tensor, "channel height width"], coordinates: Float[Tensor, "point 2"]
) -> Float[Tensor, "channel point"]:
    """Values at image coordinates; outside the image, at its border."""
    grid = (coordinates * 2 - 1).clamp(-1, 1)[None, None]
    return functional.grid_sample(maps[None], grid, mode="nearest", align_corners=False)[0, :, 0]


def look_up(
    view: PosedDepth, other: PosedDepth, maps: Float[Tensor, "channel height width"]
) -> tuple[Float[Tensor, " point"], Bool[Tensor, " point"], Float[Tensor, "channel point"]]:
    """Follow a view's points into another view.

    Returns:
        For each pixel of the view, row by row: depth in the other camera, whether it lies inside
        the other image, and what `maps`, of the other view, say there.
    """
    points = unproject(view.depth, invert(view.world2cam), view.intrinsics).flatten(0, 1)
    coordinates, z = project(points, other.world2cam, other.intrinsics)
    inside = (z > 0) & (coordinates > 0).all(-1) & (coordinates < 1).all(-1)
    return z, inside, sample_nearest(maps, coordinates)


def contradicted(
    view: PosedDepth, other: PosedDepth, margin: float = 0.0
) -> Bool[Tensor, "height width"]:
    """Where a point stands in the way of what another view sees behind it, with more confidence.

    Args:
        view: The points in question.
        other: The view that may contradict them.
        margin: By how much the other view must be more confident.
    """
    z, inside, there = look_up(view, other, torch.stack([other.depth, other.confidence]))
    in_front = z < there[0] * (1 - SURFACE)
    weaker = view.confidence.flatten() + margin < there[1]
    return (inside & in_front & weaker).unflatten(0, view.depth.shape)


def covered(view: PosedDepth, other: PosedDepth) -> Bool[Tensor, "height width"]:
    """Where a point lies on a surface that another view has, or stands in its way."""
    z, inside, there = look_up(view, other, other.depth[None])
    return (inside & (z < there[0] * (1 + SURFACE))).unflatten(0, view.depth.shape)


def photometric_agreement(first: PosedDepth, second: PosedDepth) -> tuple[float, float]:
    """How alike two views are where both see the same surface.

    Returns:
        Mean absolute color difference in [0, 1], and the share of the second view's points that
        the first one sees.
    """
    z, inside, there = look_up(second, first, torch.cat([first.depth[None], first.image]))
    seen = inside & (z < there[0] * (1 + SURFACE))
    if not seen.any():
        return 1.0, 0.0
    difference = (there[1:] - second.image.flatten(1)).abs().mean(0)
    return float(difference[seen].mean()), float(seen.float().mean())


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


def frame_to_quaternion(frame: Float[Tensor, "point 3 3"]) -> Float[Tensor, "point 4"]:
    """Unit quaternions wxyz of rotation matrices; stable for every angle."""
    m00, m11, m22 = frame[:, 0, 0], frame[:, 1, 1], frame[:, 2, 2]
    squares = torch.stack(
        [1 + m00 + m11 + m22, 1 + m00 - m11 - m22, 1 - m00 + m11 - m22, 1 - m00 - m11 + m22], 1
    )
    a, b, c = (
        frame[:, 2, 1] - frame[:, 1, 2],
        frame[:, 0, 2] - frame[:, 2, 0],
        frame[:, 1, 0] - frame[:, 0, 1],
    )
    d, e, f = (
        frame[:, 0, 1] + frame[:, 1, 0],
        frame[:, 0, 2] + frame[:, 2, 0],
        frame[:, 1, 2] + frame[:, 2, 1],
    )
    w2, x2, y2, z2 = squares.unbind(1)
    candidates = torch.stack(
        [
            torch.stack([w2, a, b, c], 1),
            torch.stack([a, x2, d, e], 1),
            torch.stack([b, d, y2, f], 1),
            torch.stack([c, e, f, z2], 1),
        ],
        dim=1,
    )
    best = squares.argmax(1)
    chosen = candidates[torch.arange(len(frame), device=frame.device), best]
    return functional.normalize(chosen, dim=-1)


def splat(
    view: PosedDepth, keep: Bool[Tensor, "height width"], footprint: float = FOOTPRINT
) -> Gaussians:
    """One flat Gaussian per kept pixel, lying in the surface and reaching its neighbors."""
    cam2world = invert(view.world2cam)
    points = unproject(view.depth, cam2world, view.intrinsics)
    spacing = view.depth / (view.intrinsics[0, 0] * view.depth.shape[1])
    right, down = (step[keep] for step in tangents(points, spacing))
    first = functional.normalize(right, dim=-1)
    normal = torch.linalg.cross(first, down)
    facing = cam2world[:3, 2].expand_as(normal)
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
        rotations=frame_to_quaternion(torch.stack([first, second, normal], dim=-1)),
        harmonics=((color - 0.5) / SH_DEGREE_0)[..., None],
        opacities=torch.full_like(spacing, OPACITY),
    )


def fuse(views: list[PosedDepth]) -> Gaussians:
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
