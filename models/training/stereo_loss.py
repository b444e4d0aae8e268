"""Training of the stereo network on procedural worlds, where depth is exact."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from models.data.procedural import WorldBatch
from models.geometry.camera import Camera, pixel_grid, project, unproject
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import invert, se3_exponential
from models.stereo.color_transfer import in_colors_of
from models.stereo.features import compare_features
from models.stereo.network import StereoNetwork
from models.stereo.plane_sweep import Comparison, inverse_depth_planes, sweep
from models.stereo.prior import SurfacePrior, span_surface
from models.stereo.semi_global import Match, match, matching_cost, position_to_depth
from models.stereo.smoothing import agreement

MOST_POINTS, WRONG, NOISE = 500, 0.03, 0.3  # imitated matches: at most, share off, steps
HIDDEN_WEIGHT = 0.4  # what the other view does not see must be guessed: it counts for less
SHARED_POINTS = 200  # from which colors are made the same
FEATURE_SHARPNESS = 6.0  # of the distribution over planes by costs before aggregation
FEATURE_WEIGHT = 0.1  # of the loss of that distribution, which is several times larger


@dataclass(frozen=True)
class StereoExample:
    """Pairs as the stereo network meets them, with the truth.

    The second half of the batch is the first half with the views exchanged; `position` is in steps.
    `source` has the reference's colors, as far as `tolerance`.
    """

    reference: Float[Tensor, "batch 3 height width"]
    source: Float[Tensor, "batch 3 height width"]
    tolerance: Float[Tensor, " batch"]
    reference_intrinsics: Float[Tensor, "batch 3 3"]
    source_intrinsics: Float[Tensor, "batch 3 3"]
    reference2source: Float[Tensor, "batch 4 4"]
    inverse_depths: Float[Tensor, "batch plane"]
    position: Float[Tensor, "batch height width"]
    visible: Bool[Tensor, "batch height width"]
    prior: SurfacePrior


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
    steps: int,
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
    inverse_depths = inverse_depth_planes(1 / nearest, 1 / farthest.clamp(min=1e-4), steps)
    step = (inverse_depths[:, -1] - inverse_depths[:, 0]) / (steps - 1)
    position = (1 / reference_depth - inverse_depths[:, 0, None, None]) / step[:, None, None]
    twist = torch.randn(count // 2, 6, generator=generator, device=generator.device).to(device)
    twist[:, :3] *= 0.008 * first2second[:, :3, 3].norm(dim=-1, keepdim=True)
    twist[:, 3:] *= 0.0015
    disturbed = se3_exponential(twist) @ first2second
    reference, source = both_ways(small)
    recolored = [
        _in_the_same_colors(
            reference[at], source[at], reference_depth[at], visible[at],
            reference_intrinsics[at], source_intrinsics[at], reference2source[at], generator,
        )
        for at in range(count)
    ]  # fmt: skip
    return StereoExample(
        reference=reference,
        source=torch.stack([photo for photo, _ in recolored]),
        tolerance=torch.stack([tolerance for _, tolerance in recolored]),
        reference_intrinsics=reference_intrinsics,
        source_intrinsics=source_intrinsics,
        reference2source=torch.cat([disturbed, invert(disturbed)]),
        inverse_depths=inverse_depths,
        position=position.clamp(0, steps - 1),
        visible=visible,
        prior=imitate_matches(reference, position, visible, generator),
    )


def _in_the_same_colors(
    reference: Float[Tensor, "3 height width"],
    source: Float[Tensor, "3 height width"],
    depth: Float[Tensor, "height width"],
    visible: Bool[Tensor, "height width"],
    intrinsics: Float[Tensor, "3 3"],
    source_intrinsics: Float[Tensor, "3 3"],
    reference2source: Float[Tensor, "4 4"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "3 height width"], Float[Tensor, ""]]:
    """What `in_colors_of` makes of random points that both photos show."""
    there = visible.flatten().nonzero()[:, 0]
    drawn = uniform(SHARED_POINTS, 0.0, float(len(there)), generator, depth.device).long()
    chosen = there[drawn.clamp(max=len(there) - 1)] if len(there) else there
    identity = torch.eye(4, device=depth.device)
    points = unproject(depth, identity, intrinsics).flatten(0, 1)[chosen]
    coordinates, _ = project(points, reference2source, source_intrinsics)
    grid = pixel_grid((depth.shape[0], depth.shape[1]), depth).flatten(0, 1)
    return in_colors_of(reference, source, grid[chosen], coordinates)


def imitate_matches(
    images: Float[Tensor, "batch 3 height width"],
    position: Float[Tensor, "batch height width"],
    visible: Bool[Tensor, "batch height width"],
    generator: torch.Generator,
) -> SurfacePrior:
    """Surfaces spanned by random points, such as matching would find: on texture, in patches.

    Up to `MOST_POINTS` of what both views see, nearly right but for a few; often there are few
    points, and one time in six there are none.
    """
    device = images.device
    flat = functional.max_pool2d(images.mean(1, keepdim=True), 3, 1, 1)
    texture = (flat + functional.max_pool2d(-images.mean(1, keepdim=True), 3, 1, 1))[:, 0]
    size = (texture.shape[-2], texture.shape[-1])
    patches = torch.rand(len(images), 1, 5, 5, generator=generator, device=generator.device).to(
        device
    )
    patchy = functional.interpolate(patches, size, mode="bilinear")[:, 0] > 0.4
    chance = (texture + 0.01) * patchy * visible
    grid = pixel_grid(size, images).flatten(0, 1)
    priors = []
    for index in range(len(images)):
        share = max(0.0, float(uniform(1, -0.2, 1.0, generator, device)))
        wanted = int(MOST_POINTS * share**2)
        there = int((chance[index] > 0).sum())
        drawn = torch.rand(chance[index].numel(), generator=generator, device=generator.device)
        # Exponential races: the smallest are a sample in proportion to the chances.
        race = -drawn.clamp(min=1e-9).log().to(device) / chance[index].flatten()
        points = race.topk(min(wanted, there), largest=False).indices
        noise = torch.randn(len(points), generator=generator, device=generator.device).to(device)
        off = uniform(len(points), 0.0, 1.0, generator, device) < WRONG
        found = position[index].flatten()[points] + NOISE * noise * torch.where(off, 50.0, 1.0)
        priors.append(span_surface(grid[points], found, size))
    return SurfacePrior(
        torch.cat([prior.position for prior in priors]),
        torch.cat([prior.trust for prior in priors]),
    )


def compare(network: StereoNetwork, example: StereoExample) -> Comparison:
    """All that the views say of each other's planes; features with gradients."""
    cameras = (
        example.reference_intrinsics,
        example.source_intrinsics,
        example.reference2source,
        example.inverse_depths,
    )
    with torch.no_grad():
        correlation, difference, seen = sweep(
            example.reference, example.source, example.tolerance, *cameras
        )
    features = network.features(example.reference)
    of_sources = features.roll(len(features) // 2, 0)
    size = (seen.shape[-2], seen.shape[-1])
    similarity = compare_features(features, of_sources, *cameras, 1, size)
    return Comparison(correlation, difference, similarity * seen, seen)


@torch.no_grad()
def find_matches(
    compared: Comparison, example: StereoExample
) -> tuple[Match, Float[Tensor, "batch height width"]]:
    """What the stereo network is to improve, and how well the other view agrees with it."""
    found = match(compared, example.reference, example.prior)
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
            example.reference, depth, found.certainty, example.reference_intrinsics, world2cam,
            strict=True,
        )
    ]  # fmt: skip
    confirmed = [
        agreement(view, views[index - pairs], float(step[index]))
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
