"""Random numbers that depend on nothing but a generator's state."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rng:
    """A random number generator that samples on its own device and returns on another."""

    generator: torch.Generator
    device: torch.device

    def tensor(self, values: Any) -> Tensor:
        """Return constants on the device of the samples."""
        return torch.tensor(values, device=self.device)

    def uniform(self, low: float | int, high: float | int, *shape: int) -> Tensor:
        """Sample uniformly from [low, high)."""
        sampled = torch.rand(*shape, generator=self.generator, device=self.generator.device)
        return (low + (high - low) * sampled).to(self.device)

    def log_uniform(self, low: float | int, high: float | int, *shape: int) -> Tensor:
        """Sample numbers in [low, high) whose logarithm is uniform."""
        return low * (high / low) ** self.uniform(0, 1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Sample from the standard normal distribution."""
        sampled = torch.randn(*shape, generator=self.generator, device=self.generator.device)
        return sampled.to(self.device)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Sample integers uniformly from [low, high)."""
        source = self.generator
        sampled = torch.randint(low, high, shape, generator=source, device=source.device)
        return sampled.to(self.device)

    def bernoulli(self, probability: float | int, *shape: int) -> Tensor:
        """Sample booleans that are true with a probability."""
        return self.uniform(0, 1, *shape) < probability
