"""Validation on held-out procedural worlds."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.data.procedural import Textures, WorldBatch, generate
from models.geometry.rigid import transform_points
from models.metrics.errors import FAILED_POSE, pose_auc, pose_error, psnr
from models.metrics.ssim import ssim
from models.network.noposplat import Prediction
from models.training.batches import TrainingBatch
from models.training.losses import relative_errors

SEED = 2**31  # no run's seed is that large
AUC_LIMITS_DEG = 5.0, 10.0, 20.0


def held_out_worlds(
    textures: Textures, size: tuple[int, int], number: int, views: int = 2, difficulty: float = 0.3
) -> Iterator[WorldBatch]:
    """Yield worlds that no run trains on, one by one, the same every time."""
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(number):
        yield generate(1, views, size, textures, generator, textures.device, difficulty)


@dataclass(frozen=True)
class Scores:
    """Quality of one prediction: of rendered targets, of centers and of the second view's pose."""

    psnr: float
    ssim: float
    center_error: float  # median relative error
    depth_error: float  # median relative error of the first view's depth, after one scale
    second_error: float  # of the second view's depth, after the same scale
    pose_deg: float


def score_prediction(
    prediction: Prediction,
    rendered: Float[Tensor, "1 target 3 height width"],
    batch: TrainingBatch,
) -> Scores:
    """Score the prediction of one world."""
    from models.pose.pnp import pose_from_centers

    examples, centers, seen = batch.examples, batch.centers, batch.seen
    if centers is None or seen is None:
        raise ValueError("only where true centers are known")
    images = list(zip(rendered[0].clamp(0, 1), examples.target_images[0], strict=True))
    errors = relative_errors(prediction, centers, examples.cameras)
    first, first_truth = prediction.means[0, 0, ..., 2], centers[0, 0, ..., 2]
    scale = median_of(first_truth / first.clamp(min=1e-6), seen[0, 0])
    camera = examples.cameras[0, 1]
    second, second_truth = (
        transform_points(points.flatten(0, 1), camera.world2cam)[:, 2].view(first.shape)
        for points in (prediction.means[0, 1] * scale, centers[0, 1])
    )
    found = pose_from_centers(prediction.means[0, 1], prediction.opacities[0, 1], camera.intrinsics)
    pose = FAILED_POSE if found is None else pose_error(found.world2cam, camera.world2cam)
    return Scores(
        psnr=fmean(psnr(one, other) for one, other in images),
        ssim=fmean(ssim(one, other) for one, other in images),
        center_error=median_of(errors, seen),
        depth_error=median_of((first * scale / first_truth - 1).abs(), seen[0, 0]),
        second_error=median_of((second / second_truth - 1).abs(), seen[0, 1]),
        pose_deg=pose.pose_deg,
    )


def summarize(scores: Sequence[Scores]) -> dict[str, float]:
    """Return means of image and center scores, medians of depth errors, and pose AUC."""
    poses = [score.pose_deg for score in scores]
    return {
        "psnr": fmean(score.psnr for score in scores),
        "ssim": fmean(score.ssim for score in scores),
        "center_error": fmean(score.center_error for score in scores),
        "depth_error": median(score.depth_error for score in scores),
        "second_error": median(score.second_error for score in scores),
        **{f"pose_auc_{limit:g}": pose_auc(poses, limit) for limit in AUC_LIMITS_DEG},
    }


def median_of(values: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"]) -> float:
    """Return the median of the selected values; NaN if there are none."""
    return float(values[where].median()) if where.any() else math.nan
