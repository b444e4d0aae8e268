"""Registration of photos whose matches are known."""

import torch
from known_points import a_deep_scene, a_flat_scene
from scripted_matcher import ScriptedMatcher, in_order
from two_planes_scene import INTRINSICS

from models.geometry.camera import Camera, project
from models.geometry.rigid import se3_exponential
from models.geometry.views import View
from models.metrics.errors import pose_error
from models.sfm.registration import register

CAMERA = Camera(INTRINSICS, torch.eye(4), (480, 640))
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


def test_three_photos_are_not_begun_with_the_flat_pair_however_many_its_matches():
    """The first two photos share a flat scene, others its rest and more."""
    points = torch.cat([a_flat_scene(PLANAR), a_deep_scene(DEEP)])
    keypoints = [project(points, pose, CAMERA.intrinsics)[0] for pose in POSES]
    keypoints = [each + 0.3 / 600 * torch.randn_like(each) for each in keypoints]
    numbers = in_order(len(points))
    rest = numbers[PLANAR - 100 :]
    matches = {(0, 1): numbers[:PLANAR], (0, 2): rest, (1, 2): rest}

    view = View(torch.zeros(3, *CAMERA.size), CAMERA)
    found = register([view] * 3, [ScriptedMatcher(keypoints, matches)])

    assert found.seed_pair != (0, 1)
    for camera, true in zip(found.cameras[1:], POSES[1:], strict=True):
        error = pose_error(camera.world2cam, true)
        assert error.rotation_deg < 1 and error.translation_deg < 2
