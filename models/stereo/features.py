"""Learned features to match by where gray values say little, and the U-Net they come from."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from models.geometry.camera import Camera
from models.stereo.plane_sweep import box_mean, warp_to_planes

CONTRAST_WINDOWS_PX = (5, 15)
INPUTS = 3 + len(CONTRAST_WINDOWS_PX)
UNTRAINED_WEIGHT_LOGIT = -4.0  # softplus of it, the weight of untrained features, is about 0.02


class MatchingFeatures(nn.Module):
    """U-Net from an image to a unit feature vector and its weight for every second pixel.

    Half resolution, because its receptive field is large: exact positions are what correlation is
    good at.
    """

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.down, self.up = unet_blocks(INPUTS, widths, finest=1)
        self.head = nn.Conv2d(widths[1], channels + 1, 3, padding=1)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.head.bias[-1:], UNTRAINED_WEIGHT_LOGIT)  # type: ignore[index]

    def forward(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channel _height _width"]:
        """Return the features of images at the sweep's size: unit vectors, then their weights."""
        height, width = images.shape[-2:]
        if height % 2 or width % 2:
            even = (height + height % 2, width + width % 2)
            images = functional.interpolate(images, even, mode="bilinear", align_corners=False)
        outputs = self.head(apply_unet(self.down, self.up, contrast_inputs(images)))
        vectors = functional.normalize(outputs[:, :-1], dim=1)
        return torch.cat([vectors, functional.softplus(outputs[:, -1:])], dim=1)


def unet_blocks(
    inputs: int, widths: tuple[int, ...], finest: int = 0
) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Build the down and up blocks of a U-Net (Ronneberger et al., MICCAI 2015).

    `widths` are the channels of its levels, each of half the size of the one before; it ends at the
    level `finest`.
    """
    down = nn.ModuleList(
        _two_convolutions(before, width)
        for before, width in zip((inputs, *widths), widths, strict=False)
    )
    up = nn.ModuleList(
        _two_convolutions(widths[level + 1] + widths[level], widths[level])
        for level in reversed(range(finest, len(widths) - 1))
    )
    return down, up


def _two_convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1),
    )


def apply_unet(
    down: nn.ModuleList, up: nn.ModuleList, maps: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, "batch _channel _height _width"]:
    """Run the blocks of a U-Net, with skip connections between equal sizes."""
    skips = []
    for level, block in enumerate(down):
        if level:
            maps = functional.avg_pool2d(maps, 2, ceil_mode=True)
        maps = block(maps)
        skips.append(maps)
    for block, skip in zip(up, skips[-2::-1], strict=False):
        maps = functional.interpolate(maps, size=skip.shape[-2:], mode="nearest")
        maps = block(torch.cat([maps, skip], dim=1))
    return maps


def contrast_inputs(
    images: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch input height width"]:
    """Return colors and local contrast, independent of the exposure."""
    mean, deviation = images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True)
    gray = images.mean(1, keepdim=True)
    contrasts = []
    for window in CONTRAST_WINDOWS_PX:
        local, squares = box_mean(torch.cat([gray, gray**2], dim=1), window).split(1, dim=1)
        contrasts.append((gray - local) * ((squares - local**2).clamp(min=0) + 4e-4).rsqrt())
    return torch.cat([(images - mean) / (deviation + 0.05), *contrasts], dim=1)


def compare_features(
    reference: Float[Tensor, "batch channel _height _width"],
    source: Float[Tensor, "batch channel _source_height _source_width"],
    reference_camera: Camera,
    source_camera: Camera,
    inverse_depths: Float[Tensor, "batch plane"],
    planes_per_step: int,
) -> Float[Tensor, "batch plane height width"]:
    """Return the weighted cosine similarity of `MatchingFeatures` on every plane of a sweep.

    It is computed at whole steps, of which each has `planes_per_step` (1 or 2) planes, and
    interpolated to all planes and to the size of the reference camera.
    """
    size = (reference.shape[-2], reference.shape[-1])
    cameras = reference_camera.resized(size), source_camera
    warped, _ = warp_to_planes(source[:, :-1], *cameras, inverse_depths[:, ::planes_per_step])
    weighted = reference[:, :-1] * reference[:, -1:]
    coarse = torch.einsum("bchw,bcphw->bphw", weighted, warped)
    whole = functional.interpolate(
        coarse, reference_camera.size, mode="bilinear", align_corners=False
    )
    if planes_per_step == 1:
        return whole
    between = (whole[:, :-1] + whole[:, 1:]) / 2
    interleaved = torch.stack([whole[:, :-1], between], dim=2).flatten(1, 2)
    return torch.cat([interleaved, whole[:, -1:]], dim=1)
