"""Registration of photos whose matches are known."""

import math

import torch
from scripted_matcher import ScriptedMatcher, in_order
from torch import Tensor

from models.geometry.camera import Camera, project
from models.geometry.rigid import rotation_angle, se3_exponential
from models.geometry.views import View
from models.sfm.registration import register

CAMERA = Camera(
    torch.tensor([[0.9, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]]), torch.eye(4), (480, 640)
)
POSES = se3_exponential(
    torch.tensor(
        [
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
            [-0.1, 0.05, -0.5, 0.05, -0.1, 0.02],
            [-0.25, 0.05, 0.06, 0.05, -0.1, 0.02],
        ]
    )
)
PLANAR, DEEP = 320, 150


def a_wall_and_things() -> Tensor:
    wall = torch.rand(PLANAR, 3) * torch.tensor([2.4, 1.6, 0.0]) - torch.tensor([1.2, 0.8, 0.0])
    tilt = se3_exponential(torch.tensor([0, 0, 0, 0.3, 0.5, 0.0]))[:3, :3]
    things = torch.rand(DEEP, 3) * torch.tensor([3, 2, 3]) + torch.tensor([-1.5, -1, 1.5])
    return torch.cat([wall @ tilt.T + torch.tensor([0.0, 0.0, 2.0]), things])


def test_three_photos_are_not_begun_with_the_flat_pair_however_many_its_matches():
    """The first two photos share a flat scene, others its rest and more."""
    points = a_wall_and_things()
    keypoints = [project(points, pose, CAMERA.intrinsics)[0] for pose in POSES]
    keypoints = [each + 0.3 / 600 * torch.randn_like(each) for each in keypoints]
    numbers = in_order(len(points))
    rest = numbers[PLANAR - 100 :]
    matches = {(0, 1): numbers[:PLANAR], (0, 2): rest, (1, 2): rest}

    view = View(torch.zeros(3, *CAMERA.size), CAMERA)
    found = register([view] * 3, [ScriptedMatcher(keypoints, matches)])

    assert found.seed_pair != (0, 1)
    for camera, true in zip(found.cameras[1:], POSES[1:], strict=True):
        rotation = rotation_angle(camera.world2cam[:3, :3], true[:3, :3])
        direction = torch.cosine_similarity(camera.world2cam[:3, 3], true[:3, 3], dim=0)
        assert math.degrees(rotation) < 1
        assert math.degrees(direction.clamp(-1, 1).acos()) < 2
