"""Initial Gaussian centers: regressed distances, and matches of the other views with the first."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, pad

from models.geometry.camera import camera_rays
from models.geometry.spherical_harmonics import ray_features, ray_width
from models.network.config import NoPoSplatConfig

MAX_LOG_DISTANCE = 3.0
SHARPNESS = 20.0  # of the softmax over cosines, at the start
NEIGHBOR_WEIGHT = 0.5  # of a neighbor's cosine, beside the patch's own


class MatchedAnchors(nn.Module):
    """Guess the centers of patches from a pretrained encoder alone.

    Distances are a linear function of the patch's features and ray. A patch of another view than
    the first takes the centers of the first one's patches, weighted by the softmax of how alike
    they are; how likely none of them is the same is told, too.
    """

    def __init__(self, config: NoPoSplatConfig, width: int) -> None:
        super().__init__()
        self.ray_degree = config.ray_degree
        self.distance = nn.Linear(config.feature_width + ray_width(config.ray_degree), 1)
        self.describe = nn.Linear(config.feature_width, width)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(SHARPNESS)))
        self.unmatched = nn.Parameter(torch.tensor(0.5))  # cosine that a match has to surpass
        nn.init.zeros_(self.distance.weight)
        nn.init.zeros_(self.distance.bias)

    def forward(
        self,
        encoded: Float[Tensor, "batch view token channel"],
        intrinsics: Float[Tensor, "batch view 3 3"],
        grid: tuple[int, int],
    ) -> tuple[Float[Tensor, "batch view token 3"], Float[Tensor, "batch view token 1"]]:
        """Return the patches' centers in the first view's frame, and how likely these are right."""
        harmonics = ray_features(intrinsics, grid, self.ray_degree).flatten(2, 3)
        log_distance = self.distance(torch.cat([encoded, harmonics], dim=-1)).float()
        distance = log_distance.clamp(-MAX_LOG_DISTANCE, MAX_LOG_DISTANCE).exp()
        own = camera_rays(intrinsics, grid).flatten(2, 3) * distance
        shares = self.match(encoded, grid).exp()
        certainty = torch.cat([torch.ones_like(own[:, :1, :, :1]), 1 - shares[..., -1:]], dim=1)
        near = shares[..., :-1] * around_peak(shares[..., :-1], grid)
        matched = near @ own[:, :1] / near.sum(-1, keepdim=True).clamp(min=1e-9)
        return torch.cat([own[:, :1], matched], dim=1), certainty

    def match(
        self, encoded: Float[Tensor, "batch view token channel"], grid: tuple[int, int]
    ) -> Float[Tensor, "batch other token token_and_none"]:
        """Return log probabilities that a patch of another view is one of the first, or none.

        Patches are as alike as they and their neighbors are.
        """
        descriptors = normalize(self.describe(encoded).float(), dim=-1)
        alike = agree(descriptors[:, 1:] @ descriptors[:, :1].mT, grid)
        none = self.unmatched.expand(*alike.shape[:-1], 1)
        return (self.log_sharpness.exp() * torch.cat([alike, none], dim=-1)).log_softmax(-1)


def agree(
    alike: Float[Tensor, "*batch token token"], grid: tuple[int, int]
) -> Float[Tensor, "*batch token token"]:
    """Average how alike patches are with how alike the neighbors on the same sides are."""
    height, width = grid
    maps = alike.reshape(-1, *grid, *grid)
    maps = torch.cat([maps, torch.ones_like(maps[:1])])
    padded = pad(maps, (1,) * 8)
    total = maps * (1 - NEIGHBOR_WEIGHT)
    for y in range(3):
        rows = slice(y, y + height)
        for x in range(3):
            columns = slice(x, x + width)
            total = total + NEIGHBOR_WEIGHT * padded[:, rows, columns, rows, columns]
    return (total[:-1] / total[-1]).reshape(alike.shape)


@torch.no_grad()
def around_peak(
    shares: Float[Tensor, "*batch token place"], grid: tuple[int, int]
) -> Float[Tensor, "*batch token place"]:
    """Mark the largest share and the eight around it."""
    y, x = torch.meshgrid(
        *(torch.arange(side, device=shares.device) for side in grid), indexing="ij"
    )
    places = torch.stack([y, x], dim=-1).flatten(0, 1)
    apart = (places - places[shares.argmax(-1)][..., None, :]).abs().amax(-1)
    return (apart <= 1).to(shares.dtype)


def spread(
    values: Float[Tensor, "batch view token channel"], grid: tuple[int, int], size: tuple[int, int]
) -> Float[Tensor, "batch view height width channel"]:
    """Interpolate what is known of patches over the pixels of an image of this size."""
    maps = values.flatten(0, 1).mT.unflatten(-1, grid)
    pixels = interpolate(maps, size, mode="bilinear", align_corners=False)
    return pixels.movedim(1, -1).unflatten(0, values.shape[:2])
