"""Learned keypoints and matches: ALIKED and LightGlue.

They find what SIFT cannot: little overlap, large turns, walls with hardly any texture. Their
trained weights are their authors', stored in the package as float16.
"""

import math
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from models.features.aliked import Aliked
from models.features.lightglue import LightGlue
from models.features.matcher import Features, Guesses
from models.geometry.views import resize

SIDE = 768  # long side at which keypoints are found: larger photos are scaled down
KEYPOINTS = 2048  # at most; those with the highest scores come first
GUESSED = 1024  # of these are guessed about: chances thin out among more
TEMPERATURE = 0.06  # of the cosines of descriptors, to make probabilities of them
LEAST_CHANCE = 0.003  # less likely pairs are not even guesses
BIAS = (1.0, 0.1)  # pixels by which ALIKED is right of and below what it marks: turn a photo to see
RIM = 3.0  # pixels along the border of a turned photo in which keypoints are not of the scene
WEIGHTS = ("aliked.safetensors", "lightglue.safetensors")


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
        weights_files()

    @cached_property
    def _networks(self) -> tuple[Aliked, LightGlue]:
        return load_networks(self.device, self.rounded)

    @torch.no_grad()
    def detect(self, image: Float[Tensor, "3 height width"], turn: float = 0.0) -> Features:
        """Find keypoints, on the photo's device: those with the highest scores first."""
        scale = min(1.0, SIDE / max(image.shape[-2:]))
        height, width = (round(side * scale) for side in image.shape[-2:])
        photo = resize(image, (height, width))
        found, descriptors = self._networks[0](turned(photo, turn) if turn else photo, KEYPOINTS)
        # ALIKED counts from the center of the first pixel, we from its corner.
        places = (found.cpu() + 0.5 - torch.tensor(BIAS)).clamp(min=0)
        if turn:
            across, down = canvas((height, width), turn)
            places = (places - torch.tensor([across, down]) / 2) @ _rotation(turn)
            places = places + torch.tensor([width, height]) / 2
            inside = (places > RIM) & (places < torch.tensor([width, height]) - RIM)
            kept = inside.all(dim=1)
            places, descriptors = places[kept], descriptors[kept.to(descriptors.device)]
        coordinates = places / torch.tensor([width, height])
        return Features(coordinates, descriptors, width / height, turn=turn)

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


def turned(photo: Float[Tensor, "3 height width"], turn: float) -> Float[Tensor, "3 down across"]:
    """A photo turned clockwise about its center, all of it; beyond its border, that goes on."""
    height, width = photo.shape[-2:]
    across, down = canvas((height, width), turn)
    cosine, sine = math.cos(turn), math.sin(turn)
    to_photo = [
        [cosine * across / width, sine * down / width, 0.0],
        [-sine * across / height, cosine * down / height, 0.0],
    ]
    grid = functional.affine_grid(
        photo.new_tensor([to_photo]), [1, 3, down, across], align_corners=False
    )
    return functional.grid_sample(photo[None], grid, padding_mode="border", align_corners=False)[0]


def canvas(size: tuple[int, int], turn: float) -> tuple[int, int]:
    """(across, down): what holds a photo of this (height, width) when it is turned."""
    height, width = size
    cosine, sine = abs(math.cos(turn)), abs(math.sin(turn))
    return round(cosine * width + sine * height), round(sine * width + cosine * height)


def _rotation(turn: float) -> Float[Tensor, "2 2"]:
    """What turns points (x, y) clockwise, y being down: times a row of points, back."""
    cosine, sine = math.cos(turn), math.sin(turn)
    return torch.tensor([[cosine, -sine], [sine, cosine]])


def _as_input(features: Features) -> tuple[Tensor, Tensor]:
    """Places as the network saw them, from the middle in halves of the longer side."""
    cosine, sine = abs(math.cos(features.turn)), abs(math.sin(features.turn))
    longer = max(cosine * features.aspect + sine, sine * features.aspect + cosine)
    places = (features.coordinates - 0.5) * torch.tensor([features.aspect, 1.0]) * 2 / longer
    places = places @ _rotation(features.turn).T
    return places.to(features.descriptors), features.descriptors


def weights_files() -> list[Path]:
    """Return the files of ALIKED's and LightGlue's weights. Raises FileNotFoundError."""
    files = [Path(__file__).parent.parent / "embedded" / name for name in WEIGHTS]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"the weights {file} are missing")
    return files


def load_networks(device: torch.device, rounded: bool = False) -> tuple[Aliked, LightGlue]:
    """Build both networks from the files in the package, `rounded` as in `LearnedMatcher`.

    Raises FileNotFoundError, or ValueError when a file is broken or lacks weights.
    """
    aliked, lightglue = (load_weights(path, device) for path in weights_files())
    try:
        return Aliked(aliked), LightGlue(lightglue, rounded)
    except KeyError as error:
        raise ValueError(f"the weights of ALIKED or LightGlue lack {error}") from error


def load_weights(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Read weights under their authors' names, as float32. Raises ValueError for a broken file."""
    try:
        return {name: value.float() for name, value in load_file(path, str(device)).items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is broken or no weights file ({error})") from error
