"""Loss of the stereo network: the distance of its positions, and of its features' costs."""

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.stereo.features import compare_features
from models.stereo.network import StereoNetwork
from models.stereo.plane_sweep import Comparison, sweep
from models.stereo.semi_global import (
    SgmResult,
    matching_cost,
    position_to_depth,
    semi_global_matching,
)
from models.stereo.smoothing import consistency
from models.training.stereo_examples import StereoExample

HIDDEN_WEIGHT = 0.4  # what the other view does not see must be guessed: it counts for less
FEATURE_SHARPNESS = 6.0  # of the distribution over planes by costs before aggregation
FEATURE_WEIGHT = 0.1  # of the loss of that distribution, which is several times larger


def compare(network: StereoNetwork, example: StereoExample) -> Comparison:
    """All that the views say of each other's planes; features with gradients."""
    size = (example.reference.shape[-2], example.reference.shape[-1])
    identity = torch.eye(4, device=example.reference.device).expand(len(example.reference), 4, 4)
    cameras = (
        Camera(example.reference_intrinsics, identity, size),
        Camera(example.source_intrinsics, example.reference2source, size),
        example.inverse_depths,
    )
    with torch.no_grad():
        correlation, difference, seen = sweep(
            example.reference, example.source, example.tolerance, *cameras
        )
    features = network.features(example.reference)
    of_sources = features.roll(len(features) // 2, 0)
    similarity = compare_features(features, of_sources, *cameras, planes_per_step=1)
    return Comparison(correlation, difference, similarity * seen, seen)


@torch.no_grad()
def find_matches(
    compared: Comparison, example: StereoExample
) -> tuple[SgmResult, Float[Tensor, "batch height width"]]:
    """What the stereo network is to improve, and how well the other view agrees with it."""
    found = semi_global_matching(compared, example.reference, example.prior)
    count, steps = example.inverse_depths.shape
    depth = position_to_depth(found.position, example.inverse_depths, steps)
    step = (example.inverse_depths[:, 0] - example.inverse_depths[:, -1]) / (steps - 1)
    pairs = count // 2
    identity = torch.eye(4, device=depth.device).expand(pairs, 4, 4)
    world2cam = torch.cat([identity, example.reference2source[:pairs]])
    height, width = depth.shape[-2:]
    views = [
        DepthMap(image, values, confidence, Camera(matrix, pose, (height, width)))
        for image, values, confidence, matrix, pose in zip(
            example.reference, depth, found.confidence, example.reference_intrinsics, world2cam,
            strict=True,
        )
    ]  # fmt: skip
    confirmed = [
        consistency(view, views[index - pairs], float(step[index]))
        for index, view in enumerate(views)
    ]
    return found, torch.stack(confirmed)


def predict(
    network: StereoNetwork, example: StereoExample
) -> tuple[Float[Tensor, "batch height width"], Comparison]:
    """Positions that sweep, match and network find in an example, and what they rest on."""
    compared = compare(network, example)
    found, confirmed = find_matches(compared, example)
    return network(found, confirmed, example.reference, example.prior), compared


def feature_loss(compared: Comparison, example: StereoExample) -> Float[Tensor, ""]:
    """Cross-entropy of the true positions that the other view sees, before aggregation.

    Features learn to add what correlation and colors lack. A position
    between two planes is shared between them.
    """
    logits = (-FEATURE_SHARPNESS * matching_cost(compared)).log_softmax(1)
    low = example.position[:, None].floor().clamp(max=logits.shape[1] - 2)
    share = example.position[:, None] - low
    lower, upper = logits.gather(1, low.long()), logits.gather(1, low.long() + 1)
    entropy = -torch.lerp(lower, upper, share)[:, 0]
    return (entropy * example.visible).sum() / example.visible.sum().clamp(min=1)


def stereo_loss(
    position: Float[Tensor, "batch height width"], compared: Comparison, example: StereoExample
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Logarithm of the distance in steps: one lost pixel does not outweigh many; `feature_loss`.

    Returns:
        The loss, and numbers to log: mean error in steps and share of errors above two steps,
        both where the other view sees the point.
    """
    weight = torch.where(example.visible, 1.0, HIDDEN_WEIGHT)
    error = (position - example.position).abs()
    seen = error.detach()[example.visible]
    details = {"error": seen.mean().item(), "bad2": (seen > 2).float().mean().item()}
    return (weight * error.log1p()).mean() + FEATURE_WEIGHT * feature_loss(
        compared, example
    ), details
