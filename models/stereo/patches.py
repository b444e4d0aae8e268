"""Describe patches by a pretrained encoder, to tell which parts of photos are the same thing."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from models.geometry.views import View, resize
from models.network.config import PATCH_SIZES
from models.network.dinov2 import Dinov2

LONG_SIDE_PX = 518  # of the images that are encoded: those that the encoder was trained on
CHANNELS = 48  # principal components: more of them tell no more
MIN_CONTRAST = 1e-3  # of descriptions, which are about 30 long: less says nothing, and has weight 0
SPACING_PX = 8  # of the descriptions, which are interpolated between patches


def describe_patches(
    views: list[View], encoder: Dinov2
) -> list[Float[Tensor, "1 _channel _height _width"]]:
    """Return features like those of `MatchingFeatures`: unit vectors, then their weight, 0 or 1.

    They are principal components of what the views' patches have not all in common.
    """
    grids = [_encode(view.image, encoder) for view in views]
    tokens = torch.cat([grid.flatten(1) for grid in grids], dim=1)
    mean = tokens.mean(1, keepdim=True)
    _, vectors = torch.linalg.eigh((tokens - mean) @ (tokens - mean).mT)
    described = []
    for view, grid in zip(views, grids, strict=True):
        size = tuple(side // SPACING_PX for side in view.camera.size)
        components = torch.einsum("ck,chw->khw", vectors[:, -CHANNELS:], grid - mean[..., None])
        fine = functional.interpolate(components[None], size, mode="bilinear", align_corners=False)
        weight = (fine.norm(dim=1, keepdim=True) > MIN_CONTRAST).to(fine)
        described.append(torch.cat([functional.normalize(fine, dim=1), weight], dim=1))
    return described


def _encode(
    image: Float[Tensor, "3 height width"], encoder: Dinov2
) -> Float[Tensor, "channel _height _width"]:
    """Return the last layer's output for every patch of an image."""
    patch = PATCH_SIZES["dinov2"]
    scale = LONG_SIDE_PX / max(image.shape[1:]) / patch
    height, width = (max(1, round(side * scale)) for side in image.shape[1:])
    resized = resize(image, (height * patch, width * patch))[None]
    (tokens,) = encoder(resized, (encoder.config.depth - 1,))
    return tokens.mT.unflatten(1, (height, width)).float()
