"""What the network is trained on: examples of data sets, or procedural worlds in their form."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.data.augmentation import degrade
from models.data.examples import ExampleBatch
from models.data.procedural import WorldBatch
from models.training.losses import mean_distance, true_centers

Unit = Literal["baseline", "distance"]


@dataclass(frozen=True)
class Lesson:
    """Photos to learn from, photos to predict and, where it is known, what the pixels see.

    Centers are in the first view's frame and in the examples' unit; `seen` is false for the sky.
    """

    examples: ExampleBatch
    centers: Float[Tensor, "batch view height width 3"] | None = None
    seen: Bool[Tensor, "batch view height width"] | None = None

    def to(self, device: torch.device) -> "Lesson":
        """Copy to a device; the original is untouched."""
        moved = (x if x is None else x.to(device) for x in (self.centers, self.seen))
        return Lesson(self.examples.to(device), *moved)

    def part(self, chosen: slice) -> "Lesson":
        """Some of the scenes."""
        parts = (x if x is None else x[chosen] for x in (self.centers, self.seen))
        return Lesson(self.examples[chosen], *parts)


def lesson_from_worlds(
    worlds: WorldBatch,
    context: int,
    spare: int = 0,
    unit: Unit = "baseline",
    artifacts: float = 0.0,
    generator: torch.Generator | None = None,
) -> Lesson:
    """The first views of every world as photos, the last ones as what to predict.

    Args:
        worlds: Their views; their order is kept.
        context: How many of the views the network sees.
        spare: How many of the next ones nobody sees: others are to predict the same ones with them.
        unit: What has length 1: the way from the first photo's camera to the last one's, as in
            data sets, or the mean distance of what the first two see, which takes the scale of a
            scene out of the question.
        artifacts: Strength of what phone cameras add to the photos that the network sees.
        generator: Of those artifacts.
    """
    centers, seen = true_centers(worlds)
    centers, seen = centers[:, :context], seen[:, :context]
    baseline = worlds.cameras[:, context - 1].center.norm(dim=-1)
    length = baseline if unit == "baseline" else mean_distance(centers[:, :2], seen[:, :2])
    world2cam = worlds.cameras.world2cam.clone()
    world2cam[..., :3, 3] /= length[:, None, None]
    cameras = replace(worlds.cameras, world2cam=world2cam)
    photos = worlds.images[:, :context]
    if generator is not None and artifacts > 0:
        photos = degrade(photos, generator, artifacts)
    examples = ExampleBatch(
        images=photos,
        cameras=cameras[:, :context],
        target_images=worlds.images[:, context + spare :],
        target_cameras=cameras[:, context + spare :],
        scale=length,
        keys=("procedural",) * len(length),
    )
    return Lesson(examples, centers / length[:, None, None, None, None], seen)
