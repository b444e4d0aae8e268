"""Prediction and loss of the stereo network in training."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

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

OCCLUDED_WEIGHT = 0.4  # of pixels that the source does not show, whose depth must be guessed
FEATURE_SHARPNESS = 6.0  # of the softmax over planes of negative costs
FEATURE_WEIGHT = 0.1  # of `feature_loss`, which is several times larger than the other term


def predict(
    network: StereoNetwork, example: StereoExample
) -> tuple[Float[Tensor, "batch height width"], Comparison]:
    """Return the network's positions in an example, and the comparison that they rest on."""
    comparison = compare(network, example)
    matches, consistent = match(comparison, example)
    return network(matches, consistent, example.reference, example.prior), comparison


def compare(network: StereoNetwork, example: StereoExample) -> Comparison:
    """Compare every pair on every plane; features have gradients."""
    cameras = example.reference_camera, example.source_camera, example.inverse_depths
    with torch.no_grad():
        correlation, difference, seen = sweep(
            example.reference, example.source, example.tolerance, *cameras
        )
    features = network.features(example.reference)
    source_features = features.roll(len(features) // 2, 0)
    similarity = compare_features(features, source_features, *cameras, planes_per_step=1)
    return Comparison(correlation, difference, similarity * seen, seen)


@torch.no_grad()
def match(
    comparison: Comparison, example: StereoExample
) -> tuple[SgmResult, Float[Tensor, "batch height width"]]:
    """Return semi-global matches, which the network improves, and their left-right consistency."""
    matches = semi_global_matching(comparison, example.reference, example.prior)
    count, steps = example.inverse_depths.shape
    depth = position_to_depth(matches.position, example.inverse_depths, steps)
    step = (example.inverse_depths[:, 0] - example.inverse_depths[:, -1]) / (steps - 1)
    pairs = count // 2
    poses = torch.cat(  # of both views of a pair in the first one's frame
        [example.reference_camera.world2cam[:pairs], example.source_camera.world2cam[:pairs]]
    )
    cameras = replace(example.reference_camera, world2cam=poses)
    maps = [
        DepthMap(example.reference[index], depth[index], matches.confidence[index], cameras[index])
        for index in range(count)
    ]
    consistent = [
        consistency(one, maps[index - pairs], float(step[index])) for index, one in enumerate(maps)
    ]
    return matches, torch.stack(consistent)


def feature_loss(comparison: Comparison, example: StereoExample) -> Float[Tensor, ""]:
    """Return the cross-entropy of the true planes of visible pixels, before aggregation.

    Features learn what correlation and colors lack. Positions between two planes count for both,
    in proportion.
    """
    logits = (-FEATURE_SHARPNESS * matching_cost(comparison)).log_softmax(1)
    low = example.position[:, None].floor().clamp(max=logits.shape[1] - 2)
    fraction = example.position[:, None] - low
    lower, upper = logits.gather(1, low.long()), logits.gather(1, low.long() + 1)
    entropy = -torch.lerp(lower, upper, fraction)[:, 0]
    return (entropy * example.visible).sum() / example.visible.sum().clamp(min=1)


def stereo_loss(
    position: Float[Tensor, "batch height width"], comparison: Comparison, example: StereoExample
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Return the mean of log(1 + error in steps), plus a weighted `feature_loss`.

    Returns:
        The loss, and of visible pixels, for the log, the mean error in steps and the fraction of
        errors above two steps.
    """
    weight = torch.where(example.visible, 1.0, OCCLUDED_WEIGHT)
    error = (position - example.position).abs()
    visible = error.detach()[example.visible]
    details = {"error": visible.mean().item(), "bad2": (visible > 2).float().mean().item()}
    return (weight * error.log1p()).mean() + FEATURE_WEIGHT * feature_loss(
        comparison, example
    ), details
