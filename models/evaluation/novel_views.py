"""Render a scene where photos were taken, and compare the renderings with the photos."""

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.pairs import PosedPhoto
from models.evaluation.pose_alignment import align_cameras
from models.evaluation.scores import ImageScore
from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.geometry.views import View, crop_to_aspect
from models.metrics.errors import psnr
from models.metrics.lpips import Lpips
from models.metrics.ssim import ssim
from models.render.supersampling import render_supersampled


@dataclass(frozen=True)
class ViewScores:
    """Scores of the renderings of one scene.

    Attributes:
        posed: Of all views, rendered at their true poses.
        aligned: Of the targets, rendered at their aligned poses; None if none were aligned.
        side_by_side: A row for each view: photo, rendering and, if there is one, the aligned one.
        render_seconds: Of one rendering.
        align_seconds: Of the alignment of all targets; None if none were aligned.
    """

    posed: tuple[ImageScore, ...]
    aligned: tuple[ImageScore | None, ...]
    side_by_side: Float[Tensor, "3 height width"]
    render_seconds: float
    align_seconds: float | None


def load_square(photo: PosedPhoto, size: int, published: bool = False) -> View:
    """Read a photo's center square.

    Args:
        photo: The photo.
        size: Pixels along a side of the result.
        published: Shrink and crop by the published evaluation's rules; `load_cropped` has them.

    Raises:
        ValueError: If it cannot be read or, by those rules, is too small.
    """
    if published:
        return photo.load_cropped((size, size))
    return crop_to_aspect(photo.load(), 1.0).resized((size, size))


def score_views(
    gaussians: Gaussians | None,
    views: list[View],
    align: bool,
    lpips: Lpips | None,
    gaussians_per_pixel: float | None = None,
    factor: int = 1,
) -> ViewScores:
    """Render a scene at true poses and, if asked, the targets at those that fit it best.

    Args:
        gaussians: The scene; None counts as black renderings.
        views: The first view, then the targets, all of one size; lengths are the scene's.
        align: Whether to render the targets at aligned poses too.
        lpips: The perceptual distance, on the scene's device; None leaves it out.
        gaussians_per_pixel: How many are enough to align by; None takes all.
        factor: Of supersampling, along each side. Of a scene finer than the image a pixel would
            otherwise show one Gaussian of many, whereas the photo's pixel is the average of all
            that fell on it.
    """
    images = torch.stack([view.image for view in views])
    renderings, render_seconds, align_seconds = torch.zeros_like(images), 0.0, None
    aligned = torch.zeros_like(images[1:]) if align else None
    if gaussians is not None:
        device = gaussians.means.device
        cameras = Camera(
            torch.stack([view.camera.intrinsics for view in views]),
            torch.stack([view.camera.world2cam for view in views]),
            views[0].camera.size,
        ).to(device)
        start = time.perf_counter()
        renderings = _render_all(gaussians, cameras, factor)
        render_seconds = (time.perf_counter() - start) / len(views)
        if align and len(views) > 1:
            start = time.perf_counter()
            targets = images[1:].to(device)
            found = align_cameras(gaussians, cameras[1:], targets, lpips, gaussians_per_pixel)
            aligned = _render_all(gaussians, found, factor)
            align_seconds = time.perf_counter() - start
    columns = [images, renderings]
    aligned_scores: list[ImageScore | None] = [None] * len(images[1:])
    if aligned is not None and len(aligned):
        columns.append(torch.cat([torch.ones_like(images[:1]), aligned]))
        aligned_scores = [_score(*pair, lpips) for pair in zip(aligned, images[1:], strict=True)]
    return ViewScores(
        posed=tuple(_score(*pair, lpips) for pair in zip(renderings, images, strict=True)),
        aligned=tuple(aligned_scores),
        side_by_side=torch.cat([torch.cat(list(c), dim=1) for c in columns], dim=2).clamp(0, 1),
        render_seconds=render_seconds,
        align_seconds=align_seconds,
    )


@torch.no_grad()
def _render_all(
    gaussians: Gaussians, cameras: Camera, factor: int
) -> Float[Tensor, "view 3 size size"]:
    return torch.stack([render_supersampled(gaussians, each, factor).cpu() for each in cameras])


@torch.no_grad()
def _score(
    rendering: Float[Tensor, "3 size size"],
    image: Float[Tensor, "3 size size"],
    lpips: Lpips | None,
) -> ImageScore:
    distance = None
    if lpips is not None:
        device = next(lpips.parameters()).device
        distance = float(lpips(rendering[None].to(device), image[None].to(device)))
    return ImageScore(psnr(rendering, image), ssim(rendering, image), distance)
