"""Matches of several matchers become one set of correspondences."""

from dataclasses import replace

import torch
from scripted_matcher import ScriptedMatcher, in_order
from two_planes_scene import FIRST_CAMERA, SECOND_CAMERA, SIZE

from models.features.matcher import TentativeMatches
from models.geometry.views import View
from models.sfm.correspondences import MASK_MARGIN_PX, find_correspondences
from models.sfm.two_view import ENOUGH_INLIERS

VIEWS = [View(torch.zeros(3, *SIZE), FIRST_CAMERA)] * 2


def true_observations(count: int) -> list[torch.Tensor]:
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    points += torch.tensor([-0.5, -0.5, 2.0])
    return [camera.project(points)[0] for camera in (FIRST_CAMERA, SECOND_CAMERA)]


def test_later_matchers_add_to_what_earlier_ones_found():
    first, second = true_observations(60)
    one = ScriptedMatcher([first[:20], second[:20]], {(0, 1): in_order(20)})
    # The second matcher knows the other points, those of the second photo in reverse.
    reversed_matches = torch.stack([torch.arange(40), torch.arange(39, -1, -1)], dim=1)
    tentative = TentativeMatches(reversed_matches, torch.linspace(0.1, 0.9, 40))
    two = ScriptedMatcher([first[20:], second[20:].flip(0)], {(0, 1): reversed_matches}, tentative)

    found = find_correspondences(VIEWS, [one, two])

    assert len(found.poses[0, 1]) == len(found.matches[0, 1]) == 60
    matches = found.matches[0, 1]
    torch.testing.assert_close(found.keypoints[0][matches[:, 0]], first)
    torch.testing.assert_close(found.keypoints[1][matches[:, 1]], second)
    torch.testing.assert_close(found.tentative[0, 1].matches, matches[20:])
    torch.testing.assert_close(found.tentative[0, 1].probabilities, tentative.probabilities)


def test_a_pair_that_is_certain_is_not_matched_again():
    count = ENOUGH_INLIERS + 10
    sure = ScriptedMatcher(true_observations(count), {(0, 1): in_order(count)})
    unused = ScriptedMatcher([], {})
    find_correspondences(VIEWS, [sure, unused])
    assert (sure.detections, unused.detections) == (2, 0)


def test_keypoints_on_what_is_masked_or_beside_it_do_not_count():
    first, second = true_observations(60)
    matcher = ScriptedMatcher([first, second], {(0, 1): in_order(0)})
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[:, : SIZE[1] // 2] = True
    found = find_correspondences([replace(VIEWS[0], mask=mask), VIEWS[1]], [matcher])

    inside = first[:, 0] * SIZE[1] < SIZE[1] // 2 - MASK_MARGIN_PX
    assert 0 < int(inside.sum()) < 60
    torch.testing.assert_close(found.keypoints[0], first[inside])
    torch.testing.assert_close(found.keypoints[1], second)
