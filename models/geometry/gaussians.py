"""The `Gaussians` container: scenes as networks predict and renderers show them."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

SH_DEGREE_0 = 0.28209479177387814  # the constant spherical harmonic: color = 0.5 + SH_DEGREE_0 * c


@dataclass(frozen=True)
class Gaussians:
    """3D Gaussians of one scene, in the units that a renderer wants.

    World axes are those of the first camera: +x right, +y down, +z into the scene. Scales are
    lengths (standard deviations), not logarithms; opacities are probabilities, not logits;
    rotations are unit quaternions, wxyz, that take the Gaussian's axes to the world's. Harmonics
    follow 3DGS: color = max(0, 0.5 + sum of basis * coefficient), basis functions in its order.
    """

    means: Float[Tensor, "gaussian 3"]
    scales: Float[Tensor, "gaussian 3"]
    rotations: Float[Tensor, "gaussian 4"]
    harmonics: Float[Tensor, "gaussian 3 sh"]
    opacities: Float[Tensor, " gaussian"]

    def __len__(self) -> int:
        """Return the number of Gaussians."""
        return self.means.shape[0]

    @property
    def sh_degree(self) -> int:
        """Degree of the spherical harmonics."""
        return round(self.harmonics.shape[-1] ** 0.5) - 1

    def to(self, device: torch.device) -> "Gaussians":
        """Copy to a device; the original is untouched."""
        return self.map(lambda tensor: tensor.to(device))

    def select(self, keep: Bool[Tensor, " gaussian"]) -> "Gaussians":
        """Return the Gaussians where `keep` is true, in the same order."""
        return self.map(lambda tensor: tensor[keep])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Gaussians":
        """Apply a function to every tensor."""
        return Gaussians(*(change(getattr(self, field.name)) for field in fields(self)))


def join(parts: list[Gaussians]) -> Gaussians:
    """Concatenate scenes that share a world and an SH degree."""
    return Gaussians(
        *(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Gaussians))
    )


def rescale(gaussians: Gaussians, factor: float) -> Gaussians:
    """Scale a scene by `factor` about the world's origin."""
    return replace(gaussians, means=gaussians.means * factor, scales=gaussians.scales * factor)
