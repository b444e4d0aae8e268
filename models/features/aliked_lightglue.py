"""Learned matcher: ALIKED keypoints and LightGlue matches.

They find what SIFT cannot: little overlap, large rotations, walls with hardly any texture. Their
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
from models.features.matcher import Features, TentativeMatches
from models.geometry.views import resize

LONG_SIDE_PX = 768  # of the image in which keypoints are detected: larger ones are resized
MAX_KEYPOINTS = 2048  # those with the highest scores, in descending order
MAX_TENTATIVE_KEYPOINTS = 1024  # the first of them: among more, probabilities thin out
TEMPERATURE = 0.06  # of the descriptors' cosines in the softmax of tentative matches
MIN_PROBABILITY = 0.003  # of tentative matches
BIAS_PX = (1.0, 0.1)  # by which ALIKED is right of and below what it marks: rotate a photo to see
BORDER_PX = 3.0  # along the border of a rotated image, in which keypoints are not of the scene
WEIGHTS = ("aliked.safetensors", "lightglue.safetensors")


class LearnedMatcher:
    """ALIKED keypoints (Zhao et al., 2023), matched by LightGlue (Lindenberger et al., 2023).

    The networks are loaded at their first use: many photos never need them.
    """

    def __init__(self, device: torch.device, bfloat16: bool = False) -> None:
        """Find the weights. Raises FileNotFoundError.

        `bfloat16` lets LightGlue multiply in bfloat16: in two thirds of the time on a CPU that has
        instructions for it, and longer on others.
        """
        self.device, self.bfloat16 = device, bfloat16
        weights_files()

    @cached_property
    def _networks(self) -> tuple[Aliked, LightGlue]:
        return load_aliked_lightglue(self.device, self.bfloat16)

    @torch.no_grad()
    def detect(self, image: Float[Tensor, "3 height width"], rotation: float = 0.0) -> Features:
        """Detect and describe keypoints on the image's device, those of high scores first."""
        scale = min(1.0, LONG_SIDE_PX / max(image.shape[-2:]))
        height, width = (round(side * scale) for side in image.shape[-2:])
        image = resize(image, (height, width))
        aliked, _ = self._networks
        found, descriptors = aliked(
            rotate_image(image, rotation) if rotation else image, MAX_KEYPOINTS
        )
        # ALIKED counts from the center of the first pixel, we from its corner.
        positions = (found.cpu() + 0.5 - torch.tensor(BIAS_PX)).clamp(min=0)
        size = torch.tensor([width, height])
        if rotation:
            rotated_height, rotated_width = rotated_size((height, width), rotation)
            centered = positions - torch.tensor([rotated_width, rotated_height]) / 2
            positions = centered @ _rotation_matrix(rotation) + size / 2
            kept = ((positions > BORDER_PX) & (positions < size - BORDER_PX)).all(dim=1)
            positions, descriptors = positions[kept], descriptors[kept.to(descriptors.device)]
        return Features(positions / size, descriptors, width / height, rotation=rotation)

    @torch.no_grad()
    def match(self, first: Features, second: Features) -> Int[Tensor, "match 2"]:
        """Match keypoints by LightGlue."""
        if not (len(first) and len(second)):
            return torch.zeros(0, 2, dtype=torch.long)
        _, lightglue = self._networks
        return lightglue(_normalized(first), _normalized(second)).cpu()

    @torch.no_grad()
    def match_softly(self, first: Features, second: Features) -> TentativeMatches:
        """Match descriptors by the dual softmax (LoFTR, Sun et al., CVPR 2021, eq. 2)."""
        descriptors = [each.descriptors[:MAX_TENTATIVE_KEYPOINTS] for each in (first, second)]
        similarity = descriptors[0] @ descriptors[1].T / TEMPERATURE
        probabilities = similarity.softmax(0) * similarity.softmax(1)
        matches = (probabilities > MIN_PROBABILITY).nonzero()
        return TentativeMatches(matches.cpu(), probabilities[matches[:, 0], matches[:, 1]].cpu())


def rotate_image(
    image: Float[Tensor, "3 height width"], angle: float
) -> Float[Tensor, "3 new_height new_width"]:
    """Rotate an image clockwise by radians, uncropped; its border is replicated outward."""
    height, width = image.shape[-2:]
    new_height, new_width = rotated_size((height, width), angle)
    cosine, sine = math.cos(angle), math.sin(angle)
    to_image = [
        [cosine * new_width / width, sine * new_height / width, 0.0],
        [-sine * new_width / height, cosine * new_height / height, 0.0],
    ]
    grid = functional.affine_grid(
        image.new_tensor([to_image]), [1, 3, new_height, new_width], align_corners=False
    )
    return functional.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]


def rotated_size(size: tuple[int, int], angle: float) -> tuple[int, int]:
    """Return the (height, width) that hold an image of this (height, width) when rotated."""
    height, width = size
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    return round(sine * width + cosine * height), round(cosine * width + sine * height)


def _rotation_matrix(angle: float) -> Float[Tensor, "2 2"]:
    """Return the matrix that rotates columns (x, y) clockwise, y being down; rows, back."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return torch.tensor([[cosine, -sine], [sine, cosine]])


def _normalized(features: Features) -> tuple[Tensor, Tensor]:
    """Return positions as ALIKED saw them, from the center in halves of the longer side."""
    cosine, sine = abs(math.cos(features.rotation)), abs(math.sin(features.rotation))
    longer = max(cosine * features.aspect + sine, sine * features.aspect + cosine)
    positions = (features.coordinates - 0.5) * torch.tensor([features.aspect, 1.0]) * 2 / longer
    positions = positions @ _rotation_matrix(features.rotation).T
    return positions.to(features.descriptors), features.descriptors


def weights_files() -> list[Path]:
    """Return the files of ALIKED's and LightGlue's weights. Raises FileNotFoundError."""
    files = [Path(__file__).parent.parent / "embedded" / name for name in WEIGHTS]
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"the weights {file} are missing")
    return files


def load_aliked_lightglue(device: torch.device, bfloat16: bool = False) -> tuple[Aliked, LightGlue]:
    """Build both networks from the files in the package, `bfloat16` as in `LearnedMatcher`.

    Raises FileNotFoundError, or ValueError when a file is broken or lacks weights.
    """
    aliked, lightglue = (load_weights(path, device) for path in weights_files())
    try:
        return Aliked(aliked), LightGlue(lightglue, bfloat16)
    except KeyError as error:
        raise ValueError(f"the weights of ALIKED or LightGlue lack {error}") from error


def load_weights(path: Path, device: torch.device) -> dict[str, Tensor]:
    """Read weights under their authors' names, as float32. Raises ValueError for a broken file."""
    try:
        weights = {name: value.float() for name, value in load_file(path, str(device)).items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is broken or no weights file ({error})") from error
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ValueError(f"{path} is broken: {name} is not finite")
    return weights
