"""The learned stereo part: a plane sweep in, depth with confidence and visibility out."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from models.stereo.aggregate import aggregate
from models.stereo.prior import SurfacePrior, penalty

FIRST_WEIGHTS = (0.5, 0.5, -1.0, 0.0)  # of the two correlations, the color difference, visibility
UNSEEN_COST = 0.7  # in units of 1 - correlation: worse than a match, better than a clear mismatch
SHARPNESS = 8.0  # of the distribution over planes that aggregated costs alone give


@dataclass(frozen=True, kw_only=True)
class StereoConfig:
    """The shape of the stereo network."""

    planes: int = 64
    widths: tuple[int, ...] = (32, 64, 96, 128, 160)

    def __post_init__(self) -> None:
        if any(width % 8 for width in self.widths):
            raise ValueError(f"widths must be multiples of 8, not {self.widths}")


@dataclass(frozen=True)
class StereoDepth:
    """What the stereo network says of one view.

    `position` counts planes, 0 being the nearest: between two planes the inverse depth is linear.
    `confidence` is the estimated probability that the depth is right to about one plane, `visible`
    that another view sees the point.
    """

    logits: Float[Tensor, "batch plane height width"]
    position: Float[Tensor, "batch height width"]
    confidence_logit: Float[Tensor, "batch height width"]
    visible_logit: Float[Tensor, "batch height width"]


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with group normalization."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(8, outputs),
            nn.LeakyReLU(0.1, inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.GroupNorm(8, outputs),
            nn.LeakyReLU(0.1, inplace=True),
        )

    def forward(self, maps: Float[Tensor, "batch _in height width"]) -> Tensor:
        """Apply both."""
        return self.layers(maps)


class StereoNetwork(nn.Module):
    """A U-Net over the sweep, the planes being its channels.

    It sees each plane's matching features weighted into one score, all planes alike, and the costs,
    raised away from the surface that matches span, after semi-global aggregation. Its output is
    added to the latter: untrained, it is a classical semi-global matcher.
    """

    def __init__(self, config: StereoConfig) -> None:
        super().__init__()
        self.config = config
        self.weights = nn.Parameter(torch.tensor(FIRST_WEIGHTS))
        widths = config.widths
        self.down = nn.ModuleList(
            ConvBlock(inputs, outputs)
            for inputs, outputs in zip((2 * config.planes + 3, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(
            ConvBlock(inputs + skip, skip)
            for inputs, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], config.planes + 2, 3, padding=1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        features: Float[Tensor, "batch 4 plane height width"],
        reference: Float[Tensor, "batch 3 height width"],
        prior: SurfacePrior | None = None,
    ) -> StereoDepth:
        """Regularize a sweep.

        Args:
            features: What `sweep` gives, averaged over the other views if there are several.
            reference: The view's photo at the sweep's size.
            prior: Where matched points suggest that the surfaces are.
        """
        score = torch.einsum("bfphw,f->bphw", features, self.weights)
        with torch.no_grad():
            cost = matching_cost(features)
            if prior is not None:
                cost = cost + penalty(prior, self.config.planes)
            aggregated = -aggregate(cost, reference)
        maps = torch.cat([score, aggregated, reference * 2 - 1], dim=1)
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
        output = self.head(maps)
        logits = SHARPNESS * aggregated + output[:, :-2]
        return StereoDepth(logits, local_mean(logits), output[:, -2], output[:, -1])


def matching_cost(
    features: Float[Tensor, "batch 4 plane height width"],
) -> Float[Tensor, "batch plane height width"]:
    """1 - correlation, averaged over both windows; a constant where no view sees the point."""
    cost = 1 - features[:, :2].mean(1)
    return torch.where(features[:, 3] > 0, cost, UNSEEN_COST)


def local_mean(
    logits: Float[Tensor, "batch plane height width"], radius: int = 2
) -> Float[Tensor, "batch height width"]:
    """The mean plane around the most likely one: precise, without mixing two surfaces."""
    index = torch.arange(logits.shape[1], device=logits.device, dtype=logits.dtype)[:, None, None]
    best = logits.argmax(1, keepdim=True)
    near = (index - best).abs() <= radius
    weights = logits.masked_fill(~near, -torch.inf).softmax(1)
    return (weights * index).sum(1)


def position_to_depth(
    position: Float[Tensor, "batch height width"], inverse_depths: Float[Tensor, "batch plane"]
) -> Float[Tensor, "batch height width"]:
    """Depth of a fractional plane index, linear in inverse depth."""
    first, last = inverse_depths[:, 0, None, None], inverse_depths[:, -1, None, None]
    fraction = position / (inverse_depths.shape[1] - 1)
    return 1 / torch.lerp(first, last, fraction)
