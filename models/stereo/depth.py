"""Depth maps of posed views, by plane sweep, semi-global matching and the stereo network.

Matching is done twice. What stays unsure, or contradicts the other views, after the first time is
matched once more with the likeness of a pretrained encoder's patches: they tell parts of things
apart where gray values are alike, but are too coarse to be asked where those suffice.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import Camera, camera_rays
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import transform_points
from models.geometry.views import View
from models.network.dinov2 import Dinov2
from models.stereo.color_transfer import match_colors
from models.stereo.features import compare_features
from models.stereo.network import StereoNetwork
from models.stereo.patches import describe_patches
from models.stereo.plane_sweep import Comparison, inverse_depth_planes, sweep
from models.stereo.prior import SurfacePrior, triangulated_prior
from models.stereo.semi_global import SgmResult, position_to_depth, semi_global_matching
from models.stereo.smoothing import mean_consistency

COLOR_SIGMA = 0.06  # of the color difference at which a coarse neighbor stops counting
SAME_SURFACE_STEPS = 1.5  # coarse neighbors further apart are not averaged
LIKENESS_WEIGHT = 1.2  # of patches, where a match is not sure at all
NEUTRAL_LIKENESS = 0.7  # speaks neither for a plane nor against it


@dataclass(frozen=True)
class _HalfView:
    """A view at half size, with its features and where it observes the points (or NaN).

    `patches` are features of the pretrained encoder, or None.
    """

    image: Float[Tensor, "3 height width"]
    camera: Camera
    features: Float[Tensor, "1 channel _height _width"]
    observations: Float[Tensor, "point 2"]
    patches: Float[Tensor, "1 _channel _h _w"] | None


@dataclass(frozen=True)
class _Match:
    """One view's matching costs and the semi-global match of them."""

    compared: Comparison
    likeness: Float[Tensor, "1 plane height width"] | None  # of patches, as `similarity`
    inverse_depths: Float[Tensor, "1 plane"]
    planes_per_step: int
    prior: SurfacePrior
    sgm: SgmResult


