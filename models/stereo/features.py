"""Learned features: what two photos of a point have in common where gray values say little."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from models.stereo.plane_sweep import box_mean, warp_to_planes

CONTRAST_WINDOWS = (5, 15)  # pixels
CLUES = 3 + len(CONTRAST_WINDOWS)
SILENT = -4.0  # logarithm of the weight of untrained features: next to none


class MatchingFeatures(nn.Module):
    """A U-Net that gives a direction in feature space, and its weight, for every second pixel.

    Coarse, because it looks around: exact positions are what correlation is good at.
    """

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            two_layers(inputs, outputs)
            for inputs, outputs in zip((CLUES, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(
            two_layers(inputs + skip, skip)
            for inputs, skip in zip(widths[:1:-1], widths[-2:0:-1], strict=True)
        )
        self.head = nn.Conv2d(widths[1], channels + 1, 3, padding=1)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.head.bias[-1:], SILENT)  # type: ignore[index]

    def forward(
        self, photos: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch channel _height _width"]:
        """Features of photos at the sweep's size: a unit vector, then what it counts."""
        height, width = photos.shape[-2:]
        if height % 2 or width % 2:
            even = (height + height % 2, width + width % 2)
            photos = functional.interpolate(photos, even, mode="bilinear", align_corners=False)
        maps, skips = clues(photos), []
        for depth, block in enumerate(self.down):
            if depth:
                maps = functional.avg_pool2d(maps, 2, ceil_mode=True)
            maps = block(maps)
            skips.append(maps)
        for block, skip in zip(self.up, skips[-2:0:-1], strict=True):
            maps = functional.interpolate(maps, size=skip.shape[-2:], mode="nearest")
            maps = block(torch.cat([maps, skip], dim=1))
        found = self.head(maps)
        direction = functional.normalize(found[:, :-1], dim=1)
        return torch.cat([direction, functional.softplus(found[:, -1:])], dim=1)


def two_layers(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions that keep the size."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.LeakyReLU(0.1),
    )


def clues(
    photos: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch clue height width"]:
    """Colors and local contrast, whatever the exposure."""
    mean, spread = photos.mean((2, 3), keepdim=True), photos.std((2, 3), keepdim=True)
    gray = photos.mean(1, keepdim=True)
    contrasts = []
    for window in CONTRAST_WINDOWS:
        around, squares = box_mean(torch.cat([gray, gray**2], dim=1), window).split(1, dim=1)
        contrasts.append((gray - around) * ((squares - around**2).clamp(min=0) + 4e-4).rsqrt())
    return torch.cat([(photos - mean) / (spread + 0.05), *contrasts], dim=1)


def compare_features(
    reference: Float[Tensor, "batch channel height width"],
    source: Float[Tensor, "batch channel source_height source_width"],
    reference_intrinsics: Float[Tensor, "batch 3 3"],
    source_intrinsics: Float[Tensor, "batch 3 3"],
    reference2source: Float[Tensor, "batch 4 4"],
    inverse_depths: Float[Tensor, "batch plane"],
    fineness: int,
    size: tuple[int, int],
) -> Float[Tensor, "batch plane _height _width"]:
    """Weighted cosine of the features on every plane, at the sweep's size.

    It is computed at whole steps, of which each has `fineness` planes, and interpolated.
    """
    warped, _ = warp_to_planes(
        source[:, :-1], reference_intrinsics, source_intrinsics, reference2source,
        inverse_depths[:, ::fineness], (reference.shape[-2], reference.shape[-1]),
    )  # fmt: skip
    weighted = reference[:, :-1] * reference[:, -1:]
    coarse = torch.einsum("bchw,bcphw->bphw", weighted, warped)
    whole = functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
    if fineness == 1:
        return whole
    between = (whole[:, :-1] + whole[:, 1:]) / 2
    return torch.cat(
        [torch.stack([whole[:, :-1], between], dim=2).flatten(1, 2), whole[:, -1:]], dim=1
    )
