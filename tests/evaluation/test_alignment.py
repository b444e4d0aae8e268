import math
from dataclasses import replace

import pytest
import torch

from models.evaluation.pose_alignment import align_cameras, frustum_cull
from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import se3_exponential
from models.metrics.errors import psnr
from models.metrics.lpips import Lpips
from models.render import render

INTRINSICS = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]])
SIZE = (32, 32)
TRUE = [se3_exponential(torch.tensor(twist)) for twist in ([0.0] * 6, [0.2, 0, 0, 0, 0.1, 0])]
OFF = [[0.04, -0.03, 0.02, 0.02, -0.01, 0.02], [-0.03, 0.02, 0.04, -0.02, 0.02, 0.01]]


def cameras_at(poses: list[torch.Tensor], intrinsics: torch.Tensor = INTRINSICS) -> Camera:
    return Camera(intrinsics.expand(len(poses), 3, 3), torch.stack(poses), SIZE)


def render_all(scene: Gaussians, cameras: Camera) -> torch.Tensor:
    return torch.stack([render(scene, camera).color for camera in cameras])


@pytest.fixture
def images(tiny_scene) -> torch.Tensor:
    return render_all(tiny_scene, cameras_at(TRUE))


@pytest.fixture
def start() -> Camera:
    pairs = zip(OFF, TRUE, strict=True)
    return cameras_at([se3_exponential(torch.tensor(twist)) @ pose for twist, pose in pairs])


def exponential(rho: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """The exponential as the published evaluation has it, with its series near zero."""
    x, y, z = theta.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    angle, one = float(theta.norm()), torch.eye(3, dtype=torch.float64)
    if angle < 1e-5:
        rotation, v = one + cross + cross @ cross / 2, one + cross / 2 + cross @ cross / 6
    else:
        a, b = math.sin(angle) / angle, (1 - math.cos(angle)) / angle**2
        c = (angle - math.sin(angle)) / angle**3
        rotation = one + a * cross + b * cross @ cross
        v = one + b * cross + c * cross @ cross
    transform = torch.eye(4, dtype=torch.float64)
    transform[:3, :3], transform[:3, 3] = rotation, v @ rho
    return transform


def test_every_step_is_the_published_one_worked_out_by_hand(tiny_scene, images, start):
    """Two moments per number outlive the twists, and the last pose counts, not the best."""
    steps, rate = 7, 0.005
    poses = [pose.double() for pose in start.world2cam]
    first, second = torch.zeros(2, 6).double(), torch.zeros(2, 6).double()
    for step in range(1, steps + 1):
        for view, pose in enumerate(poses):
            twist = torch.zeros(6, requires_grad=True)
            moved = se3_exponential(twist) @ pose.float()
            rendered = render(tiny_scene, Camera(INTRINSICS, moved, SIZE)).color
            loss = (rendered - images[view]).square().mean() / 2  # a mean over both photos
            (gradient,) = torch.autograd.grad(loss, twist)
            first[view] = 0.9 * first[view] + 0.1 * gradient
            second[view] = 0.999 * second[view] + 0.001 * gradient.double() ** 2
            unbiased = first[view] / (1 - 0.9**step), second[view] / (1 - 0.999**step)
            change = -rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
            poses[view] = exponential(change[:3], change[3:]) @ pose

    found = align_cameras(tiny_scene, start, images, steps=steps)

    torch.testing.assert_close(found.world2cam.double(), torch.stack(poses), atol=2e-5, rtol=0)


def test_a_hundred_steps_bring_cameras_to_where_the_photos_were_taken(tiny_scene, images, start):
    found = align_cameras(tiny_scene, start, images)
    for before, after, image in zip(start, found, images, strict=True):
        gain = psnr(render(tiny_scene, after).color, image)
        assert gain > psnr(render(tiny_scene, before).color, image) + 7


def test_culling_what_is_outside_the_frustum_changes_nothing(tiny_scene, start):
    close = INTRINSICS * torch.tensor([3.0, 3, 1])[:, None]  # sees a ninth of the wall
    close[:2, 2] = 0.5
    images = render_all(tiny_scene, cameras_at(TRUE, close))
    start = replace(start, intrinsics=close.expand(2, 3, 3))
    everything = align_cameras(tiny_scene, start, images, steps=25)
    culled = align_cameras(tiny_scene, start, images, gaussians_per_pixel=100.0, steps=25)
    assert len(frustum_cull(tiny_scene, start[0])) < 0.6 * len(tiny_scene)
    assert torch.equal(culled.world2cam, everything.world2cam)


def test_few_gaussians_stand_for_many(tiny_scene, images, start):
    found = align_cameras(tiny_scene, start, images, gaussians_per_pixel=0.2)
    first, second = (
        psnr(rendered, image)
        for rendered, image in zip(render_all(tiny_scene, found), images, strict=True)
    )
    assert first > 20 and second > 32


def test_the_perceptual_distance_counts_a_twentieth(tiny_scene, images, start):
    zero, one = Lpips(), Lpips()
    for stage in range(5):
        one.get_parameter(f"lin{stage}.weight").fill_(1.0)
    without, with_zero, with_one = (
        align_cameras(tiny_scene, start, images, lpips, steps=2).world2cam
        for lpips in (None, zero, one)
    )
    assert torch.equal(without, with_zero)
    assert not torch.allclose(without, with_one, atol=1e-6)
