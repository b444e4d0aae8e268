"""A shared ViT encoder with an intrinsics token, and cross-attending decoders.

CroCo (Weinzaepfel et al., NeurIPS 2022) with a second decoder, as in DUSt3R (CVPR 2024) and MASt3R
(ECCV 2024), and the intrinsics token of NoPoSplat (Ye et al., ICLR 2025, section 3.2).
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.geometry.spherical_harmonics import ray_features, ray_width
from models.network.config import Dinov2Config, NoPoSplatConfig
from models.network.dinov2 import Dinov2
from models.network.layers import (
    CrossAttention,
    DecoderBlock,
    EncoderBlock,
    LayerNorm,
    rotary_table,
)

ALIKE_GAIN = 1.4  # of the first cross-attention to pretrained features that are alike

Part = TypeVar("Part", bound=nn.Module)


class FirstAndOthers(nn.Module, Generic[Part]):
    """A module for the first view, whose camera is the world, and one shared by all other views."""

    def __init__(self, build: Callable[[], Part]) -> None:
        super().__init__()
        self.first = build()
        self.others = build()

    def forward(
        self, *per_view: Float[Tensor, "batch view ..."], **shared: Any
    ) -> Float[Tensor, "batch view ..."]:
        """Apply `first` to the first view's part of every input, `others` to the rest."""
        batch = per_view[0].shape[0]
        first = self.first(*(x[:, 0] for x in per_view), **shared)
        others = self.others(*(x[:, 1:].flatten(0, 1) for x in per_view), **shared)
        return torch.cat([first[:, None], others.unflatten(0, (batch, -1))], dim=1)


def token_positions(grid: tuple[int, int], like: Float[Tensor, "..."]) -> Float[Tensor, "token 2"]:
    """Return (y, x) of every patch in row-major order, then of the intrinsics token: below them."""
    height, width = grid
    y, x = (torch.arange(n, device=like.device, dtype=like.dtype) for n in (height + 1, width))
    return torch.cartesian_prod(y, x)[: height * width + 1]


