"""What every kind of world is described by: things, light, terrain, and where a person stands."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural.random import Dice
from models.data.procedural.shading import Light
from models.data.procedural.shapes import Shapes

HEIGHTS = 48  # samples along each side of a terrain


@dataclass(frozen=True)
class Scenes:
    """Worlds of any kinds side by side."""

    shapes: Shapes
    light: Light
    heights: Float[Tensor, "scene n n"]
    eye: Float[Tensor, "scene 3"]
    target: Float[Tensor, "scene 3"]
    region: Float[Tensor, "scene 2 3"]  # low and high corner of where cameras may be


def draw_light(
    dice: Dice,
    position: Float[Tensor, "scene 3"],
    reach: Float[Tensor, " scene"],
    walls: Float[Tensor, "scene 2 3"],
) -> Light:
    """Light of random color and share of ambience; the walls bound where it shines."""
    scenes = position.shape[0]
    warm = dice.normal(scenes, 1) * torch.tensor([0.12, 0.0, -0.12], device=dice.device)
    ambient = dice.uniform(0.25, 0.65, scenes, 1)
    return Light(
        position=position,
        color=(1.25 - ambient) * (1 + warm) * dice.uniform(0.8, 1.3, scenes, 1),
        ambient=ambient * (1 - 0.5 * warm),
        reach=reach,
        walls=walls,
    )


def flat_ground(scenes: int, dice: Dice) -> Float[Tensor, "scene n n"]:
    """Heights of a world without terrain."""
    return torch.zeros(scenes, HEIGHTS, HEIGHTS, device=dice.device)


def draw_sun(dice: Dice, scenes: int) -> Float[Tensor, "scene 3"]:
    """Far away, and above."""
    sun = torch.nn.functional.normalize(dice.normal(scenes, 3), dim=-1) * 300
    return torch.cat([sun[:, :1], -sun[:, 1:2].abs() - 100, sun[:, 2:]], dim=-1)


def draw_heights(dice: Dice, scenes: int) -> Float[Tensor, "scene n n"]:
    """Smooth hills with smaller ones on them, in [-1, 1]."""
    rough = dice.uniform(0.25, 0.6, scenes, 1, 1, 1)
    hills = torch.zeros(scenes, 1, HEIGHTS, HEIGHTS, device=dice.device)
    for power, octave in enumerate((4, 8, 16)):
        noise = dice.uniform(-1, 1, scenes, 1, octave, octave)
        layer = torch.nn.functional.interpolate(noise, (HEIGHTS, HEIGHTS), mode="bicubic")
        hills = hills + rough**power * layer
    return (hills / (1 + rough + rough**2)).clamp(-1, 1)[:, 0]
