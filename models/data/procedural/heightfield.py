"""Heightfields: random ones, their heights, and where rays intersect them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.data.procedural.random import Rng

MARCH_STEPS = 20
_REGULA_FALSI_STEPS = 5
_SAMPLES = 48  # along each side of a field


def intersect_heightfield(
    start: Float[Tensor, "pair 3"],
    direction: Float[Tensor, "pair 3 ray"],
    half: Float[Tensor, "pair 3"],
    enter: Float[Tensor, "pair ray"],
    leave: Float[Tensor, "pair ray"],
    heights: Float[Tensor, "scene n n"],
    scene: Int[Tensor, " pair"],
) -> Float[Tensor, "pair ray"]:
    """Return t where rays first cross heightfields, or inf: equal steps, then regula falsi.

    Rays are in the terrain's axes, and enter and leave its box of half extent `half` at t of
    `enter` and `leave`. Heights, of all scenes, are in units of the box's half height.
    """

    def above(t: Float[Tensor, "pair ray step"]) -> Float[Tensor, "pair ray step"]:
        x, y, z = (
            torch.addcmul(start[:, axis, None, None], t, direction[:, axis, :, None])
            for axis in range(3)
        )
        across, along = (x / half[:, :1, None]).flatten(1), (z / half[:, 2:, None]).flatten(1)
        ground = height_at(heights, scene, across, along).view_as(t)
        return -y - ground * half[:, 1:2, None]

    leave = torch.maximum(enter, leave)
    step = torch.linspace(0, 1, MARCH_STEPS + 1, device=enter.device)
    t = torch.lerp(enter[..., None], leave[..., None], step)
    over = above(t)
    crossed = over <= 0
    first = crossed.to(torch.uint8).argmax(-1, keepdim=True)
    hit = (enter < leave) & (first[..., 0] > 0)
    ends = torch.cat([(first - 1).clamp_min(0), first], dim=-1)
    (low, high), (f_low, f_high) = t.gather(-1, ends).unbind(-1), over.gather(-1, ends).unbind(-1)
    was_above = torch.zeros_like(hit)
    for number in range(_REGULA_FALSI_STEPS):
        width = f_low - f_high
        share = torch.where(width > 1e-12, f_low / width.clamp_min(1e-12), 0.5)
        between = torch.lerp(low, high, share.clamp(0, 1))
        value = above(between[..., None])[..., 0]
        is_above = value > 0
        # An end that stays twice counts half, so that both ends move (the Illinois rule).
        again = (is_above == was_above) & (number > 0)
        f_high = torch.where(is_above, torch.where(again, f_high / 2, f_high), value)
        f_low = torch.where(is_above, value, torch.where(again, f_low / 2, f_low))
        low, high = torch.where(is_above, between, low), torch.where(is_above, high, between)
        was_above = is_above
    return torch.where(hit, between, torch.inf)


def height_at(heights: Tensor, scene: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """Return the heights in [-1, 1] of scenes at x, z in [-1, 1], by smoothstep interpolation."""
    n = heights.shape[-1]
    column = ((x + 1) / 2 * (n - 1)).clamp(0, n - 1.001)
    row = ((z + 1) / 2 * (n - 1)).clamp(0, n - 1.001)
    left, top = column.floor(), row.floor()
    across, down = column - left, row - top
    across, down = across * across * (3 - 2 * across), down * down * (3 - 2 * down)
    index = (scene[:, None] * n + top.long()) * n + left.long()
    flat = heights.flatten()
    upper = torch.lerp(flat.take(index), flat.take(index + 1), across)
    lower = torch.lerp(flat.take(index + n), flat.take(index + n + 1), across)
    return torch.lerp(upper, lower, down)


def flat_heightfield(scenes: int, rng: Rng) -> Float[Tensor, "scene n n"]:
    """Return the heights of scenes without terrain."""
    return torch.zeros(scenes, _SAMPLES, _SAMPLES, device=rng.device)


def sample_heightfield(rng: Rng, scenes: int) -> Float[Tensor, "scene n n"]:
    """Sample fractal hills of three octaves, in [-1, 1]."""
    rough = rng.uniform(0.25, 0.6, scenes, 1, 1, 1)
    hills = torch.zeros(scenes, 1, _SAMPLES, _SAMPLES, device=rng.device)
    for power, octave in enumerate((4, 8, 16)):
        noise = rng.uniform(-1, 1, scenes, 1, octave, octave)
        layer = torch.nn.functional.interpolate(noise, (_SAMPLES, _SAMPLES), mode="bicubic")
        hills = hills + rough**power * layer
    return (hills / (1 + rough + rough**2)).clamp(-1, 1)[:, 0]