class Backbone(nn.Module):
    """Extract four feature maps per view, on the grid of patches, from images and intrinsics.

    Every view passes the same encoder, with one extra token that carries its intrinsics. In the
    decoder each view also attends to all tokens of all other views.
    """

    feature_mean: Tensor  # of every channel of a pretrained encoder, and their deviation
    feature_deviation: Tensor

    def __init__(self, config: NoPoSplatConfig) -> None:
        super().__init__()
        self.config = config
        head_width, rays = config.attention_head_width, ray_width(config.ray_degree)
        self.encoder: nn.Module
        if config.encoder == "dinov2":
            shape = Dinov2Config(width=config.encoder_width, depth=config.encoder_depth)
            self.encoder = Dinov2(shape)
            self.register_buffer("feature_mean", torch.zeros(config.feature_width))
            self.register_buffer("feature_deviation", torch.ones(config.feature_width))
        else:
            channels = 3 + (rays if config.intrinsics_input == "rays" else 0)
            patch = config.patch_size
            self.patch_embed = nn.Conv2d(channels, config.encoder_width, patch, stride=patch)
            self.encoder = nn.ModuleList(
                EncoderBlock(config.encoder_width, head_width) for _ in range(config.encoder_depth)
            )
            self.encoder_norm = LayerNorm(config.encoder_width)
        if config.intrinsics_input in ("token", "add"):
            self.intrinsics_embed = nn.Linear(9, config.encoder_width)
        elif config.intrinsics_input == "decoder":
            self.intrinsics_embed = nn.Linear(9, config.decoder_width)
        ray_channels = rays if config.intrinsics_input in ("decoder_rays", "decoder") else 0
        self.decoder_embed = nn.Linear(config.feature_width + ray_channels, config.decoder_width)
        self.decoder = nn.ModuleList(
            FirstAndOthers(lambda: DecoderBlock(config.decoder_width, head_width))
            for _ in range(config.decoder_depth)
        )
        self.decoder_norm = LayerNorm(config.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.decoder_width))  # published, unused
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Initialize weights as CroCo does; both decoders start from the same ones."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear) and name != "intrinsics_embed":
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for layer in self.modules():
            if isinstance(layer, CrossAttention) and isinstance(self.encoder, Dinov2):
                # The pretrained features of one thing are alike: it begins by attending to itself.
                nn.init.orthogonal_(layer.query.weight, ALIKE_GAIN)
                layer.key.weight.copy_(layer.query.weight)
        for layer in self.modules():
            if isinstance(layer, FirstAndOthers):
                layer.others.load_state_dict(layer.first.state_dict())
        patches = self.encoder if isinstance(self.encoder, Dinov2) else self
        nn.init.xavier_uniform_(patches.get_parameter("patch_embed.weight").flatten(1))

    def forward(
        self,
        images: Float[Tensor, "batch view 3 height width"],
        intrinsics: Float[Tensor, "batch view 3 3"],
    ) -> list[Float[Tensor, "batch view _channel grid_height grid_width"]]:
        """Extract features; images are normalized to [-1, 1].

        Returns:
            The encoder's output, and the decoder's after 1/2, 3/4 and all of its layers.
        """
        size = (images.shape[-2], images.shape[-1])
        return self.decode(self.encode(images, intrinsics), intrinsics, size)

    def encode(
        self,
        images: Float[Tensor, "batch view 3 height width"],
        intrinsics: Float[Tensor, "batch view 3 3"],
    ) -> Float[Tensor, "batch view token channel"]:
        """Return what the encoder says of every patch, and then of the token if there is one."""
        if isinstance(self.encoder, Dinov2):
            flat = self.encoder(images.flatten(0, 1) / 2 + 0.5, self.config.encoder_layers)
            return flat.unflatten(0, images.shape[:2])
        tokens = self.embed(images, intrinsics)
        positions = token_positions(self.grid((images.shape[-2], images.shape[-1])), images)
        rotary = rotary_table(positions[: tokens.shape[1]], self.config.attention_head_width)
        for block in self.encoder.children():
            tokens = block(tokens, rotary)
        return self.encoder_norm(tokens).unflatten(0, images.shape[:2])

    def decode(
        self,
        encoded: Float[Tensor, "batch view token channel"],
        intrinsics: Float[Tensor, "batch view 3 3"],
        size: tuple[int, int],
    ) -> list[Float[Tensor, "batch view _channel grid_height grid_width"]]:
        """Turn the encoder's output for images of a size into feature maps; see `forward`."""
        grid = self.grid(size)
        if self.config.encoder == "dinov2":
            encoded = self.standardize(encoded)
        decoder_input = encoded
        if self.config.intrinsics_input in ("decoder_rays", "decoder"):
            rays = ray_features(intrinsics, grid, self.config.ray_degree).flatten(2, 3)
            decoder_input = torch.cat([encoded, rays], dim=-1)
        tokens = self.decoder_embed(decoder_input)
        if self.config.intrinsics_input == "decoder":
            camera = self.intrinsics_embed(intrinsics.flatten(2))[:, :, None]
            tokens = torch.cat([tokens, camera], dim=2)
        rotary = None
        if self.config.rotary:
            positions = token_positions(grid, intrinsics)[: tokens.shape[2]]
            rotary = rotary_table(positions, self.config.attention_head_width)
        outputs = [encoded, *self.attend(tokens, rotary)]
        outputs[-1] = self.decoder_norm(outputs[-1])
        depth = len(self.decoder)
        return [
            outputs[layer][:, :, : grid[0] * grid[1]].mT.unflatten(-1, grid)
            for layer in (0, depth // 2, depth * 3 // 4, depth)
        ]

    def standardize(
        self, encoded: Float[Tensor, "*batch channel"]
    ) -> Float[Tensor, "*batch channel"]:
        """Give every channel of a pretrained encoder mean 0 and deviation 1: some are huge."""
        return (encoded - self.feature_mean) / self.feature_deviation

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return how many patches an image of this size has, down and across."""
        return size[0] // self.config.patch_size, size[1] // self.config.patch_size

    def embed(
        self,
        images: Float[Tensor, "batch view 3 height width"],
        intrinsics: Float[Tensor, "batch view 3 3"],
    ) -> Float[Tensor, "image token channel"]:
        """Return the encoder's input tokens: patches, and the intrinsics if they enter here."""
        if self.config.intrinsics_input == "rays":
            size = (images.shape[-2], images.shape[-1])
            rays = ray_features(intrinsics, size, self.config.ray_degree).movedim(-1, 2)
            images = torch.cat([images, rays], dim=2)
        patches = self.patch_embed(images.flatten(0, 1)).flatten(2).mT
        if self.config.intrinsics_input not in ("token", "add"):
            return patches
        camera = self.intrinsics_embed(intrinsics.flatten(2)).flatten(0, 1)[:, None]
        if self.config.intrinsics_input == "add":
            return patches + camera
        return torch.cat([patches, camera], dim=1)

    def attend(
        self,
        tokens: Float[Tensor, "batch view token width"],
        rotary: Float[Tensor, "2 token 2 frequency"] | None,
    ) -> list[Float[Tensor, "batch view token width"]]:
        """Run the decoder layers; in each, all views see the others as the last layer left them."""
        count = tokens.shape[1]
        views = torch.arange(count, device=tokens.device)
        # Row i: the numbers of all views but i.
        other_views = views[:-1] + (views[:-1] >= views[:, None])
        memory_rotary = None if rotary is None else rotary.repeat(1, count - 1, 1, 1)
        outputs = []
        for layer in self.decoder:
            memory = tokens[:, other_views].flatten(2, 3)
            tokens = layer(tokens, memory, rotary=rotary, memory_rotary=memory_rotary)
            outputs.append(tokens)
        return outputs
