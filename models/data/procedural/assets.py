"""Assets of worlds: textures, and where there are any, panoramas and meshes."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.data.procedural.atlas import Atlas, build_atlas
from models.data.procedural.furniture import MATERIALS_PER_SCENE, TEXTURES_PER_SCENE
from models.data.procedural.meshes import Meshes
from models.data.procedural.random import Rng

_MATERIAL_SHARE = 0.4  # of the textures, the most even ones: large surfaces carry these


@dataclass(frozen=True)
class Assets:
    """Textures, panoramas and meshes on one device."""

    textures: Float[Tensor, "texture 3 _height _width"]
    panoramas: Float[Tensor, "panorama 3 _rows _columns"] | None = None  # equirectangular
    meshes: Meshes | None = None

    @property
    def device(self) -> torch.device:
        """The device of all tensors."""
        return self.textures.device

    def to(self, device: torch.device) -> "Assets":
        """Copy to a device."""
        panoramas = None if self.panoramas is None else self.panoramas.to(device)
        meshes = None if self.meshes is None else self.meshes.to(device)
        return Assets(self.textures.to(device), panoramas, meshes)

    @cached_property
    def materials(self) -> Int[Tensor, " material"]:
        """Indices of the textures that look the same everywhere, as plaster and grass do.

        Ordered by the standard deviation of the means of their sixteenths.
        """
        coarse = torch.nn.functional.adaptive_avg_pool2d(self.textures, 4)
        unevenness = coarse.flatten(2).std(dim=-1).mean(1)
        count = max(1, round(_MATERIAL_SHARE * len(self.textures)))
        return unevenness.argsort(stable=True)[:count]

    @cached_property
    def skies(self) -> Atlas | None:
        """The atlas of the panoramas."""
        return None if self.panoramas is None else build_atlas(self.panoramas)

    def sample_textures(self, rng: Rng, scenes: int) -> Int[Tensor, "scene texture"]:
        """Choose every scene's textures: the first ones materials, the others any."""
        even = rng.integers(0, len(self.materials), scenes, MATERIALS_PER_SCENE)
        rest = TEXTURES_PER_SCENE - MATERIALS_PER_SCENE
        any_of = rng.integers(0, len(self.textures), scenes, rest)
        return torch.cat([self.materials.to(even.device)[even], any_of], dim=1)
