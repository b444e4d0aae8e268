"""How far a picture is from a photo, and a pose from the truth."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.rigid import invert, rotation_angle

FAILED_DEG = 180.0  # the error of a pose that was not found
_WINDOW, _SIGMA = 11, 1.5  # of the Gaussian that SSIM weighs its neighborhoods with
_STABILIZER = 0.03**2 / 2  # C3 of SSIM for colors in [0, 1]
_STRUCTURE_CEILING = 0.98  # above it, only noise is left to agree


@dataclass(frozen=True)
class PoseError:
    """Angles between a relative pose and the true one; no length enters, as none is known."""

    rotation_deg: float
    translation_deg: float  # between the directions of the baselines, 0 to 180
    translation_folded_deg: float  # the same for directions without a sign, 0 to 90

    @property
    def pose_deg(self) -> float:
        """The larger of rotation and translation error, sign kept: what the AUC is made of."""
        return max(self.rotation_deg, self.translation_deg)

    @property
    def pose_folded_deg(self) -> float:
        """The same with the translation's sign ignored, as the paper's evaluation does."""
        return max(self.rotation_deg, self.translation_folded_deg)


FAILED_POSE = PoseError(FAILED_DEG, FAILED_DEG, FAILED_DEG)


def pose_error(
    predicted_world2cam: Float[Tensor, "4 4"], true_world2cam: Float[Tensor, "4 4"]
) -> PoseError:
    """Compare a camera with the true one, both in the first view's frame.

    The translation is judged by where the camera stands as the first view sees it. A camera that
    is said not to have moved at all has no direction and gets the largest error.
    """
    predicted, true = invert(predicted_world2cam.double()), invert(true_world2cam.double())
    rotation = rotation_angle(predicted[:3, :3], true[:3, :3])
    direction = _angle(predicted[:3, 3], true[:3, 3])
    moved = bool(predicted[:3, 3].norm() > 0)
    translation_deg = float(torch.rad2deg(direction)) if moved else FAILED_DEG
    folded_deg = min(translation_deg, 180 - translation_deg) if moved else FAILED_DEG
    return PoseError(float(torch.rad2deg(rotation)), translation_deg, folded_deg)


def pose_auc(errors_deg: Sequence[float], threshold_deg: float) -> float:
    """Area under the curve of recall over error, up to a threshold, as a share of the whole.

    The curve runs straight from (0, 0) through every (sorted error, recall), and level from the
    last error below the threshold to the threshold.
    """
    if not errors_deg:
        raise ValueError("an AUC needs at least one error; there is none")
    errors = torch.tensor(sorted(errors_deg), dtype=torch.float64)
    below = errors[errors < threshold_deg]
    recall = torch.arange(len(below) + 1, dtype=torch.float64) / len(errors)
    zero, end = below.new_zeros(1), below.new_full((1,), threshold_deg)
    area = torch.trapezoid(torch.cat([recall, recall[-1:]]), torch.cat([zero, below, end]))
    return float(area) / threshold_deg


def psnr(image: Float[Tensor, "3 height width"], photo: Float[Tensor, "3 height width"]) -> float:
    """Peak signal-to-noise ratio in decibels, after clipping both to [0, 1]; 100 at most."""
    error = (image.double().clamp(0, 1) - photo.double().clamp(0, 1)).square().mean()
    return float(-10 * torch.log10(error.clamp(min=1e-10)))


def ssim(image: Float[Tensor, "3 height width"], photo: Float[Tensor, "3 height width"]) -> float:
    """Structural similarity as the published tables have it: scikit-image, Gaussian window."""
    import skimage  # which training does not need

    return float(
        skimage.metrics.structural_similarity(
            image.double().cpu().numpy(),
            photo.double().cpu().numpy(),
            win_size=_WINDOW,
            gaussian_weights=True,
            sigma=_SIGMA,
            channel_axis=0,
            data_range=1.0,
        )
    )


@dataclass(frozen=True)
class Structure:
    """A photo, and what the structure term of SSIM asks about it: asked once, compared often."""

    photo: Float[Tensor, "3 height width"]
    mean: Float[Tensor, "3 inner_height inner_width"]
    variance: Float[Tensor, "3 inner_height inner_width"]


def structure_of(photo: Float[Tensor, "3 height width"]) -> Structure:
    """Prepare a photo for `structure_loss`."""
    mean, square = _blur(torch.cat([photo, photo.square()])).split(3)
    return Structure(photo, mean, _variance(mean, square))


def structure_loss(
    image: Float[Tensor, "3 height width"], photo: Float[Tensor, "3 height width"] | Structure
) -> Float[Tensor, ""]:
    """One minus the structure term of SSIM: blind to brightness and contrast; differentiable."""
    known = photo if isinstance(photo, Structure) else structure_of(photo)
    if image.device.type == "cpu" and image.dtype == torch.float32 and not known.mean.requires_grad:
        from models.metrics.structure import Disagreement

        limits = _STABILIZER, _STRUCTURE_CEILING, _least_variance(image)
        return Disagreement.apply(
            image, known.photo, known.mean, known.variance, _window(image), limits
        )
    maps = torch.cat([image, image.square(), image * known.photo])
    mean, square, product = _blur(maps).split(3)
    spread = (_variance(mean, square) * known.variance).sqrt()
    covariance = (product - mean * known.mean).clamp(min=-spread, max=spread)
    structure = (covariance + _STABILIZER) / (spread + _STABILIZER)
    return 1 - structure.clamp(max=_STRUCTURE_CEILING).mean()


def _variance(mean: Float[Tensor, "*map"], square: Float[Tensor, "*map"]) -> Float[Tensor, "*map"]:
    return (square - mean.square()).clamp(min=_least_variance(mean))


def _least_variance(maps: Float[Tensor, "*map"]) -> float:
    return torch.finfo(maps.dtype).eps ** 2


def _window(maps: Float[Tensor, "*map"]) -> Float[Tensor, " window"]:
    """SSIM's weights of neighbors, across and down alike."""
    offsets = torch.arange(_WINDOW, dtype=maps.dtype, device=maps.device) - _WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    return weights / weights.sum()


def _blur(maps: Float[Tensor, "map height width"]) -> Float[Tensor, "map _height _width"]:
    """Average with SSIM's window, where it lies inside; a group per channel is fast on CPUs."""
    weights = _window(maps).expand(len(maps), 1, 1, _WINDOW)
    rows = torch.nn.functional.conv2d(maps[None], weights, groups=len(maps))
    return torch.nn.functional.conv2d(rows, weights.mT, groups=len(maps))[0]


def _angle(first: Float[Tensor, "3"], second: Float[Tensor, "3"]) -> Float[Tensor, ""]:
    return torch.atan2(torch.linalg.cross(first, second).norm(), first @ second)
