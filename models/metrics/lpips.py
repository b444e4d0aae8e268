"""The perceptual distance LPIPS (Zhang et al., 2018), with its VGG-16 trunk, version 0.1.

Our own implementation. Its weights are other people's: the trunk is torchvision's ImageNet
classifier, the heads are in the PyPI package `lpips`; neither comes with this package.
"""

import pickle
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

_WIDTHS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)  # of VGG-16's layers
_MEAN, _DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1]
_EPSILON = 1e-10


class Lpips(nn.Module):
    """LPIPS of two images: 0 for equal ones, about 0.1 for good renderings."""

    def __init__(self) -> None:
        super().__init__()
        width = 3
        layers: list[nn.Module] = []
        self.ends: list[int] = []  # of stages, whose features are compared
        for widths in _WIDTHS:
            layers += [nn.MaxPool2d(2)] if layers else []
            for out in widths:
                layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU()]
                width = out
            self.ends.append(len(layers))
        self.features = nn.Sequential(*layers)  # numbered as in torchvision
        self.heads = nn.ParameterList(torch.zeros(widths[-1]) for widths in _WIDTHS)
        self.requires_grad_(False).eval()

    def forward(
        self,
        images: Float[Tensor, "batch 3 height width"],
        photos: Float[Tensor, "batch 3 height width"],
    ) -> Float[Tensor, " batch"]:
        """Compare images in [0, 1], which may overshoot, of at least 16 x 16 pixels."""
        mean, deviation = (
            images.new_tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION)
        )
        first, second = (((2 * x - 1) - mean) / deviation for x in (images, photos))
        total = images.new_zeros(len(images))
        for start, end, head in zip([0, *self.ends[:-1]], self.ends, self.heads, strict=True):
            stage = self.features[start:end]
            first, second = stage(first), stage(second)
            squares = (_unit(first) - _unit(second)).square()
            total = total + torch.einsum("bchw,c->bhw", squares, head).mean((1, 2))
        return total


def _unit(features: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel h w"]:
    return features / (features.square().sum(1, keepdim=True).sqrt() + _EPSILON)


def load_lpips(trunk: Path, heads: Path) -> Lpips:
    """Load LPIPS from the weight files of torchvision and of the package `lpips`.

    Args:
        trunk: torchvision's `vgg16-397923af.pth`, or just its `features`.
        heads: `weights/v0.1/vgg.pth` of the package `lpips`.

    Raises:
        ValueError: If a file is broken or holds something else.
    """
    with torch.device("meta"):
        network = Lpips()
    theirs, linear = _read(trunk), _read(heads)
    try:
        state = {
            f"heads.{index}": linear[f"lin{index}.model.1.weight"].flatten().float()
            for index in range(len(_WIDTHS))
        }
        state |= {name: theirs[name].float() for name in network.state_dict() if name not in state}
        network.load_state_dict(state, assign=True)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{trunk} and {heads} are no weights of LPIPS: {error}") from error
    return network.requires_grad_(False).eval()


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, OSError, EOFError, TypeError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is broken or holds no weights ({error})") from error
