"""Random numbers that depend on nothing but a generator's state."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Dice:
    """Draws where the generator lives, returns on the wanted device."""

    generator: torch.Generator
    device: torch.device

    def uniform(self, low: float | int, high: float | int, *shape: int) -> Tensor:
        """Uniform in [low, high)."""
        drawn = torch.rand(*shape, generator=self.generator, device=self.generator.device)
        return (low + (high - low) * drawn).to(self.device)

    def log_uniform(self, low: float | int, high: float | int, *shape: int) -> Tensor:
        """Uniform in the logarithm."""
        return low * (high / low) ** self.uniform(0, 1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        drawn = torch.randn(*shape, generator=self.generator, device=self.generator.device)
        return drawn.to(self.device)

    def integer(self, low: int, high: int, *shape: int) -> Tensor:
        """Integers in [low, high)."""
        source = self.generator
        return torch.randint(low, high, shape, generator=source, device=source.device).to(
            self.device
        )

    def chance(self, probability: float | int, *shape: int) -> Tensor:
        """True this often."""
        return self.uniform(0, 1, *shape) < probability
