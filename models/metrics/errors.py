"""Errors of poses, and of renderings: pose AUC and PSNR."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.rigid import invert, rotation_angle

FAILED_DEG = 180.0  # the error of a pose that was not found


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

    The translation error is the angle between the cameras' centers as seen from the first. A
    predicted camera that did not move has no direction and gets the largest error.
    """
    predicted, true = invert(predicted_world2cam.double()), invert(true_world2cam.double())
    rotation = rotation_angle(predicted[:3, :3], true[:3, :3])
    direction = _angle(predicted[:3, 3], true[:3, 3])
    moved = bool(predicted[:3, 3].norm() > 0)
    translation_deg = float(torch.rad2deg(direction)) if moved else FAILED_DEG
    folded_deg = min(translation_deg, 180 - translation_deg) if moved else FAILED_DEG
    return PoseError(float(torch.rad2deg(rotation)), translation_deg, folded_deg)


def pose_auc(errors_deg: Sequence[float], threshold_deg: float) -> float:
    """Return the area under the recall curve up to a threshold, over the threshold (AUC).

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
    """Return the PSNR in decibels, after clipping both to [0, 1]; 100 at most."""
    error = (image.double().clamp(0, 1) - photo.double().clamp(0, 1)).square().mean()
    return float(-10 * torch.log10(error.clamp(min=1e-10)))


def _angle(first: Float[Tensor, "3"], second: Float[Tensor, "3"]) -> Float[Tensor, ""]:
    return torch.atan2(torch.linalg.cross(first, second).norm(), first @ second)
