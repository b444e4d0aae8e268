"""Augmentation: artifacts of phone cameras, and worlds that are mirrored and recolored."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural import WorldBatch
from models.geometry.camera import Camera

_DCT_PX = 8  # along each side of a compressed block
_MIRROR_X, _MIRROR_Y, _PERMUTE_COLORS = 0.5, 0.3, 0.5  # probabilities


def degrade(
    images: Float[Tensor, "batch view 3 height width"],
    generator: torch.Generator,
    strength: float = 1.0,
) -> Float[Tensor, "batch view 3 height width"]:
    """Add vignetting, exposure, white balance, gamma, blur, noise and compression, in this order.

    Only colors change, differently in every view.

    Args:
        images: RGB in [0, 1].
        generator: The only source of randomness; may live on another device.
        strength: 0 changes next to nothing, 1 is a careless photographer with a cheap phone.
    """
    flat = images.flatten(0, 1)
    count, device = len(flat), flat.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        value = torch.rand(count, *shape, generator=generator, device=generator.device)
        return (low + (high - low) * value).to(device)

    flat = flat * _vignette(flat, uniform(0.0, 0.4 * strength, 1, 1, 1))
    stops = uniform(-0.5, 0.5, 1, 1, 1) + uniform(-0.12, 0.12, 3, 1, 1)  # the second: white balance
    flat = (flat * 2 ** (strength * stops)).clamp(0, 1)
    gamma = 2 ** (strength * uniform(-0.3, 0.3, 1, 1, 1))
    flat = flat.clamp_min(1e-4) ** gamma
    flat = _blur(flat, uniform(0.05, 0.15 + 0.55 * strength))
    noise = torch.randn(flat.shape, generator=generator, device=generator.device).to(device)
    flat = flat + noise * uniform(0.0, 0.025 * strength, 1, 1, 1) * (0.5 + flat).sqrt()
    flat = _compress(flat, uniform(0.002, 0.002 + 0.04 * strength, 1, 1, 1, 1, 1))
    return flat.clamp(0, 1).unflatten(0, images.shape[:2])


def augment(worlds: WorldBatch, generator: torch.Generator) -> WorldBatch:
    """Mirror a batch and permute its color channels, or not, at random."""
    mirror_x, mirror_y, permute = torch.rand(
        3, generator=generator, device=generator.device
    ).tolist()
    order = torch.randperm(3, generator=generator, device=generator.device)
    if mirror_x < _MIRROR_X:
        worlds = mirror(worlds, axis=0)
    if mirror_y < _MIRROR_Y:
        worlds = mirror(worlds, axis=1)
    if permute < _PERMUTE_COLORS:
        worlds = replace(worlds, images=worlds.images[:, :, order.to(worlds.images.device)])
    return worlds


def mirror(worlds: WorldBatch, axis: int) -> WorldBatch:
    """Mirror worlds along x (axis 0) or y (axis 1) of their axes."""
    flipped = -1 - axis  # images are ... height, width
    cameras = mirror_cameras(worlds.cameras, axis)
    return WorldBatch(worlds.images.flip(flipped), cameras, worlds.depth.flip(flipped))


def mirror_cameras(cameras: Camera, axis: int = 0) -> Camera:
    """Return the cameras of a world negated along x (axis 0) or y (axis 1) of the world's axes.

    They see mirrored images of the mirrored world.
    """
    intrinsics = cameras.intrinsics.clone()
    intrinsics[..., axis, 2] = 1 - intrinsics[..., axis, 2]
    signs = torch.ones(4, device=intrinsics.device)
    signs[axis] = -1
    world2cam = signs[:, None] * cameras.world2cam * signs
    return replace(cameras, intrinsics=intrinsics, world2cam=world2cam)


def _vignette(images: Tensor, amount: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    y = torch.linspace(-1, 1, height, device=images.device)[:, None]
    x = torch.linspace(-1, 1, width, device=images.device)
    return 1 - amount * (x.square() + y.square()) / 2


def _blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Apply a Gaussian blur, whose sigma in pixels differs by image."""
    offsets = torch.arange(-2, 3, device=images.device)
    kernel = torch.exp(-offsets.square() / (2 * sigma[:, None].square()))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, dim=0)
    channels = images.flatten(0, 1)[None]
    padded = torch.nn.functional.pad(channels, (2, 2, 2, 2), mode="replicate")
    groups = channels.shape[1]
    rows = torch.nn.functional.conv2d(padded, kernel[:, None, None, :], groups=groups)
    both = torch.nn.functional.conv2d(rows, kernel[:, None, :, None], groups=groups)
    return both[0].unflatten(0, images.shape[:2])


def _compress(images: Tensor, step: Tensor) -> Tensor:
    """Quantize the DCT coefficients of 8x8 blocks as JPEG does, high frequencies more coarsely."""
    height, width = images.shape[-2:]
    padding = (0, -width % _DCT_PX, 0, -height % _DCT_PX)
    padded = torch.nn.functional.pad(images, padding, mode="replicate")
    tiles = padded.unflatten(-1, (-1, _DCT_PX)).unflatten(-3, (-1, _DCT_PX)).transpose(-3, -2)
    index = torch.arange(_DCT_PX, device=images.device)
    cosine = torch.cos(math.pi / _DCT_PX * (index + 0.5) * index[:, None]) * (2 / _DCT_PX) ** 0.5
    cosine[0] *= 0.5**0.5
    quantum = step * (1 + index + index[:, None]).to(images.dtype)
    quantized = ((cosine @ tiles @ cosine.mT) / quantum).round() * quantum
    decoded = (cosine.mT @ quantized @ cosine).transpose(-3, -2).flatten(-4, -3).flatten(-2, -1)
    return decoded[..., :height, :width]
