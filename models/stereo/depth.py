"""Depth maps of posed photos, by sweep and stereo network, at the photos' own resolution."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.camera import invert, transform_points
from models.fusion import PosedDepth
from models.stereo.network import StereoNetwork, position_to_depth
from models.stereo.prior import span_surface
from models.stereo.smooth import agreement, replace_doubtful
from models.stereo.sweep import inverse_depth_planes, sweep
from models.views import resize

COLOR_SIGMA = 0.06  # of the color difference at which a coarse neighbor stops counting
SAME_SURFACE = 1.5  # planes: coarse neighbors further apart are not averaged


@dataclass(frozen=True)
class DepthEstimate:
    """Depth (z) of one view, and how likely it is right."""

    depth: Float[Tensor, "height width"]
    confidence: Float[Tensor, "height width"]


def upsample_guided(
    coarse: Float[Tensor, "channel height width"],
    guide: Float[Tensor, "3 2*height 2*width"],
) -> Float[Tensor, "channel 2*height 2*width"]:
    """Double the resolution; each pixel listens to the coarse neighbors that share its color.

    The first channel is a depth in planes: neighbors on another surface than the best one are left
    out, so that edges stay edges.
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
    small = [resize(image, (image.shape[-2] // 2, image.shape[-1] // 2)) for image in images]
    coarse, inverse_depths = [], []
    for index in range(len(images)):
        near, far = (torch.tensor([bound], device=intrinsics.device) for bound in near_far[index])
        planes = inverse_depth_planes(near, far, network.config.planes)
        shown = ~sightings[index, :, 0].isnan()
        known = transform_points(points[shown], world2cam[index])[:, 2]
        found = _sweep_view(
            index, small, intrinsics, world2cam, planes, sightings[index, shown], known, network
        )
        inverse_depths.append(planes)
        coarse.append(found)
    views = [
        PosedDepth(image, position_to_depth(found[:1], planes)[0], found[1], matrix, pose)
        for image, found, planes, matrix, pose in zip(
            small, coarse, inverse_depths, intrinsics, world2cam, strict=True
        )
    ]
    estimates = []
    for index, (view, planes) in enumerate(zip(views, inverse_depths, strict=True)):
        others = [other for other in views if other is not view]
        step = float(planes[0, 0] - planes[0, -1]) / (network.config.planes - 1)
        confirmed = torch.stack([agreement(view, other, step) for other in others]).mean(0)
        position, confidence = coarse[index]
        position = replace_doubtful(position, confidence * confirmed, small[index])
        fine = upsample_guided(torch.stack([position, confidence]), images[index])
        estimates.append(DepthEstimate(position_to_depth(fine[:1], planes)[0], fine[1]))
    return estimates


def _sweep_view(
    index: int,
    images: list[Float[Tensor, "3 _height _width"]],
    intrinsics: Float[Tensor, "view 3 3"],
    world2cam: Float[Tensor, "view 4 4"],
    inverse_depths: Float[Tensor, "1 plane"],
    coordinates: Float[Tensor, "point 2"],
    depth: Float[Tensor, " point"],
    network: StereoNetwork,
) -> Float[Tensor, "2 height width"]:
    """Position among the planes, and confidence; points of known depth guide the search."""
    reference2world = invert(world2cam[index])
    sweeps = [
        sweep(
            images[index][None],
            source[None],
            intrinsics[index][None],
            intrinsics[other][None],
            (world2cam[other] @ reference2world)[None],
            inverse_depths,
        )
        for other, source in enumerate(images)
        if other != index
    ]
    total = torch.stack(sweeps).sum(0)
    # The first three features are zero where a source sees nothing; the last counts who sees it.
    seen = total[:, 3:]
    features = torch.cat([total[:, :3] / seen.clamp(min=1), seen.clamp(max=1)], dim=1)
    nearest, farthest = inverse_depths[0, 0], inverse_depths[0, -1]
    position = (1 / depth - nearest) / (farthest - nearest) * (inverse_depths.shape[1] - 1)
    in_range = (position > -1) & (position < inverse_depths.shape[1])
    size = (images[index].shape[-2], images[index].shape[-1])
    prior = span_surface(coordinates[in_range], position[in_range], size)
    found = network(features, images[index][None], prior)
    return torch.cat([found.position, found.confidence_logit.sigmoid()])
