"""Depths that contradict another view: points that would hide what it sees behind them.

What only one view shows was matched with nothing, and its surroundings, foreground and background
alike, were continued over it. But a place that is hidden from another view lies behind what that
one sees: it belongs to the background.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from models.geometry.camera import camera_rays
from models.geometry.depth_map import DepthMap, contradicted, hides
from models.geometry.rigid import transform_points

MIN_CONFIDENCE = 0.3  # of a depth that is continued
COLOR_SIGMA, DISTANCE_SIGMA_PX = 0.05, 20.0  # which of several depths continues here


def push_back_contradicted(views: list[DepthMap]) -> list[DepthMap]:
    """Move points that a more confident view sees through to the surface behind them.

    Of the nearest confident depths to the left, right, above and below, those are candidates that
    are farther and that no other view contradicts; color and distance choose. Without a candidate
    a point stays.
    """
    return [_push_back(view, [each for each in views if each is not view]) for view in views]


def _push_back(view: DepthMap, others: list[DepthMap]) -> DepthMap:
    contrary = torch.stack([contradicted(view, other) for other in others]).any(0)
    sure = ~contrary & (view.confidence > MIN_CONFIDENCE)
    sources = _nearest_along_axes(sure if view.mask is None else sure & view.mask)
    own, width = contrary.flatten().nonzero()[:, 0], view.depth.shape[1]
    rays = camera_rays(view.camera.intrinsics, view.camera.size).flatten(0, 1)[own]
    depth, colors = view.depth.flatten(), view.image.flatten(1)
    least, chosen = torch.full_like(depth[own], float("inf")), depth[own]
    for source in sources.flatten(1)[:, own]:
        candidate = depth[source.clamp(min=0)]
        points = transform_points(rays * candidate[:, None], view.camera.cam2world)
        valid = (source >= 0) & (candidate > depth[own])
        for other in others:
            valid &= ~hides(points, view.confidence.flatten()[own], other)
        difference = (colors[:, source.clamp(min=0)] - colors[:, own]).abs().mean(0)
        steps = (source - own).abs()
        distance = torch.where(steps < width, steps, steps // width)
        cost = difference / COLOR_SIGMA + distance / DISTANCE_SIGMA_PX
        better = valid & (cost < least)
        least, chosen = torch.where(better, cost, least), torch.where(better, candidate, chosen)
    return replace(view, depth=depth.index_copy(0, own, chosen).unflatten(0, view.depth.shape))


def _nearest_along_axes(wanted: Bool[Tensor, "height width"]) -> Int[Tensor, "4 height width"]:
    """Return the index of the nearest wanted pixel to the left, above, right and below, or -1."""
    count = wanted.numel()
    index = torch.arange(count, device=wanted.device).view(wanted.shape)
    last, next_ = torch.where(wanted, index, -1), torch.where(wanted, index, count)
    before = [last.cummax(dim).values for dim in (1, 0)]
    after = [next_.flip(dim).cummin(dim).values.flip(dim) for dim in (1, 0)]
    found = torch.stack([*before, *after])
    return torch.where(found < count, found, -1)
