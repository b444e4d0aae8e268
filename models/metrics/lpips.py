"""The perceptual distance LPIPS (Zhang et al., 2018), with its VGG-16 trunk, version 0.1.

Our own implementation. Its weights are other people's and do not come with this package: the
trunk is torchvision's ImageNet classifier, the linear heads are the authors' of LPIPS.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

_WIDTHS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)  # of VGG-16's convolutions
_MEAN, _DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in [-1, 1]
_EPSILON = 1e-10


class Lpips(nn.Module):
    """LPIPS of two images: 0 for equal ones, about 0.1 for good renderings.

    Convolutions are named conv0 to conv12, the heads of the five stages lin0 to lin4.
    """

    def __init__(self) -> None:
        super().__init__()
        width = place = 0
        for stage, widths in enumerate(_WIDTHS):
            for out in widths:
                self.add_module(f"conv{place}", nn.Conv2d(width or 3, out, 3, padding=1))
                width, place = out, place + 1
            head = nn.Conv2d(width, 1, 1, bias=False)
            nn.init.zeros_(head.weight)
            self.add_module(f"lin{stage}", head)
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
        features = [((2 * x - 1) - mean) / deviation for x in (images, photos)]
        total = images.new_zeros(len(images))
        place = 0
        for stage, widths in enumerate(_WIDTHS):
            if stage:
                features = [max_pool2d(x, 2) for x in features]
            for _ in widths:
                convolution = self.get_submodule(f"conv{place}")
                features = [convolution(x).relu() for x in features]
                place += 1
            first, second = map(_unit, features)
            head = self.get_submodule(f"lin{stage}")
            total = total + head((first - second).square()).mean((1, 2, 3))
        return total


def _unit(features: Float[Tensor, "batch channel h w"]) -> Float[Tensor, "batch channel h w"]:
    return features / (features.square().sum(1, keepdim=True).sqrt() + _EPSILON)
