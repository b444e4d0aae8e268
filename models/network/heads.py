"""Dense prediction heads (DPT, Ranftl et al., ICCV 2021) of centers and of other parameters.

Attributes have the names under which weights files hold their parameters.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pixel_shuffle, relu, relu_

from models.network.config import LevelWidths


def upsample(
    x: Float[Tensor, "batch channel h w"], size: tuple[int, int] | None = None
) -> Float[Tensor, "batch channel _height _width"]:
    """Upsample bilinearly, twofold or to a size; corners stay, as the published weights expect."""
    size = size or (2 * x.shape[-2], 2 * x.shape[-1])
    return interpolate(x, size, mode="bilinear", align_corners=True)


class ResidualConvUnit(nn.Module):
    """Two 3x3 convolutions added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width h w"]:
        """Add ReLU, convolution, ReLU and convolution of a map to it."""
        return self.conv2(relu_(self.conv1(relu(x)))).add_(x)


class FeatureFusionBlock(nn.Module):
    """Add a finer level to the sum of the coarser ones, and double the resolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.skip_unit = ResidualConvUnit(width)  # unused, but published, in the coarsest level
        self.unit = ResidualConvUnit(width)
        self.out = nn.Conv2d(width, width, 1)

    def forward(
        self,
        x: Float[Tensor, "batch width h w"],
        skip: Float[Tensor, "batch width h w"] | None = None,
    ) -> Float[Tensor, "batch width 2*h 2*w"]:
        """Fuse one level."""
        if skip is not None:
            x = x + self.skip_unit(skip)
        # The published order is the other way round: the same numbers, at four times the cost.
        return upsample(self.out(self.unit(x)))


class DPT(nn.Module):
    """Fuse four feature maps on the grid of patches into one of half the image's size."""

    def __init__(
        self, in_widths: LevelWidths, level_widths: LevelWidths, fusion_width: int
    ) -> None:
        super().__init__()
        a, b, _, d = level_widths
        project = [nn.Conv2d(i, o, 1) for i, o in zip(in_widths, level_widths, strict=True)]
        self.resample = nn.ModuleList(
            [
                nn.Sequential(project[0], nn.ConvTranspose2d(a, a, 4, stride=4)),
                nn.Sequential(project[1], nn.ConvTranspose2d(b, b, 2, stride=2)),
                nn.Sequential(project[2]),
                nn.Sequential(project[3], nn.Conv2d(d, d, 3, stride=2, padding=1)),
            ]
        )
        self.narrow = nn.ModuleList(
            nn.Conv2d(width, fusion_width, 3, padding=1, bias=False) for width in level_widths
        )
        self.fuse = nn.ModuleList(FeatureFusionBlock(fusion_width) for _ in level_widths)

    def forward(
        self, features: list[Float[Tensor, "batch _channel h w"]]
    ) -> Float[Tensor, "batch fusion 8*h 8*w"]:
        """Fuse the four levels from coarse to fine."""
        levels = [
            project_in(resample(feature.to(next(project_in.parameters()).dtype)))
            for project_in, resample, feature in zip(
                self.narrow, self.resample, features, strict=True
            )
        ]
        height, width = levels[2].shape[-2:]
        fused = self.fuse[3](levels[3])[..., :height, :width]  # one too many where h or w is odd
        for i in (2, 1, 0):
            fused = self.fuse[i](fused, levels[i])
        return fused


class CenterHead(nn.Module):
    """Predict the center of each pixel's Gaussian, before `exponential_distance`."""

    def __init__(
        self,
        in_widths: LevelWidths,
        level_widths: LevelWidths,
        fusion_width: int,
        patch_size: int,
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.trunk = DPT(in_widths, level_widths, fusion_width)
        self.coarse = nn.Conv2d(fusion_width, fusion_width // 2, 3, padding=1)
        self.fine = nn.Conv2d(fusion_width // 2, fusion_width // 2, 3, padding=1)
        self.out = nn.Conv2d(fusion_width // 2, 3, 1)

    def forward(
        self, *features: Float[Tensor, "batch _channel h w"], stride: int = 1
    ) -> Float[Tensor, "batch 3 _height _width"]:
        """Predict one vector per pixel of every `stride`th row and column."""
        coarse = self.trunk(list(features)).to(self.coarse.weight.dtype)
        height, width = features[0].shape[-2:]
        x = upsample(self.coarse(coarse), (height * self.patch_size, width * self.patch_size))
        fine = conv2d(x, self.fine.weight, self.fine.bias, stride, padding=1)
        return self.out(relu_(fine))


class ParameterHead(nn.Module):
    """Predict each pixel's opacity, scales, rotation and color, before their activations.

    The image itself joins at full resolution, so that texture need not pass the patches.
    """

    def __init__(
        self,
        in_widths: LevelWidths,
        level_widths: LevelWidths,
        fusion_width: int,
        out_width: int,
        dropout: float,
        image_shortcut: bool = True,
    ) -> None:
        super().__init__()
        self.trunk = DPT(in_widths, level_widths, fusion_width)
        self.image_shortcut = nn.Conv2d(3, fusion_width, 7, padding=3) if image_shortcut else None
        self.hidden = nn.Conv2d(fusion_width, fusion_width, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Conv2d(fusion_width, out_width, 1)

    def forward(
        self,
        image: Float[Tensor, "batch 3 height width"],
        *features: Float[Tensor, "batch _channel h w"],
    ) -> Float[Tensor, "batch out height width"]:
        """Predict the raw parameters of every pixel; the image is normalized to [-1, 1]."""
        x = upsample(self.trunk(list(features)), (image.shape[-2], image.shape[-1]))
        if self.image_shortcut is not None:
            x = x.add_(relu_(self.image_shortcut(image.to(x.dtype))))
        return self.out(self.dropout(relu_(self.hidden(x))))


class LinearHead(nn.Module):
    """Predict a patch's pixels linearly from its token of the last layer (an ablation).

    `rectify` is the original's ReLU before its parameter head; its center head has none.
    """

    def __init__(
        self, in_width: int, out_width: int, patch_size: int, rectify: bool = False
    ) -> None:
        super().__init__()
        self.rectify, self.patch_size = rectify, patch_size
        self.out = nn.Conv2d(in_width, out_width * patch_size**2, 1)

    def forward(
        self, *image_and_features: Float[Tensor, "batch _channel _h _w"]
    ) -> Float[Tensor, "batch out height width"]:
        """Predict raw values of every pixel from the last feature map alone."""
        tokens = image_and_features[-1]
        return pixel_shuffle(self.out(relu(tokens) if self.rectify else tokens), self.patch_size)
