"""Evaluation-time pose alignment: cameras move until a fixed scene looks most like the photos."""

import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.camera import Camera, project
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import se3_exponential, twist_gradient
from models.metrics.lpips import Lpips
from models.pose.photometric import thin
from models.render import render

STEPS, LEARNING_RATE = 100, 5e-3
LPIPS_WEIGHT = 0.05  # beside the mean squared error, as in training
_REFRESH = 10  # steps after which it is asked again what is in sight
_LARGE = 0.05  # of its distance: a Gaussian that may reach into the picture from outside


def align_cameras(
    gaussians: Gaussians,
    world2cam: Float[Tensor, "view 4 4"],
    intrinsics: Float[Tensor, "view 3 3"],
    photos: Float[Tensor, "view 3 height width"],
    lpips: Lpips | None = None,
    per_pixel: float | None = None,
    steps: int = STEPS,
) -> Float[Tensor, "view 4 4"]:
    """Move the cameras of all targets together, by the published protocol.

    Adam with its default decay rates on one twist per camera. After every step the cameras take
    the motion over and the twists start at zero again, while Adam's moments stay. The loss is
    the training's, a mean over all photos: mean squared error and, where its weights are at
    hand, 0.05 LPIPS. The last poses count, not the best ones.

    Args:
        gaussians: The scene, in units of the distance between the input cameras.
        world2cam: Where to begin: the true poses.
        intrinsics: Normalized, of the photos.
        photos: What the cameras should see, on the scene's device.
        lpips: The perceptual distance, on the scene's device.
        per_pixel: At most so many Gaussians for a pixel stand for all that are in sight while
            steps are taken, which saves time; None draws the scene as it is.
        steps: How many.
    """
    size = (photos.shape[-2], photos.shape[-1])
    twists = torch.zeros(len(photos), 6, device=world2cam.device, requires_grad=True)
    optimizer = torch.optim.Adam([twists], lr=LEARNING_RATE)
    scenes = [gaussians] * len(photos)
    for step in range(steps):
        if per_pixel is not None and step % _REFRESH == 0:
            most = round(per_pixel * size[0] * size[1])
            views = zip(world2cam, intrinsics, strict=True)
            scenes = [thin(in_sight(gaussians, *view), most) for view in views]
        by_camera = []
        of_targets = zip(scenes, world2cam, intrinsics, photos, strict=True)
        for scene, pose, matrix, photo in of_targets:  # one graph at a time
            camera = pose.detach().requires_grad_()
            picture = render(scene, Camera(matrix, camera, size)).color
            loss = (picture - photo).square().mean()
            if lpips is not None:
                loss = loss + LPIPS_WEIGHT * lpips(picture[None], photo[None]).mean()
            by_camera += torch.autograd.grad(loss / len(photos), camera)
        twists.grad = twist_gradient(world2cam, torch.stack(by_camera))
        optimizer.step()
        with torch.no_grad():
            world2cam = se3_exponential(twists) @ world2cam
            twists.zero_()
    return world2cam


def in_sight(
    gaussians: Gaussians, world2cam: Float[Tensor, "4 4"], intrinsics: Float[Tensor, "3 3"]
) -> Gaussians:
    """What a camera can see, or could after a few small steps."""
    coordinates, depth = project(gaussians.means, world2cam, intrinsics)
    # A rotation by as much as a step each time, and a translation as far at the unit's depth.
    margin = 2 * _REFRESH * LEARNING_RATE * intrinsics.diagonal()[:2]
    near = (coordinates > -margin).all(-1) & (coordinates < 1 + margin).all(-1)
    large = gaussians.scales.amax(-1) > _LARGE * depth
    return gaussians.select((near | large) & (depth > 0))
