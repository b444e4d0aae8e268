"""Depth maps of posed photos, by sweep, match and stereo network, at the photos' resolution."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.camera import camera_rays, invert, project, transform_points
from models.fusion import PosedDepth
from models.stereo.match import Match, match, position_to_depth
from models.stereo.network import StereoNetwork
from models.stereo.prior import SurfacePrior, span_surface
from models.stereo.smooth import agreement
from models.stereo.sweep import inverse_depth_planes, sweep
from models.views import resize

COLOR_SIGMA = 0.06  # of the color difference at which a coarse neighbor stops counting
SAME_SURFACE = 1.5  # steps: coarse neighbors further apart are not averaged


@dataclass(frozen=True)
class DepthEstimate:
    """Depth (z) of one view, and how certain the match is that it rests on, in [0, 1]."""

    depth: Float[Tensor, "height width"]
    confidence: Float[Tensor, "height width"]


def upsample_guided(
    coarse: Float[Tensor, "channel height width"],
    guide: Float[Tensor, "3 2*height 2*width"],
) -> Float[Tensor, "channel 2*height 2*width"]:
    """Double the resolution; each pixel listens to the coarse neighbors that share its color.

    The first channel is a position in steps: neighbors on another surface than the best one are
    left out, so that edges stay edges.
    """
    size = (guide.shape[-2], guide.shape[-1])
    small = functional.avg_pool2d(guide, 2)
    stack = torch.cat([coarse, small])[None]
    padded = functional.pad(stack, (1, 1, 1, 1), mode="replicate")
    around = functional.unfold(padded, 3).unflatten(1, (stack.shape[1], 9))
    around = around.unflatten(-1, small.shape[-2:])[0]
    around = around.repeat_interleave(2, -2).repeat_interleave(2, -1)
    values, colors = around[: len(coarse)], around[len(coarse) :]
    difference = (colors - guide[:, None]).square().sum(0)
    row = torch.arange(size[0], device=guide.device) % 2
    column = torch.arange(size[1], device=guide.device) % 2
    offset = torch.tensor([-1.0, 0.0, 1.0], device=guide.device)
    # A fine pixel's center lies a quarter of a coarse pixel off the coarse one's center.
    distance_y = (offset[:, None] - (row * 0.5 - 0.25)).square()
    distance_x = (offset[:, None] - (column * 0.5 - 0.25)).square()
    distance = (distance_y[:, None, :, None] + distance_x[None, :, None, :]).flatten(0, 1)
    weight = (-difference / (2 * COLOR_SIGMA**2) - distance).exp() + 1e-8 * (-distance).exp()
    best = values[0].gather(0, weight.argmax(0)[None])
    weight = weight * ((values[0] - best).abs() < SAME_SURFACE)
    return (values * weight).sum(1) / weight.sum(0)


@dataclass(frozen=True)
class _Swept:
    """A view at half size, with what was found in it."""

    image: Float[Tensor, "3 height width"]
    inverse_depths: Float[Tensor, "1 plane"]
    prior: SurfacePrior
    match: Match


def estimate_depths(
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    world2cam: Float[Tensor, "view 4 4"],
    near_far: list[tuple[float, float]],
    points: Float[Tensor, "point 3"],
    sightings: Float[Tensor, "view point 2"],
    network: StereoNetwork,
) -> list[DepthEstimate]:
    """Depth of every view from all the others.

    Args:
        images: All photos at the resolution wanted for the results; even heights and widths.
        intrinsics: Normalized, of all views.
        world2cam: Of all views.
        near_far: For each view the range of depths (z in it) that the planes cover.
        points: In the world, known from matches.
        sightings: Coordinates of the points in each view, NaN where it does not show one.
        network: The trained stereo network.
    """
    steps = network.config.steps
    small = [resize(image, (image.shape[-2] // 2, image.shape[-1] // 2)) for image in images]
    swept = []
    for index, near_and_far in enumerate(near_far):
        shown = ~sightings[index, :, 0].isnan()
        known = transform_points(points[shown], world2cam[index])[:, 2]
        swept.append(
            _sweep_view(
                index, small, intrinsics, world2cam, near_and_far, sightings[index, shown],
                known, steps,
            )
        )  # fmt: skip
    views = [
        PosedDepth(
            one.image,
            position_to_depth(one.match.position, one.inverse_depths, steps)[0],
            one.match.certainty[0],
            matrix,
            pose,
        )
        for one, matrix, pose in zip(swept, intrinsics, world2cam, strict=True)
    ]
    estimates = []
    for index, (view, one) in enumerate(zip(views, swept, strict=True)):
        others = [other for other in views if other is not view]
        step = float(one.inverse_depths[0, 0] - one.inverse_depths[0, -1]) / (steps - 1)
        confirmed = torch.stack([agreement(view, other, step) for other in others]).mean(0)
        found = network(one.match, confirmed[None], one.image[None], one.prior)
        coarse = torch.cat([found, one.match.certainty])
        position, confidence = upsample_guided(coarse, images[index])
        depth = position_to_depth(position[None], one.inverse_depths, steps)[0]
        estimates.append(DepthEstimate(depth, confidence))
    return estimates


def _sweep_view(
    index: int,
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    world2cam: Float[Tensor, "view 4 4"],
    near_far: tuple[float, float],
    coordinates: Float[Tensor, "point 2"],
    depth: Float[Tensor, " point"],
    steps: int,
) -> _Swept:
    """Match one view with all others; points of known depth guide the search."""
    image, device = images[index], intrinsics.device
    size = (image.shape[-2], image.shape[-1])
    moved = world2cam @ invert(world2cam[index])
    others = [other for other in range(len(images)) if other != index]
    near, far = (torch.tensor([bound], device=device) for bound in near_far)
    widest = max(
        _travel(near_far, intrinsics[index], intrinsics[other], moved[other], images[other])
        for other in others
    )
    fineness = 1 if widest < steps else 2
    inverse_depths = inverse_depth_planes(near, far, fineness * (steps - 1) + 1)
    correlation, seen = (
        torch.stack(parts).sum(0)
        for parts in zip(*(
            sweep(
                image[None], images[other][None], intrinsics[index][None],
                intrinsics[other][None], moved[other][None], inverse_depths,
            )
            for other in others
        ), strict=True)
    )  # fmt: skip
    nearest, farthest = inverse_depths[0, 0], inverse_depths[0, -1]
    position = (1 / depth - nearest) / (farthest - nearest) * (steps - 1)
    in_range = (position > -1) & (position < steps)
    prior = span_surface(coordinates[in_range], position[in_range], size)
    found = match(correlation / seen.clamp(min=1), seen, image[None], prior, fineness)
    return _Swept(image, inverse_depths, prior, found)


def _travel(
    near_far: tuple[float, float],
    intrinsics: Float[Tensor, "3 3"],
    other_intrinsics: Float[Tensor, "3 3"],
    this2other: Float[Tensor, "4 4"],
    other: Float[Tensor, "3 height width"],
) -> float:
    """Pixels that the median point moves in another view from the near end of the range to the far.

    A plane per pixel is what the windows of the sweep want.
    """
    rays = camera_rays(intrinsics[None], (8, 8))[0].flatten(0, 1)
    size = torch.tensor([other.shape[-1], other.shape[-2]], device=rays.device)
    ends = [project(rays * depth, this2other, other_intrinsics) for depth in near_far]
    (first, z_first), (second, z_second) = ends
    distance = ((first - second) * size).norm(dim=-1)[(z_first > 0) & (z_second > 0)]
    return float(distance.median()) if len(distance) else 0.0
