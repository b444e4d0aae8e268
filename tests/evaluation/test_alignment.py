import math

import pytest
import torch

from models.evaluation.pose_alignment import align_cameras, in_sight
from models.geometry.camera import Camera
from models.geometry.rigid import se3_exponential
from models.metrics.errors import psnr
from models.metrics.lpips import Lpips
from models.render import render

INTRINSICS = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]])
SIZE = (32, 32)
TRUE = [se3_exponential(torch.tensor(twist)) for twist in ([0.0] * 6, [0.2, 0, 0, 0, 0.1, 0])]
OFF = [[0.04, -0.03, 0.02, 0.02, -0.01, 0.02], [-0.03, 0.02, 0.04, -0.02, 0.02, 0.01]]


@pytest.fixture
def photos(tiny_scene) -> torch.Tensor:
    return torch.stack([render(tiny_scene, Camera(INTRINSICS, pose, SIZE)).color for pose in TRUE])


@pytest.fixture
def begin() -> torch.Tensor:
    pairs = zip(OFF, TRUE, strict=True)
    return torch.stack([se3_exponential(torch.tensor(twist)) @ pose for twist, pose in pairs])


def both(matrix: torch.Tensor = INTRINSICS) -> torch.Tensor:
    return matrix.expand(2, 3, 3)


def motion_of(rho: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """The exponential as the published evaluation has it, with its series near zero."""
    x, y, z = theta.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    angle, one = float(theta.norm()), torch.eye(3, dtype=torch.float64)
    if angle < 1e-5:
        turn, v = one + cross + cross @ cross / 2, one + cross / 2 + cross @ cross / 6
    else:
        a, b = math.sin(angle) / angle, (1 - math.cos(angle)) / angle**2
        c = (angle - math.sin(angle)) / angle**3
        turn = one + a * cross + b * cross @ cross
        v = one + b * cross + c * cross @ cross
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, :3], motion[:3, 3] = turn, v @ rho
    return motion


def test_every_step_is_the_published_one_worked_out_by_hand(tiny_scene, photos, begin):
    """Two moments per number outlive the twists, and the last pose counts, not the best."""
    steps, rate = 7, 0.005
    cameras = [pose.double() for pose in begin]
    first, second = torch.zeros(2, 6).double(), torch.zeros(2, 6).double()
    for step in range(1, steps + 1):
        for view, pose in enumerate(cameras):
            twist = torch.zeros(6, requires_grad=True)
            moved = se3_exponential(twist) @ pose.float()
            picture = render(tiny_scene, Camera(INTRINSICS, moved, SIZE)).color
            loss = (picture - photos[view]).square().mean() / 2  # a mean over both photos
            (slope,) = torch.autograd.grad(loss, twist)
            first[view] = 0.9 * first[view] + 0.1 * slope
            second[view] = 0.999 * second[view] + 0.001 * slope.double() ** 2
            fair = first[view] / (1 - 0.9**step), second[view] / (1 - 0.999**step)
            change = -rate * fair[0] / (fair[1].sqrt() + 1e-8)
            cameras[view] = motion_of(change[:3], change[3:]) @ pose

    found = align_cameras(tiny_scene, begin, both(), photos, steps=steps)

    torch.testing.assert_close(found.double(), torch.stack(cameras), atol=2e-5, rtol=0)


def test_a_hundred_steps_bring_cameras_to_where_the_photos_were_taken(tiny_scene, photos, begin):
    found = align_cameras(tiny_scene, begin, both(), photos)
    for view in range(2):
        before, after = (
            psnr(render(tiny_scene, Camera(INTRINSICS, pose[view], SIZE)).color, photos[view])
            for pose in (begin, found)
        )
        assert after > before + 7


def test_leaving_out_what_is_out_of_sight_changes_nothing(tiny_scene, begin):
    close = INTRINSICS * torch.tensor([3.0, 3, 1])[:, None]  # sees a ninth of the wall
    close[:2, 2] = 0.5
    photos = torch.stack([render(tiny_scene, Camera(close, pose, SIZE)).color for pose in TRUE])
    everything = align_cameras(tiny_scene, begin, both(close), photos, steps=25)
    seen = align_cameras(tiny_scene, begin, both(close), photos, per_pixel=100.0, steps=25)
    assert len(in_sight(tiny_scene, begin[0], close)) < 0.6 * len(tiny_scene)
    assert torch.equal(seen, everything)


def test_few_gaussians_stand_for_many(tiny_scene, photos, begin):
    found = align_cameras(tiny_scene, begin, both(), photos, per_pixel=0.2)
    for view in range(2):
        picture = render(tiny_scene, Camera(INTRINSICS, found[view], SIZE)).color
        assert psnr(picture, photos[view]) > (20, 32)[view]


def test_the_perceptual_distance_counts_a_twentieth(tiny_scene, photos, begin):
    blind, seeing = Lpips(), Lpips()
    for head in seeing.heads:
        head.fill_(1.0)
    steps = [
        align_cameras(tiny_scene, begin, both(), photos, lpips, steps=2)
        for lpips in (None, blind, seeing)
    ]
    assert torch.equal(steps[0], steps[1])
    assert not torch.allclose(steps[0], steps[2], atol=1e-6)
