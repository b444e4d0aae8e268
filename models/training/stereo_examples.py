"""Pairs of photos as the stereo network meets them, made of procedural worlds."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from models.data.procedural import WorldBatch
from models.geometry.camera import Camera, pixel_grid, project
from models.geometry.rigid import invert, se3_exponential
from models.geometry.sampling import sample_nearest
from models.stereo.color_transfer import match_colors
from models.stereo.plane_sweep import inverse_depth_planes
from models.stereo.prior import SurfacePrior, triangulated_prior

MOST_POINTS, WRONG, NOISE = 500, 0.03, 0.3  # imitated matches: at most, share off, steps
SHARED_POINTS = 200  # from which colors are made the same


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
    size = (depth.shape[1], depth.shape[2])
    points = Camera(intrinsics, identity, size).unproject(depth).flatten(1, 2)
    coordinates, z = project(points, this2other, other_intrinsics)
    inside = (z > 0) & (coordinates > 0).all(-1) & (coordinates < 1).all(-1)
    there = sample_nearest(other_depth[:, None], coordinates)[:, 0]
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
    first2second = world.cameras.world2cam[:, 1]  # the first camera is the world
    reference_depth, source_depth = both_ways(depth)
    reference_intrinsics, source_intrinsics = both_ways(world.cameras.intrinsics)
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
    """What `match_colors` makes of random points that both photos show."""
    there = visible.flatten().nonzero()[:, 0]
    drawn = uniform(SHARED_POINTS, 0.0, float(len(there)), generator, depth.device).long()
    chosen = there[drawn.clamp(max=len(there) - 1)] if len(there) else there
    identity = torch.eye(4, device=depth.device)
    size = (depth.shape[0], depth.shape[1])
    points = Camera(intrinsics, identity, size).unproject(depth).flatten(0, 1)[chosen]
    coordinates, _ = project(points, reference2source, source_intrinsics)
    grid = pixel_grid(size, depth).flatten(0, 1)
    return match_colors(reference, source, grid[chosen], coordinates)


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
        priors.append(triangulated_prior(grid[points], found, size))
    return SurfacePrior(
        torch.cat([prior.position for prior in priors]),
        torch.cat([prior.weight for prior in priors]),
    )
