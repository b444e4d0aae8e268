"""`StereoTraining`: training of the stereo network, on exact depths and nearly exact poses."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.augmentation import augment, degrade
from models.data.procedural import Textures, WorldBatch
from models.metrics.lpips import Lpips
from models.stereo.network import StereoConfig, StereoNetwork
from models.stereo.semi_global import position_to_depth
from models.training.config import TrainConfig
from models.training.stereo_examples import StereoExample, make_example
from models.training.stereo_loss import predict, stereo_loss
from models.training.validation import SEED, held_out_worlds
from models.weights import save_network


@dataclass(frozen=True, kw_only=True)
class StereoTraining(TrainConfig[StereoNetwork]):
    """Settings of the stereo network's training."""

    part = "stereo"
    architecture = StereoConfig

    weights_name: str = "nps-stereo"
    network: StereoConfig = field(default_factory=StereoConfig)
    sizes: tuple[tuple[int, int], ...] = ((160, 224), (192, 192), (224, 160), (144, 256))
    batch: int = 4
    steps_per_batch: int = 8  # sampling a batch takes about a third of a step
    buffer_size: int = 8
    total_steps: int = 20_000
    warmup_steps: int = 100
    learning_rate: float = 2e-3
    min_lr_fraction: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.02
    first_difficulty: float = 0.3
    last_difficulty: float = 0.7

    def build(self) -> StereoNetwork:
        """Return an untrained network: it keeps confident semi-global matches."""
        return StereoNetwork(self.network)

    def make_batch(
        self, worlds: WorldBatch, generator: torch.Generator | None = None
    ) -> StereoExample:
        """Turn worlds into pairs, augmented, and as phones would photograph them."""
        if generator is None:
            generator = torch.Generator().manual_seed(SEED)
            return make_example(worlds, worlds.images, self.network.steps, generator)
        worlds = augment(worlds, generator)
        images = degrade(worlds.images, generator, self.artifacts)
        return make_example(worlds, images, self.network.steps, generator)

    def loss(
        self, network: StereoNetwork, batch: StereoExample, lpips: Lpips | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Return `stereo_loss`."""
        return stereo_loss(*predict(network, batch), batch)

    @torch.no_grad()
    def validate(self, network: StereoNetwork, textures: Textures, pairs: int) -> dict[str, float]:
        """Measure depth in both views, where the other view sees the point.

        Returns:
            `depth_error`: median over pairs of median relative errors; `far_off`: fraction of
            errors above two steps.
        """
        network.eval()
        depth_errors, far_off = [], []
        for worlds in held_out_worlds(textures, self.sizes[0], pairs):
            example = self.make_batch(worlds)
            if not example.visible.any():
                continue
            position, _ = predict(network, example)
            truth, found = (
                position_to_depth(each, example.inverse_depths, self.network.steps)
                for each in (example.position, position)
            )
            depth_errors.append(float((found / truth - 1).abs()[example.visible].median()))
            steps_off = (position - example.position).abs()[example.visible]
            far_off.append(float((steps_off > 2).float().mean()))
        return {"depth_error": median(depth_errors), "far_off": fmean(far_off)}

    def write(self, network: StereoNetwork, path: Path, about: dict[str, str]) -> None:
        """Write a weights file, in half precision."""
        save_network(network, path, about, torch.float16)
