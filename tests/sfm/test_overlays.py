"""What stands still on photos of a camera that moved is no part of the scene."""

from dataclasses import replace

import torch
from scripted_matcher import ScriptedMatcher, in_order
from two_planes_scene import FIRST_CAMERA, SECOND_CAMERA, SIZE

from models.features.matcher import TentativeMatches
from models.geometry.views import View
from models.sfm.correspondences import find_correspondences
from models.sfm.overlays import find_overlay
from models.sfm.two_view import TwoView

CAMERAS = (FIRST_CAMERA, SECOND_CAMERA)
MOVING = 60


def a_pair(still: int, cameras=CAMERAS) -> TwoView:
    """Matches of points in the scene, then of some that stand still."""
    points = torch.rand(MOVING, 3) + torch.tensor([-0.5, -0.5, 2.0])
    frame = torch.rand(still, 2)
    first, second = (torch.cat([camera.project(points)[0], frame]) for camera in CAMERAS)
    return TwoView(cameras, (first, second), in_order(MOVING + still))


def test_a_watermark_is_found():
    assert find_overlay(a_pair(still=20)).tolist() == [False] * MOVING + [True] * 20


def test_things_that_move_before_a_tripod_do_not_make_the_rest_an_overlay():
    assert find_overlay(a_pair(still=200)) is None


def test_a_far_background_that_the_motion_explains_is_kept():
    sideways = torch.eye(4)
    sideways[0, 3] = -0.3
    cameras = FIRST_CAMERA, replace(FIRST_CAMERA, world2cam=sideways)
    points = torch.rand(MOVING, 3) + torch.tensor([-0.5, -0.5, 2.0])
    far = torch.rand(40, 3) * 1e4 + torch.tensor([-5e3, -5e3, 1e4])
    both = torch.cat([points, far])
    pair = TwoView(cameras, tuple(c.project(both)[0] for c in cameras), in_order(MOVING + 40))
    assert find_overlay(pair) is None


def test_where_nothing_supports_a_motion_all_stays():
    pair = a_pair(still=20)
    shuffled = pair.keypoints[1][torch.cat([torch.randperm(MOVING), torch.arange(MOVING, 80)])]
    assert find_overlay(replace(pair, keypoints=(pair.keypoints[0], shuffled))) is None


def test_photos_of_two_sizes_have_no_pixel_in_common():
    smaller = replace(SECOND_CAMERA, size=(SIZE[0] // 2, SIZE[1] // 2))
    assert find_overlay(a_pair(20, (FIRST_CAMERA, smaller))) is None


def test_poses_rest_on_what_moves_alone():
    pair = a_pair(still=40)
    tentative = TentativeMatches(pair.matches, torch.full((MOVING + 40,), 0.5))
    matcher = ScriptedMatcher(list(pair.keypoints), {(0, 1): pair.matches}, tentative)
    views = [View(torch.zeros(3, *SIZE), FIRST_CAMERA) for _ in range(2)]
    found = find_correspondences(views, [matcher])

    assert len(found.matches[0, 1]) == len(found.tentative[0, 1].matches) == MOVING
    assert found.poses[0, 1].inlier_ratio == 1
