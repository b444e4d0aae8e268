"""Ray-traced random worlds with exact depth, poses and intrinsics."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural.assets import Assets
from models.data.procedural.atlas import build_atlas
from models.data.procedural.cameras import draw_cameras, draw_intrinsics
from models.data.procedural.photograph import Looks, photograph
from models.data.procedural.random import Dice
from models.data.procedural.shapes import FAR
from models.data.procedural.worlds import SHARES, build
from models.geometry.camera import Camera
from models.geometry.rigid import invert

__all__ = ["FAR", "Assets", "Textures", "WorldBatch", "generate"]

Textures: TypeAlias = Float[Tensor, "texture 3 _height _width"] | Assets

_PANORAMAS = 0.75  # of the skies, where there are any


@dataclass(frozen=True)
class WorldBatch:
    """Views of random worlds; lengths in meters, the world is the first view's camera.

    Depth is z at pixel centers, exact; the sky's is `FAR`. Cameras are (batch, view).
    """

    images: Float[Tensor, "batch view 3 height width"]
    cameras: Camera
    depth: Float[Tensor, "batch view height width"]

    def __getitem__(self, index: int | slice | tuple[int | slice, ...]) -> "WorldBatch":
        """Select worlds, or with a second index views, of a batch."""
        return WorldBatch(self.images[index], self.cameras[index], self.depth[index])

    def to_dict(self) -> dict[str, Tensor]:
        """Return tensors by name, as a checkpoint holds them."""
        return {
            "images": self.images,
            "intrinsics": self.cameras.intrinsics,
            "world2cam": self.cameras.world2cam,
            "depth": self.depth,
        }

    @classmethod
    def from_dict(cls, tensors: dict[str, Tensor]) -> "WorldBatch":
        """Undo `to_dict`."""
        images, depth = tensors["images"], tensors["depth"]
        size = (depth.shape[-2], depth.shape[-1])
        return cls(images, Camera(tensors["intrinsics"], tensors["world2cam"], size), depth)


@torch.no_grad()
def generate(
    batch: int,
    views: int,
    size: tuple[int, int],
    textures: Textures,
    generator: torch.Generator,
    device: torch.device,
    difficulty: float = 0.5,
    kinds: list[int] | None = None,
) -> WorldBatch:
    """Make scenes and photograph each of them from cameras that see the same things.

    Args:
        batch: How many scenes.
        views: Of each scene, at least one.
        size: (height, width) of the images.
        textures: Photo crops or noise; every scene uses some of them. Or all that worlds are made
            of.
        generator: The only source of randomness; may live on another device.
        device: Where everything is computed.
        difficulty: 0 small baselines and large overlap; 1 up to 60 % of the median depth.
        kinds: How many scenes of each kind, in order; otherwise drawn by their shares.
    """
    dice = Dice(generator, device)
    assets = textures if isinstance(textures, Assets) else Assets(textures)
    if kinds is None:
        share = torch.tensor(SHARES, device=generator.device)
        drawn = torch.multinomial(share, batch, replacement=True, generator=generator)
        kinds = torch.bincount(drawn, minlength=len(SHARES)).tolist()
    scenes = build(dice, kinds, assets.meshes)
    intrinsics = draw_intrinsics(dice, batch, views, size)
    cam2world, shapes = draw_cameras(dice, scenes, intrinsics, difficulty)
    chosen = assets.choose(dice, batch)
    local = torch.arange(chosen.numel(), device=device).view_as(chosen)
    panoramas = 0 if assets.panoramas is None else len(assets.panoramas)
    sky = dice.integer(0, max(1, panoramas), batch)
    looks = Looks(
        build_atlas(assets.textures[chosen.flatten().to(assets.device)].to(device)),
        local,
        dice.uniform(0.3, 0.9, batch),
        assets.meshes,
        assets.skies,
        torch.where(dice.chance(_PANORAMAS if panoramas else 0.0, batch), sky, -1),
        dice.uniform(0, math.tau, batch),
    )
    images, depths = zip(*(
        photograph(scenes, shapes, looks, cam2world[:, view], intrinsics[:, view], size)
        for view in range(views)
    ), strict=True)  # fmt: skip
    relative = invert(cam2world[:, :1]) @ cam2world
    relative[:, 0] = torch.eye(4, device=device)
    cameras = Camera(intrinsics, invert(relative), size)
    exposed = _expose(torch.stack(images, 1), dice.uniform(0.35, 0.6, batch))
    return WorldBatch(exposed, cameras, torch.stack(depths, 1))


def _expose(radiance: Tensor, mean: Tensor) -> Tensor:
    """One exposure for all views of a scene; bright things saturate softly."""
    level = radiance[:, 0].mean((1, 2, 3)).clamp_min(1e-3)
    scaled = radiance * (mean / level).clamp(0.5, 3)[:, None, None, None, None]
    return torch.where(scaled < 0.7, scaled, 1 - 0.3 * torch.exp((0.7 - scaled) / 0.3)).clamp(0, 1)
