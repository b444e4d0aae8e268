"""The `Gaussians` container: scenes as networks predict and renderers show them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from models.geometry.rigid import to_wxyz, transform_points
from models.geometry.spherical_harmonics import turning_matrix

SH_DEGREE_0 = 0.28209479177387814  # the constant spherical harmonic: color = 0.5 + SH_DEGREE_0 * c
MAX_VALUE = 1e15  # of coordinates, scales and harmonics: float32 holds the product of two
PARAMETERS = ("means", "scales", "rotations", "harmonics", "opacities")  # of every Gaussian
SAMPLE = 1_000_000  # Gaussians that are enough for a median


@dataclass(frozen=True)
class Gaussians:
    """3D Gaussians of one scene, in the units that a renderer wants.

    World axes are those of the first camera: +x right, +y down, +z into the scene. Scales are
    lengths (standard deviations), not logarithms; opacities are probabilities, not logits;
    rotations are unit quaternions, wxyz, that take the Gaussian's axes to the world's. Harmonics
    follow 3DGS: color = max(0, 0.5 + sum of basis * coefficient), basis functions in its order.
    `guessed` marks what no photo shows; None is nothing.
    """

    means: Float[Tensor, "gaussian 3"]
    scales: Float[Tensor, "gaussian 3"]
    rotations: Float[Tensor, "gaussian 4"]
    harmonics: Float[Tensor, "gaussian 3 sh"]
    opacities: Float[Tensor, " gaussian"]
    guessed: Bool[Tensor, " gaussian"] | None = None

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

    def chunks(self, size: int) -> "Iterator[Gaussians]":
        """Yield views of `size` Gaussians at a time, in order; fewer in the last."""
        for start in range(0, len(self), size):
            yield self.at(slice(start, start + size))

    def sample(self, at_most: int = SAMPLE) -> "Gaussians":
        """Return every n-th Gaussian, a view, with the smallest n that leaves `at_most`."""
        step = max(1, -(-len(self) // at_most))
        return self.at(slice(None, None, step)) if step > 1 else self

    def at(self, index: slice | Int[Tensor, " index"]) -> "Gaussians":
        """Return Gaussians by their indices, or a view of a slice."""
        return self.map(lambda tensor: tensor[index])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Gaussians":
        """Apply a function to every tensor."""
        changed = Gaussians(*(change(getattr(self, name)) for name in PARAMETERS))
        return changed if self.guessed is None else replace(changed, guessed=change(self.guessed))

    def without_guesses(self) -> "Gaussians":
        """Return the Gaussians that photos show."""
        if self.guessed is None:
            return self
        return replace(self.select(~self.guessed), guessed=None)


def join(parts: list[Gaussians]) -> Gaussians:
    """Concatenate scenes that share a world and an SH degree."""
    joined = Gaussians(*(torch.cat([getattr(part, name) for part in parts]) for name in PARAMETERS))
    if all(part.guessed is None for part in parts):
        return joined
    marks = [
        torch.zeros_like(part.opacities, dtype=torch.bool) if part.guessed is None else part.guessed
        for part in parts
    ]
    return replace(joined, guessed=torch.cat(marks))


def rescale(gaussians: Gaussians, factor: float) -> Gaussians:
    """Scale a scene by `factor` about the world's origin."""
    return replace(gaussians, means=gaussians.means * factor, scales=gaussians.scales * factor)


def transform(gaussians: Gaussians, rigid: Float[Tensor, "4 4"], factor: float = 1.0) -> Gaussians:
    """Scale a scene by `factor` about the world's origin, then move it by a rigid motion."""
    rotation = rigid[:3, :3].to(gaussians.means)
    turning = turning_matrix(rotation.double(), gaussians.sh_degree).to(gaussians.harmonics)
    w, x, y, z = to_wxyz(rotation).tolist()
    product = [[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]
    scaled = rescale(gaussians, factor)
    return replace(
        scaled,
        means=transform_points(scaled.means, rigid.to(gaussians.means)),
        rotations=gaussians.rotations @ gaussians.rotations.new_tensor(product).mT,
        harmonics=gaussians.harmonics @ turning.mT,
    )


def crop(gaussians: Gaussians, low: Float[Tensor, "3"], high: Float[Tensor, "3"]) -> Gaussians:
    """Return the Gaussians whose means are in a box, its faces included."""
    inside = (gaussians.means >= low.to(gaussians.means)) & (
        gaussians.means <= high.to(gaussians.means)
    )
    return gaussians.select(inside.all(dim=1))


def keep_strongest(gaussians: Gaussians, count: int) -> Gaussians:
    """Return the `count` Gaussians with the largest opacity times area, in their old order."""
    if len(gaussians) <= count:
        return gaussians
    area = gaussians.scales.sort(dim=1).values[:, 1:].prod(dim=1)
    strongest = (gaussians.opacities * area).argsort(descending=True, stable=True)[:count]
    keep = torch.zeros(len(gaussians), dtype=torch.bool, device=area.device)
    keep[strongest] = True
    return gaussians.select(keep)


def find_valid(gaussians: Gaussians) -> Bool[Tensor, " gaussian"]:
    """Return True where a Gaussian can be rendered.

    Its values are finite and at most `MAX_VALUE`, its scales not negative, its rotation not zero,
    its opacity a probability. Comparisons with NaN are false.
    """
    valid = (gaussians.opacities >= 0) & (gaussians.opacities <= 1)
    for values in (gaussians.means, gaussians.scales, gaussians.rotations, gaussians.harmonics):
        valid &= (values.flatten(1).abs() <= MAX_VALUE).all(dim=1)
    return valid & (gaussians.scales >= 0).all(dim=1) & (gaussians.rotations != 0).any(dim=1)
