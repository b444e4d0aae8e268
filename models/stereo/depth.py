"""Depth maps of posed photos, by sweep, match and stereo network, at the photos' resolution."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import Camera, camera_rays, project
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import invert, transform_points
from models.geometry.views import resize
from models.stereo.color_transfer import in_colors_of
from models.stereo.features import compare_features
from models.stereo.network import StereoNetwork
from models.stereo.plane_sweep import Comparison, inverse_depth_planes, sweep
from models.stereo.prior import SurfacePrior, span_surface
from models.stereo.semi_global import Match, match, position_to_depth
from models.stereo.smoothing import agreement

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
class _SmallView:
    """A view at half size, with its features, and where it shows the known points, or NaN."""

    image: Float[Tensor, "3 height width"]
    features: Float[Tensor, "1 channel _height _width"]
    intrinsics: Float[Tensor, "3 3"]
    world2cam: Float[Tensor, "4 4"]
    sightings: Float[Tensor, "point 2"]


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
    small = [
        _SmallView(image, network.features(image[None]), matrix, pose, seen)
        for image, matrix, pose, seen in zip(
            (resize(image, (image.shape[-2] // 2, image.shape[-1] // 2)) for image in images),
            intrinsics, world2cam, sightings, strict=True,
        )
    ]  # fmt: skip
    swept = []
    for this, near_and_far in zip(small, near_far, strict=True):
        shown = ~this.sightings[:, 0].isnan()
        known = transform_points(points[shown], this.world2cam)[:, 2]
        rest = [other for other in small if other is not this]
        swept.append(_sweep_view(this, rest, near_and_far, this.sightings[shown], known, steps))
    views = [
        DepthMap(
            one.image,
            position_to_depth(one.match.position, one.inverse_depths, steps)[0],
            one.match.certainty[0],
            Camera(matrix, pose, (one.image.shape[-2], one.image.shape[-1])),
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
    view: _SmallView,
    others: list[_SmallView],
    near_far: tuple[float, float],
    coordinates: Float[Tensor, "point 2"],
    depth: Float[Tensor, " point"],
    steps: int,
) -> _Swept:
    """Match one view with all others; points of known depth guide the search."""
    near, far = (view.world2cam.new_tensor([bound]) for bound in near_far)
    fineness = 1 if max(_travel(near_far, view, other) for other in others) < steps else 2
    inverse_depths = inverse_depth_planes(near, far, fineness * (steps - 1) + 1)
    compared = _average([_compare(view, other, inverse_depths, fineness) for other in others])
    nearest, farthest = inverse_depths[0, 0], inverse_depths[0, -1]
    position = (1 / depth - nearest) / (farthest - nearest) * (steps - 1)
    in_range = (position > -1) & (position < steps)
    size = (view.image.shape[-2], view.image.shape[-1])
    prior = span_surface(coordinates[in_range], position[in_range], size)
    found = match(compared, view.image[None], prior, fineness)
    return _Swept(view.image, inverse_depths, prior, found)


def _compare(
    view: _SmallView, other: _SmallView, inverse_depths: Float[Tensor, "1 plane"], fineness: int
) -> Comparison:
    """All that one other view says of each plane."""
    shared = ~(view.sightings[:, 0].isnan() | other.sightings[:, 0].isnan())
    source, tolerance = in_colors_of(
        view.image, other.image, view.sightings[shared], other.sightings[shared]
    )
    cameras = (
        view.intrinsics[None],
        other.intrinsics[None],
        (other.world2cam @ invert(view.world2cam))[None],
    )
    correlation, difference, seen = sweep(
        view.image[None], source[None], tolerance[None], *cameras, inverse_depths
    )
    size = (view.image.shape[-2], view.image.shape[-1])
    similarity = compare_features(
        view.features, other.features, *cameras, inverse_depths, fineness, size
    )
    return Comparison(correlation, difference, similarity * seen, seen)


def _average(compared: list[Comparison]) -> Comparison:
    """Over the views that see a point; `seen` counts them."""
    if len(compared) == 1:
        return compared[0]
    seen = torch.stack([each.seen for each in compared]).sum(0)
    correlation, difference, similarity = (
        torch.stack([getattr(each, name) for each in compared]).sum(0) / seen.clamp(min=1)
        for name in ("correlation", "difference", "similarity")
    )
    return Comparison(correlation, difference, similarity, seen)


def _travel(near_far: tuple[float, float], view: _SmallView, other: _SmallView) -> float:
    """Pixels that the median point moves in another view from the near end of the range to the far.

    A plane per pixel is what the windows of the sweep want.
    """
    rays = camera_rays(view.intrinsics[None], (8, 8))[0].flatten(0, 1)
    size = torch.tensor([other.image.shape[-1], other.image.shape[-2]], device=rays.device)
    moved = other.world2cam @ invert(view.world2cam)
    ends = [project(rays * depth, moved, other.intrinsics) for depth in near_far]
    (first, z_first), (second, z_second) = ends
    distance = ((first - second) * size).norm(dim=-1)[(z_first > 0) & (z_second > 0)]
    return float(distance.median()) if len(distance) else 0.0
