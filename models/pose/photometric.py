"""Photometric alignment: move a camera until a fixed scene looks most like a photo."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import se3_exponential, transform_points, twist_gradient
from models.geometry.views import View
from models.metrics.lpips import Lpips
from models.metrics.ssim import WindowStatistics, structure_loss, window_statistics
from models.render import render

STRUCTURE_WEIGHT = 0.1  # of the structure loss, beside the mean squared error
LPIPS_WEIGHT = 0.05
DECAY = 0.35  # of the learning rate from one image size to the next
PATIENCE_STEPS, MIN_IMPROVEMENT = 15, 1e-3  # a size ends after so many steps of less improvement
ADAM_BETAS = 0.8, 0.95  # shorter than usual, as every step starts somewhere else
MIN_SIDE_PX = 11  # the window of the structure loss
GAUSSIANS_PER_PIXEL = 8  # are enough to align by


def align_pose(
    gaussians: Gaussians,
    view: View,
    max_steps: tuple[int, ...] = (100, 60, 40, 30),
    learning_rate: float = 2e-2,
    lpips: Lpips | None = None,
) -> Camera:
    """Move a camera so that the scene, as it is, looks most like the image.

    Adam on a twist to the left of the pose, from coarse to fine, with a decaying learning rate; a
    size is left when its loss no longer falls. Where the image is small, a random few of the
    Gaussians, enlarged, stand for all.

    Args:
        gaussians: The scene.
        view: The image, and the camera to start at, returned if nothing better is found.
        max_steps: At each size; the last is the image's own, each half the next.
        learning_rate: Of the first steps, in radians: turning, or going around the scene.
        lpips: The perceptual distance, part of the loss at the image's own size.
    """
    camera, depth = view.camera, _median_depth(gaussians, view.camera)
    height, width = view.camera.size
    for level, steps in enumerate(max_steps):
        factor = 2 ** (len(max_steps) - 1 - level)
        size = (height // factor, width // factor)
        if min(size) < MIN_SIDE_PX and factor > 1:
            continue
        image = view.resized(size).image
        loss = PhotometricLoss(window_statistics(image), None if factor > 1 else lpips)
        subset = subsample(gaussians, GAUSSIANS_PER_PIXEL * size[0] * size[1])
        camera = _optimize(subset, camera.resized(size), loss, depth, steps, learning_rate)
        learning_rate *= DECAY
    loss = PhotometricLoss(window_statistics(view.image), lpips)
    camera = camera.resized(view.camera.size)
    with torch.no_grad():
        is_better = loss(gaussians, camera) < loss(gaussians, view.camera)
    return camera if is_better else view.camera


@dataclass(frozen=True)
class PhotometricLoss:
    """Distance of a rendered scene from an image: squared error, structure and, if given, LPIPS."""

    target: WindowStatistics
    lpips: Lpips | None

    def __call__(self, gaussians: Gaussians, camera: Camera) -> Float[Tensor, ""]:
        """Render the scene at a camera of the image's size and compare."""
        image = self.target.image
        rendered = render(gaussians, camera).color
        loss = functional.mse_loss(rendered, image)
        loss = loss + STRUCTURE_WEIGHT * structure_loss(rendered, self.target)
        if self.lpips is not None:
            loss = loss + LPIPS_WEIGHT * self.lpips(rendered[None], image[None])[0]
        return loss


def subsample(gaussians: Gaussians, limit: int) -> Gaussians:
    """Return at most `limit` random Gaussians, enlarged to cover about as much as all."""
    count = len(gaussians)
    if count <= limit:
        return gaussians
    generator = torch.Generator().manual_seed(0)
    keep = torch.zeros(count, dtype=torch.bool)
    keep[torch.randperm(count, generator=generator)[:limit]] = True
    subset = gaussians.select(keep.to(gaussians.means.device))
    return replace(subset, scales=subset.scales * (count / limit) ** 0.5)


def _median_depth(gaussians: Gaussians, camera: Camera) -> float:
    """Return the median depth of the Gaussians in front of the camera; 1 if there are none."""
    depth = transform_points(gaussians.means, camera.world2cam)[:, 2]
    in_front = depth[depth > 0]
    return float(in_front.median()) if len(in_front) else 1.0


def _preconditioner(depth: float) -> Float64[Tensor, "6 6"]:
    """Return as columns three twists that orbit the scene at a depth, and three rotations.

    A step aside and a rotation look almost alike, and Adam, which scales each axis alone, would
    take one for the other. A step that keeps the middle of the scene in view is told apart.
    """
    twists = torch.diag(torch.tensor([*[depth] * 3, 1.0, 1.0, 1.0], dtype=torch.float64))
    twists[3, 1], twists[4, 0] = 1, -1
    return twists


def _optimize(
    gaussians: Gaussians,
    camera: Camera,
    loss: PhotometricLoss,
    depth: float,
    steps: int,
    learning_rate: float,
) -> Camera:
    """Take steps of preconditioned Adam, and return the camera with the lowest loss.

    Each step is a twist from where the last one led. Six numbers are too few for a GPU: it computes
    only the gradient by the camera's matrix.
    """
    preconditioner = _preconditioner(depth)
    parameters = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([parameters], lr=learning_rate, betas=ADAM_BETAS)
    pose = camera.world2cam.detach().cpu().double()
    best, lowest, stalled = pose, float("inf"), 0
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate * DECAY ** (step / steps)
        world2cam = pose.to(camera.world2cam).requires_grad_()
        value = loss(gaussians, replace(camera, world2cam=world2cam))
        (gradient,) = torch.autograd.grad(value, world2cam)
        numbers = torch.cat([value.detach().reshape(1), gradient.flatten()]).cpu().double()
        current, gradient = float(numbers[0]), numbers[1:].unflatten(0, (4, 4))
        stalled = 0 if current < lowest * (1 - MIN_IMPROVEMENT) else stalled + 1
        if current < lowest:
            best, lowest = pose, current
        if stalled >= PATIENCE_STEPS:
            break
        parameters.grad = preconditioner.mT @ twist_gradient(pose, gradient)
        optimizer.step()
        with torch.no_grad():
            pose = se3_exponential(preconditioner @ parameters) @ pose
            parameters.zero_()
    return replace(camera, world2cam=best.to(camera.world2cam))
