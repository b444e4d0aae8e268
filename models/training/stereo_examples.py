"""Training examples of the stereo network, made of procedural worlds."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from models.data.procedural import WorldBatch
from models.geometry.camera import Camera, pixel_grid
from models.geometry.depth_map import DepthMap, covered
from models.geometry.rigid import invert, se3_exponential
from models.stereo.color_transfer import match_colors
from models.stereo.plane_sweep import inverse_depth_planes
from models.stereo.prior import SurfacePrior, triangulated_prior

MAX_MATCHES = 500  # imitated ones
OUTLIER_SHARE = 0.03
MATCH_NOISE, OUTLIER_NOISE = 0.3, 15.0  # steps
COLOR_SAMPLES = 200  # points from which colors are matched
POSE_NOISE_RAD = 0.0015
POSE_NOISE = 0.008  # of the baseline


@dataclass(frozen=True)
class StereoExample:
    """Pairs of images with estimated poses and the true positions of their pixels.

    The second half of the batch is the first half with the views exchanged. `source` has the
    reference's colors, up to `tolerance`; the reference camera is the world.
    """

    reference: Float[Tensor, "batch 3 height width"]
    source: Float[Tensor, "batch 3 height width"]
    tolerance: Float[Tensor, " batch"]
    reference_camera: Camera
    source_camera: Camera
    inverse_depths: Float[Tensor, "batch plane"]
    position: Float[Tensor, "batch height width"]  # steps
    visible: Bool[Tensor, "batch height width"]  # in the source
    prior: SurfacePrior


def make_example(
    world: WorldBatch,
    images: Float[Tensor, "batch 2 3 height width"],
    steps: int,
    generator: torch.Generator,
) -> StereoExample:
    """Turn two-view worlds into pairs in both directions at half size.

    The range of the planes and the pose differ from the true ones: in use, both are estimates.
    """
    device = images.device
    small = functional.avg_pool2d(images.flatten(0, 1), 2).unflatten(0, images.shape[:2])
    depth = world.depth.unfold(2, 2, 2).unfold(3, 2, 2).flatten(-2).median(-1).values
    reference, source = _both_ways(small)
    reference_depth, source_depth = _both_ways(depth)
    reference_intrinsics, source_intrinsics = _both_ways(world.cameras.intrinsics)
    first2second = world.cameras.world2cam[:, 1]  # the first camera is the world
    count, size = len(reference), (depth.shape[-2], depth.shape[-1])
    identity = torch.eye(4, device=device).expand(count, 4, 4)
    reference_camera = Camera(reference_intrinsics, identity, size)
    true_camera = Camera(source_intrinsics, torch.cat([first2second, invert(first2second)]), size)
    visible, recolored = [], []
    for index in range(count):
        one, other = (
            DepthMap(image[index], z[index], torch.ones_like(z[index]), camera[index])
            for image, z, camera in (
                (reference, reference_depth, reference_camera),
                (source, source_depth, true_camera),
            )
        )
        visible.append(covered(one, other))
        recolored.append(_match_colors(one, other, visible[-1], generator))
    inverse = 1 / reference_depth.flatten(1)
    nearest = torch.quantile(inverse, 0.995, dim=1) * _uniform(count, 0.95, 1.5, generator, device)
    farthest = torch.quantile(inverse, 0.02, dim=1) * _uniform(count, 0.0, 1.0, generator, device)
    inverse_depths = inverse_depth_planes(1 / nearest, 1 / farthest.clamp(min=1e-4), steps)
    step = (inverse_depths[:, -1] - inverse_depths[:, 0]) / (steps - 1)
    position = (1 / reference_depth - inverse_depths[:, 0, None, None]) / step[:, None, None]
    twist = torch.randn(count // 2, 6, generator=generator, device=generator.device).to(device)
    twist[:, :3] *= POSE_NOISE * first2second[:, :3, 3].norm(dim=-1, keepdim=True)
    twist[:, 3:] *= POSE_NOISE_RAD
    estimated = se3_exponential(twist) @ first2second
    return StereoExample(
        reference=reference,
        source=torch.stack([image for image, _ in recolored]),
        tolerance=torch.stack([tolerance for _, tolerance in recolored]),
        reference_camera=reference_camera,
        source_camera=Camera(source_intrinsics, torch.cat([estimated, invert(estimated)]), size),
        inverse_depths=inverse_depths,
        position=position.clamp(0, steps - 1),
        visible=torch.stack(visible),
        prior=imitate_matches(reference, position, torch.stack(visible), generator),
    )


def imitate_matches(
    images: Float[Tensor, "batch 3 height width"],
    position: Float[Tensor, "batch height width"],
    visible: Bool[Tensor, "batch height width"],
    generator: torch.Generator,
) -> SurfacePrior:
    """Return the prior of random points such as matching would find: on texture, in patches.

    There are up to `MAX_MATCHES`, often few, and one time in six none.

    Args:
        images: The reference images.
        position: True positions of their pixels, in steps.
        visible: Pixels that may be matched.
        generator: The only source of randomness.
    """
    device = images.device
    gray = images.mean(1, keepdim=True)
    texture = functional.max_pool2d(gray, 3, 1, 1) + functional.max_pool2d(-gray, 3, 1, 1)
    size = (texture.shape[-2], texture.shape[-1])
    patches = torch.rand(len(images), 1, 5, 5, generator=generator, device=generator.device)
    in_patch = functional.interpolate(patches.to(device), size, mode="bilinear")[:, 0] > 0.4
    weight = (texture[:, 0] + 0.01) * in_patch * visible
    grid = pixel_grid(size, images).flatten(0, 1)
    priors = []
    for index in range(len(images)):
        fraction = max(0.0, float(_uniform(1, -0.2, 1.0, generator, device))) ** 2
        number = min(int(MAX_MATCHES * fraction), int((weight[index] > 0).sum()))
        numbers = torch.rand(weight[index].numel(), generator=generator, device=generator.device)
        # The smallest of exponential variables are a sample in proportion to their rates.
        times = -numbers.clamp(min=1e-9).log().to(device) / weight[index].flatten()
        points = times.topk(number, largest=False).indices
        noise = torch.randn(len(points), generator=generator, device=generator.device).to(device)
        is_outlier = _uniform(len(points), 0.0, 1.0, generator, device) < OUTLIER_SHARE
        noise = noise * torch.where(is_outlier, OUTLIER_NOISE, MATCH_NOISE)
        matched = position[index].flatten()[points] + noise
        priors.append(triangulated_prior(grid[points], matched, size))
    return SurfacePrior(
        torch.cat([prior.position for prior in priors]),
        torch.cat([prior.weight for prior in priors]),
    )


def _match_colors(
    reference: DepthMap,
    source: DepthMap,
    visible: Bool[Tensor, "height width"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "3 height width"], Float[Tensor, ""]]:
    """Return `match_colors` at random points that both images show."""
    shared = visible.flatten().nonzero()[:, 0]
    if len(shared):
        numbers = _uniform(COLOR_SAMPLES, 0.0, float(len(shared)), generator, shared.device)
        shared = shared[numbers.long().clamp(max=len(shared) - 1)]
    points = reference.camera.unproject(reference.depth).flatten(0, 1)[shared]
    coordinates, _ = source.camera.project(points)
    grid = pixel_grid(reference.camera.size, reference.depth).flatten(0, 1)
    return match_colors(reference.image, source.image, grid[shared], coordinates)


def _both_ways(
    pairs: Float[Tensor, "batch 2 *rest"],
) -> tuple[Float[Tensor, "both ..."], Float[Tensor, "both ..."]]:
    """Return first and second of every pair, then second and first."""
    return torch.cat([pairs[:, 0], pairs[:, 1]]), torch.cat([pairs[:, 1], pairs[:, 0]])


def _uniform(
    count: int, low: float, high: float, generator: torch.Generator, device: torch.device
) -> Float[Tensor, " count"]:
    numbers = torch.rand(count, generator=generator, device=generator.device)
    return (low + (high - low) * numbers).to(device)
