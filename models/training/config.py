"""What a training run of any part is told: settings that all share, and what each must answer."""

import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.data.procedural import Textures

NetworkT = TypeVar("NetworkT", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ABC, Generic[NetworkT]):
    """All that decides what a training run does, except for how long."""

    part: ClassVar[str]
    weights_name: ClassVar[str]

    sizes: tuple[tuple[int, int], ...]  # of the photos, drawn in turn
    batch: int
    seed: int = 0
    drawn: int = 1  # batches of worlds drawn at a time: on a GPU many cost hardly more than one
    reuse: int = 1  # steps per batch of worlds drawn
    kept: int = 1  # batches in memory that a step chooses from
    total_steps: int  # at which the learning rate has come down
    warmup_steps: int
    learning_rate: float
    lowest_rate: float  # share of the learning rate that is left in the end
    betas: tuple[float, float]
    weight_decay: float
    clip_norm: float = 1.0
    most_norm: float = 100.0  # steps with larger gradients are skipped
    averaged: bool = True  # whether an average of the weights is what is measured and exported
    most_average: float = 0.999  # share of the averaged weights that a late step leaves in place
    first_difficulty: float
    last_difficulty: float
    artifacts: float = 0.7  # strength of what phone cameras add
    texture_count: int = 2000
    texture_size: int = 128
    license: str = "MIT"  # of the weights: that of those it starts from

    @classmethod
    @abstractmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig[NetworkT]":
        """Undo `asdict`. Raises KeyError or TypeError when that is not what it is."""

    @abstractmethod
    def build(self) -> NetworkT:
        """A network with random weights."""

    @abstractmethod
    def loss(
        self, network: NetworkT, batch: Any, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """What to minimize on a batch of examples, and numbers for the log."""

    @abstractmethod
    def score(self, network: NetworkT, textures: Textures, pairs: int) -> dict[str, float]:
        """Quality on so many pairs that are never trained on."""

    @abstractmethod
    def write(self, network: NetworkT, path: Path, about: dict[str, str]) -> None:
        """Write a weights file that the program loads."""

    def samples_per_step(self) -> int:
        """How many examples a process sees in a step."""
        return self.batch

    def describe(self, step: int) -> str:
        """What weights are that so many steps of this have trained."""
        pairs = -(-step // self.reuse) * self.batch
        return f"trained for {step} steps on {pairs} pairs of procedural views"

    def views(self, step: int) -> int:
        """How many views of each world the loss wants at this step."""
        return 2

    def difficulty(self, step: int) -> float:
        """Of the worlds drawn at this step: rises evenly."""
        progress = min(1.0, step / self.total_steps)
        return self.first_difficulty + progress * (self.last_difficulty - self.first_difficulty)

    def picture(self, network: NetworkT, batch: Any) -> Float[Tensor, "3 _height _width"] | None:
        """What the log shows now and then, in [0, 1], if anything."""
        return None

    def prepare(self, network: NetworkT) -> None:
        """Change how the network that learns computes, not what; its average stays as it is."""
        return None

    def groups(self, network: NetworkT) -> list[dict[str, Any]]:
        """Parameters by what differs in their training; `share` is of the learning rate."""
        decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
        others = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
        return [{"params": decayed}, {"params": others, "weight_decay": 0.0}]

    def rate(self, step: int, share: float = 1.0) -> float:
        """Learning rate of this step: linear warm-up, then half a cosine.

        `share` is that of a group of parameters, in recipes that have such groups.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = min(1.0, step / self.total_steps)
        fall = (1 + math.cos(math.pi * progress)) / 2
        return self.learning_rate * (self.lowest_rate + (1 - self.lowest_rate) * fall)

    def average_kept(self, step: int) -> float:
        """Share of the averaged weights that this step leaves in place: little at first."""
        return min(self.most_average, 1 - 1 / (step / 10 + 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, for a checkpoint or a file's metadata."""
        return asdict(self)
