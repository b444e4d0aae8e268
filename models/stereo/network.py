"""The learned stereo part: what to keep of a semi-global match, and what to continue smoothly."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from models.stereo.features import MatchingFeatures, two_layers
from models.stereo.plane_sweep import box_mean
from models.stereo.prior import SurfacePrior
from models.stereo.semi_global import Match
from models.stereo.smoothing import smooth

NEAR_COSTS, NEAR_LOGITS = 2, 3  # steps around the position that the network sees
MEANS = (5, 15, 45)  # pixels, windows over which positions are compared
TEXTURE_WINDOWS = ((3, 1), (5, 1), (5, 2))  # size and dilation, one after the other
CLUES = 30
MOST_SHIFT = 3.0  # steps
PULL = 10.0  # between neighbors of the same color, unless the network says otherwise
EDGE = 0.06  # color difference at which they pull 1/e as strongly
GAIN = 3.0  # of the network's answers, in logarithms


@dataclass(frozen=True, kw_only=True)
class StereoConfig:
    """The shape of the stereo network."""

    steps: int = 64
    widths: tuple[int, ...] = (32, 32, 48, 64)
    feature_widths: tuple[int, ...] = (16, 32, 64, 96)
    feature_channels: int = 24


class StereoNetwork(nn.Module):
    """Features to match by, and a U-Net that repairs a match, the same at every depth.

    The U-Net sees what `clues` says. For every pixel it tells by how much the position is off, how
    much that is worth, how strongly neighbors belong together, and how much of a smooth
    continuation to mix in. Untrained, features say nothing, and the U-Net keeps what is certain and
    continues that up to the edges of the photo.
    """

    def __init__(self, config: StereoConfig) -> None:
        super().__init__()
        self.config = config
        self.features = MatchingFeatures(config.feature_widths, config.feature_channels)
        widths = config.widths
        self.down = nn.ModuleList(
            two_layers(inputs, outputs)
            for inputs, outputs in zip((CLUES, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(
            two_layers(inputs + skip, skip)
            for inputs, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], 5, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        match: Match,
        confirmed: Float[Tensor, "batch height width"],
        image: Float[Tensor, "batch 3 height width"],
        prior: SurfacePrior,
    ) -> Float[Tensor, "batch height width"]:
        """Improve the positions of a match.

        Args:
            match: What the sweep has found.
            confirmed: How well the other views' matches agree, in [0, 1].
            image: The view's photo at the match's size.
            prior: Where matched points suggest that the surfaces are.
        """
        with torch.no_grad():
            maps = clues(match, confirmed, image, prior)
        skips = []
        for depth, block in enumerate(self.down):
            if depth:
                maps = functional.avg_pool2d(maps, 2, ceil_mode=True)
            maps = block(maps)
            skips.append(maps)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            maps = functional.interpolate(maps, size=skip.shape[-2:], mode="nearest")
            maps = block(torch.cat([maps, skip], dim=1))
        shift, worth, right, down, keep = self.head(maps).unbind(1)
        support = (match.certainty * confirmed).clamp(0.02, 0.98).logit()
        moved = match.position + MOST_SHIFT * torch.tanh(shift / MOST_SHIFT)
        continued = smooth(
            moved,
            (support + GAIN * worth).clamp(-8, 5).exp(),
            _pull(image, 3) * (GAIN * right[:, :, :-1]).clamp(-8, 4).exp(),
            _pull(image, 2) * (GAIN * down[:, :-1]).clamp(-8, 4).exp(),
        )
        kept = (GAIN * (support + 1 + keep)).sigmoid()
        return torch.lerp(continued, moved, kept).clamp(0, self.config.steps - 1)


def _pull(image: Float[Tensor, "batch 3 height width"], axis: int) -> Tensor:
    """Between neighbors along an axis, by their colors."""
    return PULL * torch.exp(-image.diff(dim=axis).abs().mean(1) / EDGE)


def clues(
    match: Match,
    confirmed: Float[Tensor, "batch height width"],
    image: Float[Tensor, "batch 3 height width"],
    prior: SurfacePrior,
) -> Float[Tensor, "batch clue height width"]:
    """All that the network sees. Positions enter as differences: it cannot tell near from far."""
    position = match.position[:, None]
    average = match.cost.mean(1, keepdim=True)
    costs = _around(match.cost, position, NEAR_COSTS) - average
    best = match.cost.amin(1, keepdim=True) - average
    logits = _around(match.logits, position, NEAR_LOGITS)
    here = logits[:, NEAR_LOGITS : NEAR_LOGITS + 1]
    beside = (torch.cat([logits[:, :NEAR_LOGITS], logits[:, NEAR_LOGITS + 1 :]], 1) - here) / 4
    relative = [_bounded(position - box_mean(position, window), 4.0) for window in MEANS]
    right = _bounded(functional.pad(position.diff(dim=3), (0, 1)), 2.0)
    down = _bounded(functional.pad(position.diff(dim=2), (0, 0, 0, 1)), 2.0)
    off, trust = prior.position[:, None] - position, prior.trust[:, None]
    surface = [_bounded(off, 6.0) * (trust > 0), _bounded(off, 1.5) * trust, trust]
    support = [match.certainty[:, None], confirmed[:, None], match.seen[:, None].to(image)]
    return torch.cat(
        [costs, beside, best, *relative, right, down, *surface, *support, look(image)], dim=1
    )


def look(
    image: Float[Tensor, "batch 3 height width"],
) -> Float[Tensor, "batch 7 height width"]:
    """Colors and texture of a photo, whatever its exposure."""
    mean, spread = image.mean((2, 3), keepdim=True), image.std((2, 3), keepdim=True)
    gray = image.mean(1, keepdim=True)
    statistics = torch.cat([gray, gray**2], dim=1)
    textures = []
    for window, dilation in TEXTURE_WINDOWS:
        statistics = box_mean(statistics, window, dilation)
        variance = (statistics[:, 1:] - statistics[:, :1] ** 2).clamp(min=0) + 1e-5
        textures.append(variance.log() / 4 + 1.5)
    contrast = (gray - statistics[:, :1]) / (variance + 4e-4).sqrt()
    return torch.cat([(image - mean) / (spread + 0.05), *textures, contrast], dim=1)


def _around(volume: Tensor, position: Tensor, radius: int) -> Tensor:
    """Values at the position and so many whole steps before and after it."""
    offsets = torch.arange(-radius, radius + 1, device=volume.device)[:, None, None]
    at = (position + offsets).clamp(0, volume.shape[1] - 1)
    low = at.floor().clamp(max=volume.shape[1] - 2)
    return torch.lerp(volume.gather(1, low.long()), volume.gather(1, low.long() + 1), at - low)


def _bounded(off: Tensor, scale: float) -> Tensor:
    return torch.tanh(off / scale)
