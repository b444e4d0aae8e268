"""Covisibility of views with exact depth."""

from jaxtyping import Bool
from torch import Tensor

from models.data.procedural import FAR
from models.geometry.depth_map import DepthMap, covered


def covisible(view: DepthMap, other: DepthMap) -> Bool[Tensor, "height width"]:
    """Mark the pixels of a view whose points another view shows, unoccluded; never the sky."""
    return covered(view, other) & (view.depth < FAR)


def overlap(first: DepthMap, second: DepthMap) -> float:
    """Return the share of a view, the sky aside, that the other shows too; the smaller of two."""
    return min(
        float(covisible(view, other).sum() / (view.depth < FAR).sum().clamp_min(1))
        for view, other in ((first, second), (second, first))
    )
