"""Training of the stereo network on procedural worlds, where depth is exact."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from models.camera import invert, project, se3_exponential, unproject
from models.data.procedural import WorldBatch
from models.stereo.network import StereoDepth, StereoNetwork
from models.stereo.sweep import inverse_depth_planes, sweep

HIDDEN_WEIGHT = 0.3  # what the other view does not see must be guessed: it counts for less


@dataclass(frozen=True)
class StereoExample:
    """Pairs as the stereo network meets them, with the truth."""

    reference: Float[Tensor, "batch 3 height width"]
    source: Float[Tensor, "batch 3 height width"]
    reference_intrinsics: Float[Tensor, "batch 3 3"]
    source_intrinsics: Float[Tensor, "batch 3 3"]
    reference2source: Float[Tensor, "batch 4 4"]
    inverse_depths: Float[Tensor, "batch plane"]
    position: Float[Tensor, "batch height width"]
    visible: Bool[Tensor, "batch height width"]


def uniform(
    count: int, low: float, high: float, generator: torch.Generator, device: torch.device
) -> Float[Tensor, " count"]:
    """Random numbers between two bounds, drawn where the generator lives."""
    numbers = torch.rand(count, generator=generator, device=generator.device)
    return (low + (high - low) * numbers).to(device)


def visible_in(
    depth: Float[Tensor, "batch height width"],
    other_depth: Float[Tensor, "batch height width"],
    intrinsics: Float[Tensor, "batch 3 3"],
    other_intrinsics: Float[Tensor, "batch 3 3"],
    this2other: Float[Tensor, "batch 4 4"],
    tolerance: float = 0.03,
) -> Bool[Tensor, "batch height width"]:
    """Whether the other view sees each point: inside its image, and nothing in front of it."""
    identity = torch.eye(4, device=depth.device).expand(len(depth), 4, 4)
    points = unproject(depth, identity, intrinsics).flatten(1, 2)
    coordinates, z = project(points, this2other, other_intrinsics)
    inside = (z > 0) & (coordinates > 0).all(-1) & (coordinates < 1).all(-1)
    grid = (coordinates * 2 - 1).clamp(-2, 2)[:, None]
    there = functional.grid_sample(
        other_depth[:, None], grid, mode="nearest", align_corners=False, padding_mode="border"
    )[:, 0, 0]
    return (inside & (z < there * (1 + tolerance))).unflatten(1, depth.shape[1:])


def both_ways(
    pairs: Float[Tensor, "batch 2 *rest"],
) -> tuple[Float[Tensor, "both ..."], Float[Tensor, "both ..."]]:
    """First and second of every pair, then second and first."""
    return torch.cat([pairs[:, 0], pairs[:, 1]]), torch.cat([pairs[:, 1], pairs[:, 0]])


def make_example(
    world: WorldBatch,
    images: Float[Tensor, "batch 2 3 height width"],
    planes: int,
    generator: torch.Generator,
) -> StereoExample:
    """Turn two-view worlds into pairs in both directions at half size.

    The range of the planes is drawn around the true one and the pose is disturbed a little: in
    use, both are estimates.
    """
    device = images.device
    small = functional.avg_pool2d(images.flatten(0, 1), 2).unflatten(0, images.shape[:2])
    patches = world.depth.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2)
    depth = patches.median(-1).values
    first2second = invert(world.cam2world[:, 1])  # the first camera is the world
    reference_depth, source_depth = both_ways(depth)
    reference_intrinsics, source_intrinsics = both_ways(world.intrinsics)
    reference2source = torch.cat([first2second, invert(first2second)])
    visible = visible_in(
        reference_depth, source_depth, reference_intrinsics, source_intrinsics, reference2source
    )
    count = len(reference_depth)
    spread = 1 / reference_depth.flatten(1)
    nearest = torch.quantile(spread, 0.995, dim=1) * uniform(count, 0.95, 1.5, generator, device)
    farthest = torch.quantile(spread, 0.02, dim=1) * uniform(count, 0.0, 1.0, generator, device)
    inverse_depths = inverse_depth_planes(1 / nearest, 1 / farthest.clamp(min=1e-4), planes)
    step = (inverse_depths[:, -1] - inverse_depths[:, 0]) / (planes - 1)
    position = (1 / reference_depth - inverse_depths[:, 0, None, None]) / step[:, None, None]
    twist = torch.randn(count, 6, generator=generator, device=generator.device).to(device)
    baseline = first2second[:, :3, 3].norm(dim=-1).repeat(2)
    twist[:, :3] *= 0.008 * baseline[:, None]
    twist[:, 3:] *= 0.0015
    return StereoExample(
        reference=both_ways(small)[0],
        source=both_ways(small)[1],
        reference_intrinsics=reference_intrinsics,
        source_intrinsics=source_intrinsics,
        reference2source=se3_exponential(twist) @ reference2source,
        inverse_depths=inverse_depths,
        position=position.clamp(0, planes - 1),
        visible=visible,
    )


def predict(network: StereoNetwork, example: StereoExample) -> StereoDepth:
    """Run sweep and network on an example."""
    features = sweep(
        example.reference,
        example.source,
        example.reference_intrinsics,
        example.source_intrinsics,
        example.reference2source,
        example.inverse_depths,
    )
    return network(features, example.reference)


def stereo_loss(
    predicted: StereoDepth, example: StereoExample
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Cross-entropy over planes, distance in planes, and the two binary outputs.

    Returns:
        The loss, and numbers to log: mean error in planes and share of errors above two planes,
        both where the other view sees the point.
    """
    planes = predicted.logits.shape[1]
    weight = torch.where(example.visible, 1.0, HIDDEN_WEIGHT)
    low = example.position.floor().clamp(max=planes - 2).long()
    fraction = example.position - low
    log_likelihood = predicted.logits.log_softmax(1)
    at_low = log_likelihood.gather(1, low[:, None])[:, 0]
    at_high = log_likelihood.gather(1, low[:, None] + 1)[:, 0]
    classification = -(at_low * (1 - fraction) + at_high * fraction)
    error = (predicted.position - example.position).abs()
    right = (error.detach() < 1).float()
    loss = (weight * (classification + 0.2 * error.clamp(max=4))).mean()
    loss = loss + 0.3 * functional.binary_cross_entropy_with_logits(
        predicted.confidence_logit, right
    )
    loss = loss + 0.3 * functional.binary_cross_entropy_with_logits(
        predicted.visible_logit, example.visible.float()
    )
    seen = error.detach()[example.visible]
    return loss, {"error": seen.mean().item(), "bad2": (seen > 2).float().mean().item()}
