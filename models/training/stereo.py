"""Training of the stereo part, where depth is exact and the pose nearly so."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.augmentation import augment, degrade
from models.data.procedural import Textures, WorldBatch
from models.stereo.network import StereoConfig, StereoNetwork
from models.stereo.semi_global import position_to_depth
from models.training.config import TrainConfig
from models.training.stereo_examples import make_example
from models.training.stereo_loss import predict, stereo_loss
from models.training.validation import SEED, held_out
from models.weights import save_stereo


@dataclass(frozen=True, kw_only=True)
class StereoTraining(TrainConfig[StereoNetwork]):
    """How the stereo part is trained."""

    part = "stereo"
    weights_name = "nps-stereo"

    network: StereoConfig = field(default_factory=StereoConfig)
    sizes: tuple[tuple[int, int], ...] = ((160, 224), (192, 192), (224, 160), (144, 256))
    batch: int = 4
    reuse: int = 8  # a batch costs about a third of a step to draw
    kept: int = 8
    total_steps: int = 20_000
    warmup_steps: int = 100
    learning_rate: float = 2e-3
    lowest_rate: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.02
    first_difficulty: float = 0.3
    last_difficulty: float = 0.7

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "StereoTraining":
        """Undo `to_dict`."""
        return cls(**values | {"network": StereoConfig(**values["network"])})

    def build(self) -> StereoNetwork:
        """A network with random weights: it keeps what semi-global matching is certain of."""
        return StereoNetwork(self.network)

    def loss(
        self, network: StereoNetwork, worlds: WorldBatch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """`stereo_loss` of the worlds as a phone sees them, mirrored and recolored at random."""
        varied = augment(worlds, generator)
        photos = degrade(varied.images, generator, self.artifacts)
        example = make_example(varied, photos, self.network.steps, generator)
        return stereo_loss(*predict(network, example), example)

    def score(
        self,
        network: StereoNetwork,
        textures: Textures,
        pairs: int,
    ) -> dict[str, float]:
        """Depth of pairs at the first size; see `StereoScores`."""
        return vars(score_stereo(network, textures, self.sizes[0], pairs))

    def write(self, network: StereoNetwork, path: Path, about: dict[str, str]) -> None:
        """Write a weights file, in half precision."""
        save_stereo(network, path, about, torch.float16)


@dataclass(frozen=True)
class StereoScores:
    """Quality on worlds that were not trained on, where the other view sees the point."""

    depth_error: float  # median relative error, of the middle pair
    far_off: float  # share of errors above two steps, over all pairs


def score_stereo(
    network: StereoNetwork,
    textures: Textures,
    size: tuple[int, int],
    pairs: int,
    difficulty: float = 0.3,
) -> StereoScores:
    """Measure depth in both views of worlds that training never draws."""
    network.eval()
    generator = torch.Generator().manual_seed(SEED)
    depth_errors, far_off = [], []
    for worlds in held_out(textures, size, pairs, difficulty):
        example = make_example(worlds, worlds.images, network.config.steps, generator)
        if not example.visible.any():
            continue
        with torch.no_grad():
            position, _ = predict(network, example)
        truth, found = (
            position_to_depth(each, example.inverse_depths, network.config.steps)
            for each in (example.position, position)
        )
        error = (found / truth - 1).abs()
        depth_errors.append(error[example.visible].median().item())
        steps_off = (position - example.position).abs()[example.visible]
        far_off.append((steps_off > 2).float().mean().item())
    if not far_off:
        return StereoScores(math.nan, math.nan)
    return StereoScores(median(depth_errors), fmean(far_off))
