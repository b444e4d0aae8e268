"""Fit where centers start to encoded worlds, before the network learns: in a minute, not hours."""

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural import FAR
from models.geometry.camera import camera_rays
from models.geometry.spherical_harmonics import ray_features
from models.network.noposplat import NoPoSplat
from models.training.center_losses import PairBatch

MEASURED_BATCHES = 16  # for means, deviations and principal components
RIDGE = 0.05  # of the diagonal
LEARNING_RATE = 2e-3
OCCLUDED = 0.1  # relative difference of depths above which a point is behind another


def patch_depth(batch: PairBatch, patch: int) -> Float[Tensor, "batch view patch"]:
    """Return the depth at the middle of every patch."""
    half = patch // 2
    return batch.depth[:, :, half::patch, half::patch].flatten(2)


@torch.no_grad()
def measure_features(network: NoPoSplat, batches: Iterable[PairBatch]) -> None:
    """Set the mean and deviation of every channel: a few are ten times as large as others."""
    tokens = torch.cat([batch.encoded[:, 0].flatten(0, 1) for batch in batches])
    network.backbone.feature_mean.copy_(tokens.mean(0))
    network.backbone.feature_deviation.copy_(tokens.std(0).clamp(min=0.1))


@torch.no_grad()
def fit_distances(network: NoPoSplat, batches: Iterable[PairBatch]) -> None:
    """Fit logarithmic distances by ridge regression; every scene's mean is 0."""
    layer, degree, patch = (
        network.anchors.distance,
        network.config.ray_degree,
        network.config.patch_size,
    )
    products = torch.zeros(layer.in_features, layer.in_features)
    responses = torch.zeros(layer.in_features)
    mean = torch.zeros(layer.in_features)
    count = 0
    for batch in batches:
        grid = network.backbone.grid(batch.cameras.size)
        harmonics = ray_features(batch.cameras.intrinsics, grid, degree).flatten(2, 3)
        inputs = torch.cat(
            [network.backbone.standardize(batch.encoded), harmonics], dim=-1
        ).flatten(1, 2)
        depth = patch_depth(batch, patch).flatten(1)
        seen = (depth < 0.8 * FAR).float()
        total = seen.sum(1, keepdim=True).clamp(min=1)
        target = depth.clamp(1e-3, FAR).log()
        target = (target - (target * seen).sum(1, keepdim=True) / total) * seen
        middle = (inputs * seen[..., None]).sum(1, keepdim=True) / total[..., None]
        centered = ((inputs - middle) * seen[..., None]).flatten(0, 1)
        products += centered.mT @ centered
        responses += centered.mT @ target.flatten()
        mean += middle.sum((0, 1))
        count += len(inputs)
    damping = RIDGE * products.diagonal() + 1e-3
    weight = torch.linalg.solve(products + damping.diag(), responses)
    layer.weight.copy_(weight)
    layer.bias.fill_(-float(weight @ mean / count))


@torch.no_grad()
def initialize_descriptors(network: NoPoSplat, batches: Iterable[PairBatch]) -> None:
    """Project features on their first principal components, the later ones raised a little."""
    layer = network.anchors.describe
    tokens = torch.cat(
        [network.backbone.standardize(batch.encoded)[:, 0].flatten(0, 1) for batch in batches]
    )
    values, vectors = torch.linalg.eigh(tokens.mT @ tokens / len(tokens))
    first = vectors.flip(1)[:, : layer.out_features]
    layer.weight.copy_((first / values.flip(0)[: layer.out_features] ** 0.25).mT)
    layer.bias.zero_()


def match_loss(
    weights: Float[Tensor, "batch other token token_and_none"],
    batch: PairBatch,
    grid: tuple[int, int],
    patch: int,
) -> Float[Tensor, ""]:
    """Return the cross-entropy of matches of the second view's patches in the first.

    The truth lies between up to four patches; what the first view does not show has no match.
    """
    height, width = grid
    depth = patch_depth(batch, patch)
    rays = camera_rays(batch.cameras.intrinsics, grid).flatten(2, 3)[:, 1]
    points = rays * depth[:, 1, :, None]
    in_world = points @ batch.cameras.cam2world[:, 1, :3, :3].mT + batch.cameras.center[:, 1, None]
    first = batch.cameras[:, 0]
    pixels, z = first.project(in_world)
    position = pixels * torch.tensor([width, height]) - 0.5
    inside = ((pixels > 0) & (pixels < 1)).all(-1) & (z > 0) & (depth[:, 1] < 0.8 * FAR)
    rounded = position.round().long()
    nearest = rounded[..., 0].clamp(0, width - 1) + rounded[..., 1].clamp(0, height - 1) * width
    behind = z > depth[:, 0].gather(1, nearest) * (1 + OCCLUDED)
    matched = inside & ~behind
    target = torch.zeros_like(weights[:, 0])
    low = position.floor()
    share = position - low
    for dx in (0, 1):
        for dy in (0, 1):
            x = (low[..., 0] + dx).clamp(0, width - 1).long()
            y = (low[..., 1] + dy).clamp(0, height - 1).long()
            part = (share[..., 0] if dx else 1 - share[..., 0]) * (
                share[..., 1] if dy else 1 - share[..., 1]
            )
            target.scatter_add_(2, (x + y * width)[..., None], (part * matched)[..., None])
    target[..., -1] = (~matched).float()
    weight = torch.where(matched, 1.0, 0.2)
    return -((target * weights[:, 0]).sum(-1) * weight).sum() / weight.sum()


def fit_descriptors(network: NoPoSplat, batches: Iterable[PairBatch]) -> list[float]:
    """Learn to match patches, a step for every batch; return the losses."""
    learning = [
        *network.anchors.describe.parameters(),
        network.anchors.log_sharpness,
        network.anchors.unmatched,
    ]
    optimizer = torch.optim.AdamW(learning, LEARNING_RATE, weight_decay=1e-3)
    losses = []
    for batch in batches:
        grid = network.backbone.grid(batch.cameras.size)
        loss = match_loss(
            network.anchors.match(network.backbone.standardize(batch.encoded), grid),
            batch,
            grid,
            network.config.patch_size,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def fit_start(
    network: NoPoSplat, average: NoPoSplat, batches: Iterator[PairBatch], steps: int
) -> list[float]:
    """Fit the anchors of a new run's network, on the CPU; return the losses of matching."""
    device = next(network.parameters()).device
    network.cpu()
    learns = [parameter.requires_grad for parameter in network.anchors.parameters()]
    network.anchors.requires_grad_(True)
    first = list(islice(batches, MEASURED_BATCHES))
    measure_features(network, first)
    initialize_descriptors(network, first)
    fit_distances(network, islice(batches, steps // 4))
    losses = fit_descriptors(network, islice(batches, steps))
    for parameter, learning in zip(network.anchors.parameters(), learns, strict=True):
        parameter.requires_grad_(learning)
        parameter.grad = None
    average.load_state_dict(network.state_dict())
    network.to(device)
    return losses
