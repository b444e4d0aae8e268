"""Five kinds of worlds, made side by side."""

from dataclasses import fields

import torch

from models.data.procedural.dice import Dice
from models.data.procedural.indoors import room, table_top
from models.data.procedural.outdoors import floaters, relief, street
from models.data.procedural.scenes import Scenes
from models.data.procedural.shading import Light
from models.data.procedural.shapes import stack


def build(dice: Dice, kinds: list[int]) -> Scenes:
    """`kinds[i]` scenes of the i-th kind: rooms, streets, table tops, reliefs, floaters."""
    builders = (room, street, table_top, relief, floaters)
    parts = [make(dice, count) for make, count in zip(builders, kinds, strict=True) if count]
    light = Light(*(
        torch.cat([getattr(part.light, field.name) for part in parts]) for field in fields(Light)
    ))  # fmt: skip
    others = [
        torch.cat([getattr(part, name) for part in parts])
        for name in ("heights", "eye", "target", "region")
    ]
    return Scenes(stack([part.shapes for part in parts]), light, *others)