def estimate_depths(
    views: list[View],
    near_far: list[tuple[float, float]],
    points: Float[Tensor, "point 3"],
    observations: Float[Tensor, "view point 2"],
    network: StereoNetwork,
    encoder: Dinov2 | None = None,
) -> list[DepthMap]:
    """Estimate the depth of every view from all the others.

    Args:
        views: At the resolution wanted for the results; even heights and widths.
        near_far: For each view the range of depths (z in it) that the planes cover.
        points: In the world, known from matches.
        observations: Coordinates of the points in each view, NaN where it does not show one.
        network: Corrects semi-global matches.
        encoder: Tells where unsure matches belong; None leaves them as they are.
    """
    steps = network.config.steps
    patches = describe_patches(views, encoder) if encoder else [None] * len(views)
    halves = []
    for view, observed, described in zip(views, observations, patches, strict=True):
        height, width = view.camera.size
        small = view.resized((height // 2, width // 2))
        features = network.features(small.image[None])
        halves.append(_HalfView(small.image, small.camera, features, observed, described))
    matches = []
    for half, limits in zip(halves, near_far, strict=True):
        others = [other for other in halves if other is not half]
        matches.append(_match_view(half, others, limits, points, steps))
    consistent = _consistencies(halves, matches, steps)
    matches = [_match_again(*each) for each in zip(halves, matches, consistent, strict=True)]
    consistent = _consistencies(halves, matches, steps)
    depth_maps = []
    for view, half, match, agreement in zip(views, halves, matches, consistent, strict=True):
        refined = network(match.sgm, agreement[None], half.image[None], match.prior)
        found = torch.cat([refined, match.sgm.confidence])
        position, confidence = upsample_guided(found, view.image)
        depth = position_to_depth(position[None], match.inverse_depths, steps)[0]
        depth_maps.append(DepthMap(view.image, depth, confidence, view.camera))
    return depth_maps


def upsample_guided(
    coarse: Float[Tensor, "channel height width"], guide: Float[Tensor, "3 2*height 2*width"]
) -> Float[Tensor, "channel 2*height 2*width"]:
    """Double the resolution by joint bilateral upsampling (Kopf et al., SIGGRAPH 2007).

    The first channel is a position in steps: of the 3x3 coarse neighbors, those on another surface
    than the best one are left out, so that edges stay edges.
    """
    height, width = guide.shape[-2:]
    small = functional.avg_pool2d(guide, 2)
    stack = torch.cat([coarse, small])[None]
    padded = functional.pad(stack, (1, 1, 1, 1), mode="replicate")
    neighbors = functional.unfold(padded, 3).unflatten(1, (stack.shape[1], 9))
    neighbors = neighbors.unflatten(-1, small.shape[-2:])[0]
    neighbors = neighbors.repeat_interleave(2, -2).repeat_interleave(2, -1)
    values, colors = neighbors[: len(coarse)], neighbors[len(coarse) :]
    difference = (colors - guide[:, None]).square().sum(0)
    row = torch.arange(height, device=guide.device) % 2
    column = torch.arange(width, device=guide.device) % 2
    offset = torch.tensor([-1.0, 0.0, 1.0], device=guide.device)
    # A fine pixel's center lies a quarter of a coarse pixel off the coarse one's center.
    distance_y = (offset[:, None] - (row * 0.5 - 0.25)).square()
    distance_x = (offset[:, None] - (column * 0.5 - 0.25)).square()
    distance = (distance_y[:, None, :, None] + distance_x[None, :, None, :]).flatten(0, 1)
    weight = (-difference / (2 * COLOR_SIGMA**2) - distance).exp() + 1e-8 * (-distance).exp()
    best = values[0].gather(0, weight.argmax(0)[None])
    weight = weight * ((values[0] - best).abs() < SAME_SURFACE_STEPS)
    return (values * weight).sum(1) / weight.sum(0)


def _match_view(
    view: _HalfView,
    others: list[_HalfView],
    near_far: tuple[float, float],
    points: Float[Tensor, "point 3"],
    steps: int,
) -> _Match:
    """Match one view with all others, guided by points of known depth."""
    disparity = max(_disparity_range(near_far, view.camera, other.camera) for other in others)
    planes_per_step = 1 if disparity < steps else 2
    near, far = (points.new_tensor([limit]) for limit in near_far)
    inverse_depths = inverse_depth_planes(near, far, planes_per_step * (steps - 1) + 1)
    pairs = [_compare(view, each, inverse_depths, planes_per_step) for each in others]
    compared = _average([each for each, _ in pairs])
    alike = [replace(each, similarity=likeness) for each, likeness in pairs if likeness is not None]
    observed = ~view.observations[:, 0].isnan()
    depth = transform_points(points[observed], view.camera.world2cam)[:, 2]
    nearest, farthest = inverse_depths[0, 0], inverse_depths[0, -1]
    position = (1 / depth - nearest) / (farthest - nearest) * (steps - 1)
    in_range = (position > -1) & (position < steps)
    prior = triangulated_prior(
        view.observations[observed][in_range], position[in_range], view.camera.size
    )
    sgm = semi_global_matching(compared, view.image[None], prior, planes_per_step)
    likeness = _average(alike).similarity if alike else None
    return _Match(compared, likeness, inverse_depths, planes_per_step, prior, sgm)


def _match_again(
    view: _HalfView, match: _Match, consistent: Float[Tensor, "height width"]
) -> _Match:
    """Match a view by the likeness of patches too, the more the less sure a pixel was.

    Where nothing is alike on planes that others see, those that they do not see are likelier.
    """
    compared, sgm, likeness = match.compared, match.sgm, match.likeness
    if likeness is None:
        return match
    unsure = 1 - sgm.confidence * sgm.seen * consistent
    described = (likeness != 0).any(1, keepdim=True)
    alike = LIKENESS_WEIGHT * unsure[:, None] * described * (likeness - NEUTRAL_LIKENESS)
    compared = replace(compared, similarity=compared.similarity + alike)
    sgm = semi_global_matching(compared, view.image[None], match.prior, match.planes_per_step)
    return replace(match, sgm=sgm)


def _consistencies(
    views: list[_HalfView], matches: list[_Match], steps: int
) -> list[Float[Tensor, "height width"]]:
    """Return for every view how well its match agrees with the others'."""
    coarse = []
    for view, match in zip(views, matches, strict=True):
        depth = position_to_depth(match.sgm.position, match.inverse_depths, steps)[0]
        coarse.append(DepthMap(view.image, depth, match.sgm.confidence[0], view.camera))
    ends = [match.inverse_depths[0, [0, -1]].tolist() for match in matches]
    unit = [(first - last) / (steps - 1) for first, last in ends]
    return [mean_consistency(each, coarse, step) for each, step in zip(coarse, unit, strict=True)]


def _compare(
    view: _HalfView,
    other: _HalfView,
    inverse_depths: Float[Tensor, "1 plane"],
    planes_per_step: int,
) -> tuple[Comparison, Float[Tensor, "1 plane height width"] | None]:
    """Compare a view with one other on every plane, by colors and features; and by patches."""
    shared = ~(view.observations[:, 0].isnan() | other.observations[:, 0].isnan())
    source, tolerance = match_colors(
        view.image, other.image, view.observations[shared], other.observations[shared]
    )
    # In the view's axes: a batch of products would round otherwise than a single one.
    reference = replace(view.camera, world2cam=torch.eye(4, device=source.device))
    cameras = (reference[None], _in_axes_of(view.camera, other.camera)[None], inverse_depths)
    correlation, difference, seen = sweep(view.image[None], source[None], tolerance[None], *cameras)
    similarity = compare_features(view.features, other.features, *cameras, planes_per_step)
    compared = Comparison(correlation, difference, similarity * seen, seen)
    if view.patches is None or other.patches is None:
        return compared, None
    alike = compare_features(view.patches, other.patches, *cameras, planes_per_step)
    return compared, alike * seen


def _average(compared: list[Comparison]) -> Comparison:
    """Average over the views that see a point; `seen` counts them."""
    if len(compared) == 1:
        return compared[0]
    seen = torch.stack([each.seen for each in compared]).sum(0)
    correlation, difference, similarity = (
        torch.stack([getattr(each, name) for each in compared]).sum(0) / seen.clamp(min=1)
        for name in ("correlation", "difference", "similarity")
    )
    return Comparison(correlation, difference, similarity, seen)


def _disparity_range(near_far: tuple[float, float], camera: Camera, other: Camera) -> float:
    """Return the pixels that the median point moves in another view from near to far.

    A plane per pixel is what the windows of the sweep want.
    """
    rays = camera_rays(camera.intrinsics[None], (8, 8))[0].flatten(0, 1)
    relative = _in_axes_of(camera, other)
    (first, first_z), (second, second_z) = (relative.project(rays * depth) for depth in near_far)
    distance = ((first - second) * rays.new_tensor(other.size[::-1])).norm(dim=-1)
    distance = distance[(first_z > 0) & (second_z > 0)]
    return float(distance.median()) if len(distance) else 0.0


def _in_axes_of(reference: Camera, camera: Camera) -> Camera:
    """Return a camera whose world is the axes of a reference camera."""
    return replace(camera, world2cam=camera.world2cam @ reference.cam2world)
