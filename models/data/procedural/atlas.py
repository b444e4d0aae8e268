"""A texture atlas with mip levels, sampled trilinearly."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Atlas:
    """Textures with all their mip levels, as rows of RGB."""

    rows: Float[Tensor, "row 3"]
    starts: Int[Tensor, " level"]  # row of each level's first texel, of the first texture
    sizes: Int[Tensor, "level 2"]  # (height, width)
    per_texture: int  # rows

    def to(self, device: torch.device) -> "Atlas":
        """Copy to a device."""
        return Atlas(
            self.rows.to(device), self.starts.to(device), self.sizes.to(device), self.per_texture
        )

    def mean(self, texture: Int[Tensor, " point"]) -> Float[Tensor, "point 3"]:
        """Return the mean colors of textures: their coarsest level."""
        return self.rows.index_select(0, texture * self.per_texture + self.starts[-1])


def build_atlas(textures: Float[Tensor, "texture 3 height width"]) -> Atlas:
    """Build an atlas with mip levels down to single texels, each the average of 2x2."""
    levels, sizes = [], []
    while True:
        levels.append(textures.permute(0, 2, 3, 1).flatten(1, 2))
        sizes.append(tuple(textures.shape[-2:]))
        if sizes[-1] == (1, 1):
            break
        kernel = tuple(min(2, extent) for extent in sizes[-1])
        textures = torch.nn.functional.avg_pool2d(textures, kernel)
    starts = torch.tensor([0] + [level.shape[1] for level in levels[:-1]]).cumsum(0)
    rows = torch.cat(levels, dim=1)
    return Atlas(
        rows.flatten(0, 1),
        starts.to(rows.device),
        torch.tensor(sizes, device=rows.device),
        rows.shape[1],
    )


def sample_atlas(
    atlas: Atlas,
    texture: Int[Tensor, " point"],
    repeats: Float[Tensor, "point 2"],
    lod: Float[Tensor, " point"],
) -> Float[Tensor, "point 3"]:
    """Sample textures trilinearly at (u, v), mirrored at every repeat; they are 1 wide and high.

    The level of detail is log2 of the texture coordinates that a ray's footprint covers.
    """
    level = (lod + atlas.sizes[0].amax().log2()).clamp(0, len(atlas.starts) - 1)
    finer = level.floor()
    coarser = (finer + 1).clamp(max=len(atlas.starts) - 1)
    folded = 1 - (1 - repeats.remainder(2)).abs()
    fine = _sample_bilinear(atlas, texture, folded, finer.long())
    coarse = _sample_bilinear(atlas, texture, folded, coarser.long())
    return torch.lerp(fine, coarse, (level - finer)[:, None])


def _sample_bilinear(atlas: Atlas, texture: Tensor, place: Tensor, level: Tensor) -> Tensor:
    height, width = atlas.sizes.index_select(0, level).unbind(-1)
    x = (place[:, 0] * width - 0.5).clamp_min(0).minimum(width - 1)
    y = (place[:, 1] * height - 0.5).clamp_min(0).minimum(height - 1)
    left, top = x.long(), y.long()
    across, down = (x - left)[:, None], (y - top)[:, None]
    step_x = (left + 1 < width).long()
    step_y = (top + 1 < height).long() * width
    row = texture * atlas.per_texture + atlas.starts.index_select(0, level) + top * width + left
    rows = atlas.rows
    upper = torch.lerp(rows.index_select(0, row), rows.index_select(0, row + step_x), across)
    row = row + step_y
    lower = torch.lerp(rows.index_select(0, row), rows.index_select(0, row + step_x), across)
    return torch.lerp(upper, lower, down)
