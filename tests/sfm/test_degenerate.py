"""Degenerate pairs: cut-outs, flat scenes and second motions are recognized, others are not."""

import math

import pytest
import torch
from torch import Tensor

from models.features.matcher import NO_GUESSES, Features, Guesses
from models.geometry.camera import project
from models.geometry.rigid import rotation_angle, se3_exponential
from models.sfm.contender import Contender, find_contender
from models.sfm.degeneracy import (
    Doubts,
    flat_twin,
    is_cut_out,
    rival_support,
    settle,
)
from models.sfm.registration import register
from models.sfm.two_view import MatchedPair, RelativePose, relative_pose

INTRINSICS = torch.tensor([[0.9, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]])
BOTH = INTRINSICS.expand(2, 3, 3)
SIZES = ((480, 640), (480, 640))
MOTION = se3_exponential(torch.tensor([-0.25, 0.05, 0.06, 0.05, -0.1, 0.02]))
HARDLY = se3_exponential(torch.tensor([-0.005, 0.002, 0.001, 0.05, -0.1, 0.02]))
FORWARD = se3_exponential(torch.tensor([-0.1, 0.05, -0.5, 0.05, -0.1, 0.02]))


def a_flat_scene(count: int = 300) -> Tensor:
    points = torch.rand(count, 3) * torch.tensor([2.4, 1.6, 0.0]) - torch.tensor([1.2, 0.8, 0.0])
    return points @ se3_exponential(torch.tensor([0, 0, 0, 0.3, 0.5, 0.0]))[:3, :3].T + (
        torch.tensor([0.0, 0.0, 2.0])
    )


def a_deep_scene(count: int = 300) -> Tensor:
    return torch.rand(count, 3) * torch.tensor([3, 2, 3]) + torch.tensor([-1.5, -1, 1.5])


def seen(points: Tensor, motion: Tensor, noise_px: float = 0.3) -> tuple[Tensor, Tensor]:
    pair = [project(points, pose, INTRINSICS)[0] for pose in (torch.eye(4), motion)]
    pixels = torch.tensor([640.0, 480.0])
    return tuple(each + noise_px * torch.randn_like(each) / pixels for each in pair)


def matched(first: Tensor, second: Tensor) -> tuple[Tensor, RelativePose]:
    matches = torch.arange(len(first))[:, None].expand(-1, 2)
    pose = relative_pose(first, second, matches, BOTH, SIZES)
    assert pose is not None
    return matches, pose


def doubts(first: Tensor, second: Tensor) -> Doubts:
    matches, pose = matched(first, second)
    return settle(MatchedPair(first, second, matches, BOTH, SIZES), pose)[1]


def contender(first: Tensor, second: Tensor) -> tuple[RelativePose, Contender]:
    _, pose = matched(first, second)
    return pose, find_contender((first, second), BOTH, SIZES, pose.first2second, [])


def error_deg(pose: RelativePose, motion: Tensor) -> float:
    rotation = rotation_angle(pose.first2second[:3, :3], motion[:3, :3])
    direction = torch.cosine_similarity(pose.first2second[:3, 3], motion[:3, 3], dim=0)
    return max(math.degrees(rotation), math.degrees(direction.clamp(-1, 1).acos()))


def test_a_deep_scene_is_above_doubt():
    assert doubts(*seen(a_deep_scene(), MOTION)) == Doubts(cut_out=False, twin=None, rival=0)


def test_a_flat_scene_walked_up_to_has_two_poses_and_one_is_right():
    first, second = seen(a_flat_scene(), FORWARD)
    matches, pose = matched(first, second)
    twin = flat_twin(MatchedPair(first, second, matches, BOTH, SIZES), pose)
    assert twin is not None and len(twin) > 0.98 * len(pose)
    errors = error_deg(pose, FORWARD), error_deg(twin, FORWARD)
    assert min(errors) < 5 and max(errors) > 10
    assert doubts(first, second).twin is not None


def test_a_flat_scene_walked_along_has_one_pose():
    assert doubts(*seen(a_flat_scene(), MOTION)).twin is None


def test_the_twin_of_a_twin_is_the_first_again():
    first, second = seen(a_flat_scene(), FORWARD, noise_px=0.1)
    matches, pose = matched(first, second)
    twin = flat_twin(MatchedPair(first, second, matches, BOTH, SIZES), pose)
    again = flat_twin(MatchedPair(first, second, matches, BOTH, SIZES), twin)
    assert error_deg(again, pose.first2second) < 2


def test_a_few_things_before_a_wall_settle_its_pose():
    first, second = seen(torch.cat([a_flat_scene(270), a_deep_scene(30)]), FORWARD)
    matches, pose = matched(first, second)
    assert doubts(first, second).twin is None
    wrong = flat_twin(MatchedPair(first, second, matches, BOTH, SIZES), pose)
    assert error_deg(wrong, FORWARD) > 10
    settled, said = settle(MatchedPair(first, second, matches, BOTH, SIZES), wrong)
    assert error_deg(settled, FORWARD) < 3 and said.twin is None


@pytest.mark.parametrize("scale", [1.0, 0.5, 1.25])
def test_a_picture_resized_or_cut_out_is_a_cut_out(scale: float):
    first = torch.rand(200, 2)
    cut = first if scale == 0.5 else (first - 0.5) * scale + 0.5
    second = cut + 0.3 / 640 * torch.randn_like(cut)
    sizes = (SIZES[0], (240, 320)) if scale == 0.5 else SIZES
    assert is_cut_out(first, second, sizes) and is_cut_out(second, first, sizes[::-1])


