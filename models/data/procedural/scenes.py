"""Scenes of any kind: shapes, light, terrain, and a first point of view."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural.random import Rng
from models.data.procedural.shapes import Shapes

SUN_REACH = 10_000.0  # meters: sunlight does not fade


@dataclass(frozen=True)
class Light:
    """One lamp or sun per scene, and ambient light."""

    position: Float[Tensor, "scene 3"]
    color: Float[Tensor, "scene 3"]
    ambient: Float[Tensor, "scene 3"]
    reach: Float[Tensor, " scene"]  # distance at which the lamp has half of its strength
    walls: Float[Tensor, "scene 2 3"]  # low and high corner; ambient light is weaker near them


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes of any kinds; a first camera stands at `eye` and looks at `target`."""

    shapes: Shapes
    light: Light
    heights: Float[Tensor, "scene n n"]
    eye: Float[Tensor, "scene 3"]
    target: Float[Tensor, "scene 3"]
    region: Float[Tensor, "scene 2 3"]  # low and high corner of where cameras may be


def sample_light(
    rng: Rng,
    position: Float[Tensor, "scene 3"],
    reach: Float[Tensor, " scene"],
    walls: Float[Tensor, "scene 2 3"],
) -> Light:
    """Sample the colors of a lamp and of ambient light; `walls` are the corners of the scene."""
    scenes = position.shape[0]
    warm = rng.normal(scenes, 1) * rng.tensor([0.12, 0.0, -0.12])
    ambient = rng.uniform(0.25, 0.65, scenes, 1)
    return Light(
        position=position,
        color=(1.25 - ambient) * (1 + warm) * rng.uniform(0.8, 1.3, scenes, 1),
        ambient=ambient * (1 - 0.5 * warm),
        reach=reach,
        walls=walls,
    )


def unbounded(rng: Rng, scenes: int) -> Float[Tensor, "scene 2 3"]:
    """Return the low and the high corner of a space without walls."""
    return rng.tensor([[-500.0] * 3, [500.0] * 3]).repeat(scenes, 1, 1)


def sample_sun(rng: Rng, scenes: int) -> Float[Tensor, "scene 3"]:
    """Sample positions far away and above."""
    sun = torch.nn.functional.normalize(rng.normal(scenes, 3), dim=-1) * 300
    return torch.cat([sun[:, :1], -sun[:, 1:2].abs() - 100, sun[:, 2:]], dim=-1)
