"""Evaluation-time pose alignment: cameras move until a fixed scene looks most like the images."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import se3_exponential, twist_gradient
from models.metrics.lpips import Lpips
from models.pose.photometric import subsample
from models.render import render

STEPS, LEARNING_RATE = 100, 5e-3
LPIPS_WEIGHT = 0.05  # beside the mean squared error, as in training
CULL_INTERVAL_STEPS = 10
MAX_RELATIVE_SCALE = 0.05  # of its depth: a larger Gaussian may reach into the image from outside


def align_cameras(
    gaussians: Gaussians,
    cameras: Camera,
    images: Float[Tensor, "view 3 height width"],
    lpips: Lpips | None = None,
    gaussians_per_pixel: float | None = None,
    steps: int = STEPS,
) -> Camera:
    """Move the cameras of all targets together, by the published protocol of NoPoSplat.

    Adam with its default decay rates on one twist per camera. After every step the cameras take
    the motion over and the twists start at zero again, while Adam's moments stay. The loss is
    the training's, a mean over all images: mean squared error and, where its weights are at
    hand, 0.05 LPIPS. The last poses count, not the best ones.

    Args:
        gaussians: The scene, in units of the distance between the input cameras.
        cameras: A batch of them, at the true poses; their size is the images'.
        images: Of the targets, on the scene's device.
        lpips: The perceptual distance, on the scene's device.
        gaussians_per_pixel: At most so many stand for all that are in the frustum while steps are
            taken, which saves time; None renders the scene as it is.
        steps: How many.

    Returns:
        The aligned cameras.
    """
    twists = torch.zeros(len(images), 6, device=cameras.world2cam.device, requires_grad=True)
    optimizer = torch.optim.Adam([twists], lr=LEARNING_RATE)
    scenes = [gaussians] * len(images)
    for step in range(steps):
        if gaussians_per_pixel is not None and step % CULL_INTERVAL_STEPS == 0:
            limit = round(gaussians_per_pixel * cameras.size[0] * cameras.size[1])
            scenes = [subsample(frustum_cull(gaussians, camera), limit) for camera in cameras]
        gradients: list[Tensor] = []
        for scene, camera, image in zip(scenes, cameras, images, strict=True):  # a graph at a time
            world2cam = camera.world2cam.detach().requires_grad_()
            rendered = render(scene, replace(camera, world2cam=world2cam)).color
            loss = (rendered - image).square().mean()
            if lpips is not None:
                loss = loss + LPIPS_WEIGHT * lpips(rendered[None], image[None]).mean()
            gradients += torch.autograd.grad(loss / len(images), world2cam)
        twists.grad = twist_gradient(cameras.world2cam, torch.stack(gradients))
        optimizer.step()
        with torch.no_grad():
            cameras = replace(cameras, world2cam=se3_exponential(twists) @ cameras.world2cam)
            twists.zero_()
    return cameras


def frustum_cull(gaussians: Gaussians, camera: Camera) -> Gaussians:
    """Return the Gaussians that a camera can see, or could before the next culling."""
    coordinates, depth = camera.project(gaussians.means)
    # A rotation by as much as a step each time, and a translation as far at the unit's depth.
    margin = 2 * CULL_INTERVAL_STEPS * LEARNING_RATE * camera.intrinsics.diagonal()[:2]
    inside = (coordinates > -margin).all(-1) & (coordinates < 1 + margin).all(-1)
    is_large = gaussians.scales.amax(-1) > MAX_RELATIVE_SCALE * depth
    return gaussians.select((inside | is_large) & (depth > 0))
