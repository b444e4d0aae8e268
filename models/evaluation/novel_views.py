"""Renderings of a scene where photos were taken, compared with the photos."""

import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.pairs import PosedPhoto
from models.evaluation.pose_alignment import align_cameras
from models.evaluation.scores import ImageScore, TargetScore
from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.geometry.views import crop_to_aspect, resize
from models.metrics.errors import psnr
from models.metrics.lpips import Lpips
from models.metrics.ssim import ssim
from models.render.supersampling import render_supersampled


@dataclass(frozen=True)
class Square:
    """The center of a photo, as it is compared, and its camera."""

    name: str
    photo: Float[Tensor, "3 size size"]
    intrinsics: Float[Tensor, "3 3"]
    world2cam: Float[Tensor, "4 4"]


@dataclass(frozen=True)
class ViewScores:
    """How the views of one scene came out."""

    first_view: ImageScore
    targets: tuple[TargetScore, ...]
    picture: Float[Tensor, "3 height width"]  # a row for each view; the photos on the left
    render_seconds: float  # of one picture
    align_seconds: float | None  # of all targets; None if none were aligned


def load_square(view: PosedPhoto, size: int, published: bool = False) -> Square:
    """Read a photo's center square.

    Args:
        view: The photo.
        size: Pixels along a side of the result.
        published: Shrink and crop by the published evaluation's rules; `load_cropped` has them.

    Raises:
        ValueError: If it cannot be read or, by those rules, is too small.
    """
    if published:
        cropped = view.load_cropped((size, size))
        photo, intrinsics = cropped.image, cropped.camera.intrinsics
    else:
        photo, intrinsics = crop_to_aspect(view.load().image, view.camera.intrinsics, 1.0)
        photo = resize(photo, (size, size))
    return Square(view.name, photo, intrinsics, view.camera.world2cam)


def score_views(
    gaussians: Gaussians | None,
    squares: list[Square],
    unit: float,
    align: bool,
    lpips: Lpips | None,
    per_pixel: float | None = None,
    detail: int = 1,
) -> ViewScores:
    """Draw a scene at the true poses and, if asked, the targets at those that fit it best.

    Args:
        gaussians: The scene; None counts as black pictures.
        squares: The first view, then the targets.
        unit: The length, in that of the true poses, that is one in the scene.
        align: Whether to draw the targets at aligned poses too.
        lpips: The perceptual distance, on the scene's device; None leaves it out.
        per_pixel: How many Gaussians for a pixel are enough to align by; None takes all.
        detail: So many times larger, along each side, the scene is drawn and then averaged. Of a
            scene finer than the picture a pixel would otherwise show one Gaussian of many, whereas
            the photo's pixel is the average of all that fell on it.
    """
    photos = torch.stack([square.photo for square in squares])
    drawn, render_seconds, align_seconds = torch.zeros_like(photos), 0.0, None
    aligned = torch.zeros_like(photos[1:]) if align else None
    if gaussians is not None:
        device = gaussians.means.device
        world2cam = torch.stack([square.world2cam for square in squares]).to(device)
        world2cam[:, :3, 3] /= unit
        intrinsics = torch.stack([square.intrinsics for square in squares]).to(device)
        began = time.perf_counter()
        drawn = _draw(gaussians, world2cam, intrinsics, photos, detail)
        render_seconds = (time.perf_counter() - began) / len(squares)
        if align and len(squares) > 1:
            began = time.perf_counter()
            size = (photos.shape[-2], photos.shape[-1])
            cameras = Camera(intrinsics[1:], world2cam[1:], size)
            found = align_cameras(gaussians, cameras, photos[1:].to(device), lpips, per_pixel)
            aligned = _draw(gaussians, found.world2cam, intrinsics[1:], photos[1:], detail)
            align_seconds = time.perf_counter() - began
    scores = [_score(*both, lpips) for both in zip(drawn, photos, strict=True)]
    best: list[ImageScore | None] = [None] * len(squares[1:])
    if aligned is not None:
        best = [_score(*both, lpips) for both in zip(aligned, photos[1:], strict=True)]
    targets = tuple(
        TargetScore(square.name, posed, at_best)
        for square, posed, at_best in zip(squares[1:], scores[1:], best, strict=True)
    )
    picture = _side_by_side(photos, drawn, aligned)
    return ViewScores(scores[0], targets, picture, render_seconds, align_seconds)


@torch.no_grad()
def _draw(
    gaussians: Gaussians,
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "view 3 3"],
    photos: Float[Tensor, "view 3 size size"],
    detail: int,
) -> Float[Tensor, "view 3 size size"]:
    size = (photos.shape[-2], photos.shape[-1])
    cameras = Camera(intrinsics, world2cam, size)
    drawn = [render_supersampled(gaussians, camera, detail).cpu() for camera in cameras]
    return torch.stack(drawn)


@torch.no_grad()
def _score(
    drawing: Float[Tensor, "3 size size"],
    photo: Float[Tensor, "3 size size"],
    lpips: Lpips | None,
) -> ImageScore:
    distance = None
    if lpips is not None:
        device = next(lpips.parameters()).device
        distance = float(lpips(drawing[None].to(device), photo[None].to(device)))
    return ImageScore(psnr(drawing, photo), ssim(drawing, photo), distance)


def _side_by_side(
    photos: Float[Tensor, "view 3 size size"],
    drawn: Float[Tensor, "view 3 size size"],
    aligned: Float[Tensor, "target 3 size size"] | None,
) -> Float[Tensor, "3 height width"]:
    columns = [photos, drawn]
    if aligned is not None and len(aligned):
        columns.append(torch.cat([torch.ones_like(photos[:1]), aligned]))
    return torch.cat([torch.cat(list(column), dim=1) for column in columns], dim=2).clamp(0, 1)
