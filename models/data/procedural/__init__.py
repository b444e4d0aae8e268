"""Random worlds, ray-traced, with exact depth, poses and intrinsics."""

import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural.assets import Assets
from models.data.procedural.atlas import build_atlas
from models.data.procedural.cameras import sample_cameras, sample_intrinsics
from models.data.procedural.gardens import garden
from models.data.procedural.indoors import room, table_top
from models.data.procedural.meshes import Meshes
from models.data.procedural.outdoors import floaters, relief, street
from models.data.procedural.random import Rng
from models.data.procedural.raytracing import Appearance, raytrace_view
from models.data.procedural.scenes import Light, Scenes
from models.data.procedural.shapes import FAR, stack
from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import invert

__all__ = ["FAR", "KINDS", "Assets", "Textures", "WorldBatch", "generate"]

Textures: TypeAlias = Float[Tensor, "texture 3 _height _width"] | Assets

_BUILDERS = {  # each kind of world: what builds it, and its share
    "room": (room, 0.38),
    "street": (street, 0.18),
    "table top": (table_top, 0.15),
    "garden": (garden, 0.13),
    "relief": (relief, 0.08),
    "floaters": (floaters, 0.08),
}
KINDS = tuple(_BUILDERS)
_PANORAMA_SHARE = 0.75  # of the skies, where there are panoramas


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

    def depth_map(self, world: int, view: int) -> DepthMap:
        """Return a view with its depth, which is certain everywhere."""
        depth = self.depth[world, view]
        camera = self.cameras[world, view]
        return DepthMap(self.images[world, view], depth, torch.ones_like(depth), camera)


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
    """Build random worlds and ray-trace views of each from cameras with overlapping frustums.

    Args:
        batch: Number of worlds.
        views: Views of each world, at least one.
        size: (height, width) of the images.
        textures: Photo crops or noise, of which every world uses some; or all assets.
        generator: The only source of randomness; may live on another device than `device`.
        device: Where everything is computed.
        difficulty: 0 small baselines and large overlap; 1 up to 60 % of the median depth.
        kinds: Number of worlds of each of `KINDS`; otherwise sampled by their shares.
    """
    rng = Rng(generator, device)
    assets = textures if isinstance(textures, Assets) else Assets(textures)
    if kinds is None:
        shares = torch.tensor([share for _, share in _BUILDERS.values()], device=generator.device)
        sampled = torch.multinomial(shares, batch, replacement=True, generator=generator)
        kinds = torch.bincount(sampled, minlength=len(KINDS)).tolist()
    scenes = _build(rng, kinds, assets.meshes)
    intrinsics = sample_intrinsics(rng, batch, views, size)
    cam2world, scenes = sample_cameras(rng, scenes, intrinsics, difficulty)
    appearance = _sample_appearance(rng, batch, assets)
    images, depths = zip(*(
        raytrace_view(scenes, appearance, cam2world[:, view], intrinsics[:, view], size)
        for view in range(views)
    ), strict=True)  # fmt: skip
    relative = invert(cam2world[:, :1]) @ cam2world
    relative[:, 0] = torch.eye(4, device=device)
    cameras = Camera(intrinsics, invert(relative), size)
    exposed = _tone_map(torch.stack(images, 1), rng.uniform(0.35, 0.6, batch))
    return WorldBatch(exposed, cameras, torch.stack(depths, 1))


def _build(rng: Rng, kinds: list[int], meshes: Meshes | None) -> Scenes:
    """Build `kinds[i]` scenes of the i-th of `KINDS`."""
    parts = [
        build(rng, count, meshes)
        for (build, _), count in zip(_BUILDERS.values(), kinds, strict=True)
        if count
    ]
    lights = zip(*(vars(part.light).values() for part in parts), strict=True)
    light = Light(*map(torch.cat, lights))
    others = [
        torch.cat([getattr(part, name) for part in parts])
        for name in ("heights", "eye", "target", "region")
    ]
    return Scenes(stack([part.shapes for part in parts]), light, *others)


def _sample_appearance(rng: Rng, scenes: int, assets: Assets) -> Appearance:
    """Choose the textures, the strength of shadows and the sky of every scene."""
    chosen = assets.sample_textures(rng, scenes)
    rows = torch.arange(chosen.numel(), device=rng.device).view_as(chosen)
    panoramas = 0 if assets.panoramas is None else len(assets.panoramas)
    sky = rng.integers(0, max(1, panoramas), scenes)
    return Appearance(
        build_atlas(assets.textures[chosen.flatten().to(assets.device)].to(rng.device)),
        rows,
        rng.uniform(0.3, 0.9, scenes),
        assets.meshes,
        assets.skies,
        torch.where(rng.bernoulli(_PANORAMA_SHARE if panoramas else 0.0, scenes), sky, -1),
        rng.uniform(0, math.tau, scenes),
    )


def _tone_map(
    radiance: Float[Tensor, "scene view 3 height width"], mean: Float[Tensor, " scene"]
) -> Float[Tensor, "scene view 3 height width"]:
    """Expose all views of a scene alike, by the first; bright radiance saturates softly."""
    level = radiance[:, 0].mean((1, 2, 3)).clamp_min(1e-3)
    scaled = radiance * (mean / level).clamp(0.5, 3)[:, None, None, None, None]
    return torch.where(scaled < 0.7, scaled, 1 - 0.3 * torch.exp((0.7 - scaled) / 0.3)).clamp(0, 1)
