"""Training batches: examples of data sets, or procedural worlds in the same form."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.data.augmentation import degrade
from models.data.examples import ExampleBatch
from models.data.procedural import FAR, Textures, WorldBatch, generate
from models.training import processes
from models.training.config import TrainConfig
from models.training.losses import mean_distance

Unit = Literal["baseline", "distance"]


@dataclass(frozen=True)
class TrainingBatch:
    """Context and target views of several scenes and, where it is known, what the pixels see.

    Centers are in the first view's frame and in the examples' unit; `seen` is false for the sky.
    """

    examples: ExampleBatch
    centers: Float[Tensor, "batch view height width 3"] | None = None
    seen: Bool[Tensor, "batch view height width"] | None = None

    def to(self, device: torch.device) -> "TrainingBatch":
        """Copy to a device; the original is untouched."""
        moved = (x if x is None else x.to(device) for x in (self.centers, self.seen))
        return TrainingBatch(self.examples.to(device), *moved)

    def first(self, number: int) -> "TrainingBatch":
        """Return the first scenes of the batch."""
        parts = (x if x is None else x[:number] for x in (self.centers, self.seen))
        return TrainingBatch(self.examples[:number], *parts)


def batch_from_worlds(
    worlds: WorldBatch,
    context: int,
    skipped_views: int = 0,
    unit: Unit = "baseline",
    artifacts: float = 0.0,
    generator: torch.Generator | None = None,
) -> TrainingBatch:
    """Take the first views of every world as context views, and the last ones as target views.

    Args:
        worlds: Their views; their order is kept.
        context: Number of context views.
        skipped_views: Number of views left out after these, so that experiments with more context
            views have the same targets.
        unit: Which length becomes 1: the distance from the first context view's camera to the
            last one's ("baseline"), as in data sets, or the mean distance of what the first two
            see, which takes the scale of a scene out of the question ("distance").
        artifacts: Strength of the simulated phone camera, of the context views.
        generator: Source of randomness of those artifacts; none without it.
    """
    centers = worlds.cameras.unproject(worlds.depth)[:, :context]
    seen = worlds.depth[:, :context] < FAR
    baseline = worlds.cameras[:, context - 1].center.norm(dim=-1)
    length = baseline if unit == "baseline" else mean_distance(centers, seen)
    world2cam = worlds.cameras.world2cam.clone()
    world2cam[..., :3, 3] /= length[:, None, None]
    cameras = replace(worlds.cameras, world2cam=world2cam)
    images = worlds.images[:, :context]
    if generator is not None and artifacts > 0:
        images = degrade(images, generator, artifacts)
    examples = ExampleBatch(
        images=images,
        cameras=cameras[:, :context],
        target_images=worlds.images[:, context + skipped_views :],
        target_cameras=cameras[:, context + skipped_views :],
        scale=length,
        keys=("procedural",) * len(length),
    )
    return TrainingBatch(examples, centers / length[:, None, None, None, None], seen)


def world_batches(
    config: TrainConfig[Any], textures: Textures, device: torch.device, first_step: int = 0
) -> Iterator[Any]:
    """Yield the batch of every step from `first_step` on, made of procedural worlds.

    A batch depends on the seed, the process and the step only, so that a run resumes exactly.
    """
    for step, worlds in enumerate(sample_worlds(config, textures, device, first_step), first_step):
        yield config.make_batch(worlds, _generator(config, device, step, 1))


def sample_worlds(
    config: TrainConfig[Any], textures: Textures, device: torch.device, first_step: int = 0
) -> Iterator[WorldBatch]:
    """Yield the worlds of every step: one batch of a buffer whose oldest are replaced."""
    steps_per_draw = config.steps_per_batch * config.batches_per_draw
    draws_in_buffer = -(-config.buffer_size // config.batches_per_draw)
    draw = max(0, first_step // steps_per_draw - draws_in_buffer + 1)
    buffer: list[WorldBatch] = []
    for step in count(first_step):
        while draw <= step // steps_per_draw:
            drawn_at = draw * steps_per_draw
            worlds = generate(
                config.batch * config.batches_per_draw,
                config.views(drawn_at),
                config.sizes[draw % len(config.sizes)],
                textures,
                _generator(config, device, drawn_at, 0),
                device,
                config.difficulty(drawn_at),
            )
            starts = range(0, config.batch * config.batches_per_draw, config.batch)
            buffer += [worlds[start : start + config.batch] for start in starts]
            buffer = buffer[-config.buffer_size :]
            draw += 1
        chooser = _generator(config, torch.device("cpu"), step, 2)
        yield buffer[int(torch.randint(len(buffer), (), generator=chooser))]


def _generator(
    config: TrainConfig[Any], device: torch.device, step: int, purpose: int
) -> torch.Generator:
    """Return a generator whose seed differs by run, step, process and purpose."""
    seed = 0
    for number in (config.seed, step, processes.rank(), purpose):
        seed = (seed * 1_000_003 + number + 1) % 2**31  # below the seed of validation
    return torch.Generator(device).manual_seed(seed)
