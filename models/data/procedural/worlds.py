"""Six kinds of worlds, made side by side."""

from dataclasses import fields

import torch

from models.data.procedural.gardens import garden
from models.data.procedural.indoors import room, table_top
from models.data.procedural.meshes import Meshes
from models.data.procedural.outdoors import floaters, relief, street
from models.data.procedural.random import Dice
from models.data.procedural.scenes import Scenes
from models.data.procedural.shading import Light
from models.data.procedural.shapes import stack

_BUILDERS = {
    "room": (room, 0.38),
    "street": (street, 0.18),
    "table top": (table_top, 0.15),
    "garden": (garden, 0.13),
    "relief": (relief, 0.08),
    "floaters": (floaters, 0.08),
}
KINDS = tuple(_BUILDERS)
SHARES = tuple(share for _, share in _BUILDERS.values())  # how often each is drawn


def build(dice: Dice, kinds: list[int], meshes: Meshes | None = None) -> Scenes:
    """`kinds[i]` scenes of the i-th of `KINDS`."""
    builders = [builder for builder, _ in _BUILDERS.values()]
    parts = [
        make(dice, count, meshes) for make, count in zip(builders, kinds, strict=True) if count
    ]
    light = Light(*(
        torch.cat([getattr(part.light, field.name) for part in parts]) for field in fields(Light)
    ))  # fmt: skip
    others = [
        torch.cat([getattr(part, name) for part in parts])
        for name in ("heights", "eye", "target", "region")
    ]
    return Scenes(stack([part.shapes for part in parts]), light, *others)
