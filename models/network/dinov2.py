"""DINOv2 (Oquab et al., TMLR 2024): a ViT encoder whose patches know what belongs together."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from models.network.config import PATCH_SIZES, Dinov2Config
from models.network.layers import EncoderBlock, LayerNorm

HEAD_WIDTH = 64
POSITIONS = 37  # learned ones along each side, interpolated to the grid of any image
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class Dinov2(nn.Module):
    """Describe every patch of an image by what some of the layers say of it."""

    def __init__(self, config: Dinov2Config) -> None:
        super().__init__()
        self.config = config
        width = config.width
        patch = PATCH_SIZES["dinov2"]
        self.patch_embed = nn.Conv2d(3, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.class_position = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embed = nn.Parameter(torch.zeros(1, width, POSITIONS, POSITIONS))
        self.blocks = nn.ModuleList(
            EncoderBlock(width, HEAD_WIDTH, layer_scale=True) for _ in range(config.depth)
        )
        self.norm = LayerNorm(width)

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], layers: tuple[int, ...]
    ) -> Float[Tensor, "batch token channel"]:
        """Return what the layers of these numbers, from 0, say of every patch, side by side.

        Args:
            images: RGB in [0, 1]; height and width are multiples of 14.
            layers: In ascending order. Each output is normalized as the last one is.

        Returns:
            Patches in row-major order, with `width` channels per layer.
        """
        mean, std = (images.new_tensor(each)[:, None, None] for each in (IMAGE_MEAN, IMAGE_STD))
        patches = self.patch_embed((images - mean) / std)
        grid = (patches.shape[-2], patches.shape[-1])
        positions = interpolate(self.position_embed, grid, mode="bicubic", antialias=True)
        first = (self.class_token + self.class_position).expand(len(images), -1, -1)
        tokens = torch.cat([first, (patches + positions).flatten(2).mT], dim=1)
        outputs = []
        for number, block in enumerate(self.blocks[: layers[-1] + 1]):
            tokens = block(tokens)
            if number in layers:
                outputs.append(self.norm(tokens[:, 1:]))
        return torch.cat(outputs, dim=-1)
