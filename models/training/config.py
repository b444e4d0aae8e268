"""`TrainConfig`: the settings that all training runs share, and what each kind must provide."""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.data.procedural import Textures, WorldBatch
from models.metrics.lpips import Lpips

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ABC, Generic[NetworkT]):
    """Everything that decides what a training run does, except for how long."""

    part: ClassVar[str]  # names the subclass in a checkpoint
    architecture: ClassVar[type[Any]]  # of the field `network`, the settings of the network

    weights_name: str
    license: str = "MIT"  # of the weights: that of the weights it starts from
    network: Any
    sizes: tuple[tuple[int, int], ...]  # (height, width) of the images, in turn
    batch: int
    seed: int = 0
    total_steps: int  # over which the learning rate falls
    warmup_steps: int
    learning_rate: float
    min_lr_fraction: float  # of the learning rate, left in the end
    betas: tuple[float, float]
    weight_decay: float
    clip_norm: float = 1.0
    max_norm: float = 100.0  # steps with larger gradients are skipped
    averaged: bool = True  # an exponential moving average of the weights is validated and exported
    max_decay: float = 0.999  # of that average, reached late in a run
    # Of procedural worlds:
    batches_per_draw: int = 1  # sampled together: on a GPU many cost hardly more than one
    steps_per_batch: int = 1
    buffer_size: int = 1  # batches in memory that a step chooses from
    first_difficulty: float
    last_difficulty: float
    artifacts: float = 0.7  # strength of the simulated phone camera
    texture_count: int = 2000
    texture_size: int = 128

    @abstractmethod
    def build(self) -> NetworkT:
        """Return a network with random weights."""

    @abstractmethod
    def make_batch(self, worlds: WorldBatch, generator: torch.Generator | None = None) -> Any:
        """Turn worlds into a batch for `loss`; without a generator, without augmentation."""

    @abstractmethod
    def loss(
        self, network: NetworkT, batch: Any, lpips: Lpips | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Return what is minimized on a batch, and numbers for the log."""

    @abstractmethod
    def validate(self, network: NetworkT, textures: Textures, pairs: int) -> dict[str, float]:
        """Return measures of quality on this many worlds that are never trained on."""

    @abstractmethod
    def write(self, network: NetworkT, path: Path, about: dict[str, str]) -> None:
        """Write a weights file that `models.weights` loads."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig[NetworkT]":
        """Undo `to_dict`. Raises KeyError or TypeError for values of another kind."""
        return cls(**values | {"network": cls.architecture(**values["network"])})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a checkpoint or a file's metadata."""
        return asdict(self)

    @property
    def samples_per_step(self) -> int:
        """Examples that one process sees in a step."""
        return self.batch

    def describe(self, step: int) -> str:
        """Return a sentence about the weights after this many steps."""
        pairs = -(-step // self.steps_per_batch) * self.batch
        return f"trained for {step} steps on {pairs} pairs of procedural views"

    def views(self, step: int) -> int:
        """Return how many views of each world the loss needs at this step."""
        return 2

    def difficulty(self, step: int) -> float:
        """Return the difficulty of worlds sampled at this step: it rises linearly."""
        progress = min(1.0, step / self.total_steps)
        return self.first_difficulty + progress * (self.last_difficulty - self.first_difficulty)

    def log_image(self, network: NetworkT, batch: Any) -> Float[Tensor, "3 _height _width"] | None:
        """Return an image for the log, in [0, 1], or None."""
        return None

    def prepare(self, network: NetworkT) -> None:
        """Set how the network computes in training, such as recomputing activations."""
        return None

    def parameter_groups(self, network: NetworkT) -> list[dict[str, Any]]:
        """Return the optimizer's groups; `lr_scale` multiplies the learning rate of a group.

        Biases and other vectors do not decay.
        """
        learning = [each for each in network.parameters() if each.requires_grad]
        matrices = [parameter for parameter in learning if parameter.ndim > 1]
        vectors = [parameter for parameter in learning if parameter.ndim <= 1]
        return [
            {"params": matrices, "lr_scale": 1.0},
            {"params": vectors, "lr_scale": 1.0, "weight_decay": 0.0},
        ]

    def learning_rate_at(self, step: int, lr_scale: float = 1.0) -> float:
        """Return a group's learning rate: linear warm-up, then half a cosine.

        As published, the rate falls to `min_lr_fraction` of the unscaled learning rate in every
        group: a group whose `lr_scale` equals that stays at its peak.
        """
        highest = self.learning_rate * lr_scale
        lowest = self.learning_rate * self.min_lr_fraction
        if step < self.warmup_steps:
            done = step / self.warmup_steps
            return highest * (done + (1 - done) / self.warmup_steps)
        progress = min(1.0, (step - self.warmup_steps) / self.total_steps)
        return lowest + (highest - lowest) * (1 + math.cos(math.pi * progress)) / 2

    def average_decay(self, step: int) -> float:
        """Return the decay of the averaged weights: small at first, so that they follow closely."""
        return min(self.max_decay, 1 - 1 / (step / 10 + 1))