def test_a_tenth_of_false_matches_does_not_hide_a_cut_out():
    first = torch.rand(200, 2)
    second = (first - 0.5) * 1.2 + 0.52
    second[:15] = torch.rand(15, 2)
    assert is_cut_out(first, second, SIZES)


def test_a_wall_passed_by_is_no_cut_out():
    first = torch.rand(200, 2)
    assert not is_cut_out(first, first + torch.tensor([0.1, 0.0]), SIZES)


def test_a_turned_camera_makes_no_cut_out():
    turned = se3_exponential(torch.tensor([0, 0, 0, 0.0, 0.03, 0.01]))
    assert not is_cut_out(*seen(a_deep_scene(), turned), SIZES)


def test_a_second_motion_with_much_support_is_a_rival():
    other = se3_exponential(torch.tensor([0.3, 0.0, 0.1, 0.0, 0.4, 0.0]))
    first, second = (
        torch.cat(both)
        for both in zip(seen(a_deep_scene(100), MOTION), seen(a_deep_scene(60), other), strict=True)
    )
    assert 50 <= doubts(first, second).rival <= 70


@pytest.mark.parametrize("rest", [30, 10])
def test_a_second_motion_with_little_support_is_none(rest: int):
    other = se3_exponential(torch.tensor([0.3, 0.0, 0.1, 0.0, 0.4, 0.0]))
    first, second = (
        torch.cat(both)
        for both in zip(
            seen(a_deep_scene(100), MOTION), seen(a_deep_scene(rest), other), strict=True
        )
    )
    matches, pose = matched(first, second)
    assert rival_support(MatchedPair(first, second, matches, BOTH, SIZES), pose) == 0


def test_doubts_are_said_and_lower_the_confidence():
    certain, flat, repeated = Doubts(False, None, 0), Doubts(False, 0.9, 0), Doubts(False, None, 27)
    assert (certain.confidence, certain.sentences) == (1.0, ())
    assert flat.confidence == 0.5 and "52 degrees away" in flat.sentences[0]
    copy = Doubts(cut_out=True, twin=None, rival=0)
    assert copy.confidence == 0 and "cut out" in copy.sentences[0]
    assert repeated.confidence < 0.5 and "27 further matches" in repeated.sentences[0]


@pytest.mark.parametrize("count", [100, 900])
def test_no_other_motion_comes_near_in_a_deep_scene(count: int):
    pose, other = contender(*seen(a_deep_scene(count), MOTION))
    assert other.margin > 0.1 * len(pose)


def test_the_contender_in_a_flat_scene_walked_up_to_is_its_twin():
    first, second = seen(a_flat_scene(), FORWARD)
    matches, pose = matched(first, second)
    twin = flat_twin(MatchedPair(first, second, matches, BOTH, SIZES), pose)
    start = se3_exponential(torch.tensor([0, 0, 0, 0.02, 0, -0.02])) @ twin.first2second
    other = find_contender((first, second), BOTH, SIZES, pose.first2second, [start])
    assert abs(other.margin) < 0.05 * len(pose)
    apart = error_deg(twin, pose.first2second)
    assert math.degrees(other.angle) == pytest.approx(apart, abs=4)


def test_hardly_any_parallax_leaves_directions_far_apart():
    pose, other = contender(*seen(a_deep_scene(100), HARDLY))
    assert len(pose) > 50 and other.margin < 0.05 * len(pose) and math.degrees(other.angle) > 5


class ThreePhotos:
    """Has matches by heart: the first two photos share a flat scene, others its rest and more."""

    def __init__(self, coordinates: list[Tensor], flat: int) -> None:
        self.coordinates, self.flat = coordinates, flat

    def detect(self, image: Tensor, turn: float = 0.0) -> Features:
        view = int(image[0, 0, 0])
        descriptors = torch.full((len(self.coordinates[view]), 128), float(view))
        return Features(self.coordinates[view], descriptors, 4 / 3)

    def match(self, first: Features, second: Features) -> Tensor:
        numbers = torch.arange(len(first.coordinates))[:, None].expand(-1, 2)
        views = int(first.descriptors[0, 0]), int(second.descriptors[0, 0])
        return numbers[: self.flat] if views == (0, 1) else numbers[self.flat - 100 :]

    def guess(self, first: Features, second: Features) -> Guesses:
        return NO_GUESSES


def test_three_photos_are_not_begun_with_the_flat_pair_however_many_its_matches():
    poses = torch.stack([torch.eye(4), FORWARD, MOTION])
    points = torch.cat([a_flat_scene(320), a_deep_scene(150)])
    coordinates = [project(points, pose, INTRINSICS)[0] for pose in poses]
    coordinates = [each + 0.3 / 600 * torch.randn_like(each) for each in coordinates]
    photos = [torch.full((3, *SIZES[0]), float(view)) for view in range(3)]

    found = register(photos, INTRINSICS.expand(3, 3, 3), [ThreePhotos(coordinates, 320)])

    assert found.base != (0, 1)
    for view in (1, 2):
        turn = rotation_angle(found.world2cam[view, :3, :3], poses[view, :3, :3])
        direction = torch.cosine_similarity(found.world2cam[view, :3, 3], poses[view, :3, 3], dim=0)
        assert math.degrees(turn) < 1
        assert math.degrees(direction.clamp(-1, 1).acos()) < 2
