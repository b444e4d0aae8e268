"""Stereo network: corrects a semi-global match, and tells what to continue smoothly instead."""

from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional

from models.stereo.features import MatchingFeatures, apply_unet, unet_blocks
from models.stereo.plane_sweep import box_mean
from models.stereo.prior import SurfacePrior
from models.stereo.semi_global import SgmResult
from models.stereo.smoothing import smooth

COST_STEPS, LOGIT_STEPS = 2, 3  # to either side of the position that the network sees
POSITION_WINDOWS_PX = (5, 15, 45)  # over which positions are compared
TEXTURE_WINDOWS = ((3, 1), (5, 1), (5, 2))  # (size, dilation), one after the other
INPUTS = 30
MAX_SHIFT_STEPS = 3.0
EDGE_WEIGHT = 10.0  # between neighbors of the same color, if the network outputs 0
EDGE_CONTRAST = 0.06  # color difference by which it falls to 1/e
OUTPUT_GAIN = 3.0  # of the logarithms that the network outputs


# Bounds hold for configurations in files.
Width = Annotated[int, Meta(ge=1, le=1024)]
LevelWidths = Annotated[tuple[Width, ...], Meta(min_length=1, max_length=8)]


@dataclass(frozen=True, kw_only=True)
class StereoConfig:
    """The shape of the stereo network."""

    steps: Annotated[int, Meta(ge=2, le=1024)] = 64
    widths: LevelWidths = (32, 32, 48, 64)
    feature_widths: LevelWidths = (16, 32, 64, 96)
    feature_channels: Width = 24


class StereoNetwork(nn.Module):
    """Features to match by, and a U-Net that corrects a match, the same at every depth.

    For every pixel of `network_inputs` the U-Net outputs the shift of the position, the weight of
    the result, the weights of the edges to two neighbors, and the share of a smooth continuation
    to mix in. Untrained, features have next to no weight, and the U-Net keeps what is certain and
    continues it up to the edges of the image.
    """

    def __init__(self, config: StereoConfig) -> None:
        super().__init__()
        self.config = config
        self.features = MatchingFeatures(config.feature_widths, config.feature_channels)
        self.down, self.up = unet_blocks(INPUTS, config.widths)
        self.head = nn.Conv2d(config.widths[0], 5, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        sgm: SgmResult,
        consistency: Float[Tensor, "batch height width"],
        image: Float[Tensor, "batch 3 height width"],
        prior: SurfacePrior,
    ) -> Float[Tensor, "batch height width"]:
        """Return corrected positions, in steps, of the match of a view.

        `consistency` is that with the other views' matches, in [0, 1]; all is of the match's size.
        """
        with torch.no_grad():
            inputs = network_inputs(sgm, consistency, image, prior)
        outputs = self.head(apply_unet(self.down, self.up, inputs))
        shift, weight_logit, edge_x, edge_y, keep_logit = outputs.unbind(1)
        logit = (sgm.confidence * consistency).clamp(0.02, 0.98).logit()
        shifted = sgm.position + MAX_SHIFT_STEPS * torch.tanh(shift / MAX_SHIFT_STEPS)
        continued = smooth(
            shifted,
            (logit + OUTPUT_GAIN * weight_logit).clamp(-8, 5).exp(),
            _edge_weight(image, 3) * (OUTPUT_GAIN * edge_x[:, :, :-1]).clamp(-8, 4).exp(),
            _edge_weight(image, 2) * (OUTPUT_GAIN * edge_y[:, :-1]).clamp(-8, 4).exp(),
        )
        kept = (OUTPUT_GAIN * (logit + 1 + keep_logit)).sigmoid()
        return torch.lerp(continued, shifted, kept).clamp(0, self.config.steps - 1)


def _edge_weight(image: Float[Tensor, "batch 3 height width"], axis: int) -> Tensor:
    """Return the smoothing weight between neighbors along an axis, by their colors."""
    return EDGE_WEIGHT * torch.exp(-image.diff(dim=axis).abs().mean(1) / EDGE_CONTRAST)


def network_inputs(
    sgm: SgmResult,
    consistency: Float[Tensor, "batch height width"],
    image: Float[Tensor, "batch 3 height width"],
    prior: SurfacePrior,
) -> Float[Tensor, "batch input height width"]:
    """Return the U-Net's input channels; positions enter as differences, the same at any depth."""
    position = sgm.position[:, None]
    mean_cost = sgm.cost.mean(1, keepdim=True)
    costs = _sample_steps(sgm.cost, position, COST_STEPS) - mean_cost
    best_cost = sgm.cost.amin(1, keepdim=True) - mean_cost
    logits = _sample_steps(sgm.logits, position, LOGIT_STEPS)
    center = logits[:, LOGIT_STEPS : LOGIT_STEPS + 1]
    off_center = torch.cat([logits[:, :LOGIT_STEPS], logits[:, LOGIT_STEPS + 1 :]], 1)
    means = [box_mean(position, window) for window in POSITION_WINDOWS_PX]
    right = functional.pad(position.diff(dim=3), (0, 1))
    down = functional.pad(position.diff(dim=2), (0, 0, 0, 1))
    to_prior, prior_weight = prior.position[:, None] - position, prior.weight[:, None]
    return torch.cat(
        [
            costs,
            (off_center - center) / 4,
            best_cost,
            *(torch.tanh((position - mean) / 4.0) for mean in means),
            torch.tanh(right / 2.0),
            torch.tanh(down / 2.0),
            torch.tanh(to_prior / 6.0) * (prior_weight > 0),
            torch.tanh(to_prior / 1.5) * prior_weight,
            prior_weight,
            sgm.confidence[:, None],
            consistency[:, None],
            sgm.seen[:, None].to(image),
            photo_inputs(image),
        ],
        dim=1,
    )


def photo_inputs(
    image: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 7 height width"]:
    """Return colors, texture and contrast of an image, independent of its exposure."""
    mean, deviation = image.mean((2, 3), keepdim=True), image.std((2, 3), keepdim=True)
    gray = image.mean(1, keepdim=True)
    statistics = torch.cat([gray, gray**2], dim=1)
    textures = []
    for window, dilation in TEXTURE_WINDOWS:
        statistics = box_mean(statistics, window, dilation)
        variance = (statistics[:, 1:] - statistics[:, :1] ** 2).clamp(min=0) + 1e-5
        textures.append(variance.log() / 4 + 1.5)
    contrast = (gray - statistics[:, :1]) / (variance + 4e-4).sqrt()
    return torch.cat([(image - mean) / (deviation + 0.05), *textures, contrast], dim=1)


def _sample_steps(volume: Tensor, position: Tensor, radius: int) -> Tensor:
    """Interpolate a volume at the position and up to `radius` whole steps before and after it."""
    offsets = torch.arange(-radius, radius + 1, device=volume.device)[:, None, None]
    steps = (position + offsets).clamp(0, volume.shape[1] - 1)
    low = steps.floor().clamp(max=volume.shape[1] - 2)
    return torch.lerp(volume.gather(1, low.long()), volume.gather(1, low.long() + 1), steps - low)
