"""Matching and relative pose, on photographs whose cameras are known."""

import pytest
import torch
from two_planes_scene import CARD, INTRINSICS, SIZE, WALL, photograph

from models.features.aliked_lightglue import LearnedMatcher
from models.features.matcher import NO_GUESSES, Features, Guesses
from models.features.sift import SiftMatcher
from models.geometry.rigid import invert, rotation_angle, se3_exponential
from models.sfm.correspondences import ENOUGH, correspond
from models.sfm.two_view import (
    absolute_pose,
    epipolar_offsets,
    relative_pose,
    triangulate,
)

SECOND = se3_exponential(torch.tensor([-0.3, 0.05, 0.1, 0.02, -0.12, 0.03]))


POSES = (torch.eye(4), SECOND)
SIFT = SiftMatcher()


@pytest.fixture(scope="module")
def learned():
    return LearnedMatcher(torch.device("cpu"))


@pytest.fixture(scope="module", params=["sift", "learned"])
def pair(request):
    """Coordinates of the keypoints in two photos, and their matches, from each matcher."""
    matcher = SIFT if request.param == "sift" else request.getfixturevalue("learned")
    features = [matcher.detect(photograph(pose)[0]) for pose in POSES]
    return *(found.coordinates for found in features), matcher.match(*features)


def angle_deg(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.rad2deg(torch.acos(torch.cosine_similarity(first, second, dim=0))))


def test_the_motion_between_two_photos_is_found(pair):
    first, second, matches = pair
    pose = relative_pose(first, second, matches, INTRINSICS.expand(2, 3, 3), (SIZE, SIZE))

    assert torch.rad2deg(rotation_angle(pose.first2second[:3, :3], SECOND[:3, :3])) < 0.2
    assert angle_deg(pose.first2second[:3, 3], SECOND[:3, 3]) < 1.5
    assert pose.inlier_ratio > 0.7


def test_triangulated_points_lie_on_the_two_planes(pair):
    first, second, matches = pair
    pose = relative_pose(first, second, matches, INTRINSICS.expand(2, 3, 3), (SIZE, SIZE))
    depth = pose.depth * SECOND[:3, 3].norm()

    nearest = torch.minimum((depth - WALL).abs(), (depth - CARD).abs())
    assert nearest.median() < 0.05
    assert ((depth - CARD).abs() < 0.1).sum() > 10


def test_sift_counts_from_the_corner_of_the_first_pixel():
    image = torch.zeros(3, 64, 96)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    image += torch.exp(-((x - 30.0) ** 2 + (y - 20.0) ** 2) / 18)

    found = SIFT.detect(image).coordinates * torch.tensor([96, 64])

    assert (found - torch.tensor([30.0, 20.0])).norm(dim=1).min() < 0.1


def test_a_point_is_triangulated_at_its_depth():
    point = torch.tensor([[0.2, -0.1, 2.5]])
    seen = [point @ INTRINSICS.T, (point @ SECOND[:3, :3].T + SECOND[:3, 3]) @ INTRINSICS.T]
    first, second = (on_image[:, :2] / on_image[:, 2:] for on_image in seen)

    depth, parallax = triangulate(first, second, INTRINSICS, INTRINSICS, SECOND)

    to_second = invert(SECOND)[:3, 3] - point[0]
    torch.testing.assert_close(depth, point[:, 2], rtol=1e-4, atol=0)
    assert float(parallax) == pytest.approx(
        float(torch.acos(torch.cosine_similarity(-point[0], to_second, dim=0))), rel=1e-3
    )


def test_a_camera_is_found_from_points_in_spite_of_outliers():
    points = torch.rand(100, 3) * 2 + torch.tensor([-1.0, -1.0, 2.0])
    on_image = (points @ SECOND[:3, :3].T + SECOND[:3, 3]) @ INTRINSICS.T
    coordinates = on_image[:, :2] / on_image[:, 2:]
    coordinates[:30] = torch.rand(30, 2)

    world2cam, good = absolute_pose(points, coordinates, INTRINSICS, SIZE)

    torch.testing.assert_close(world2cam, SECOND, rtol=0, atol=1e-3)
    assert good[30:].all() and good[:30].sum() < 5


def test_photos_of_different_things_have_no_motion_between_them(learned):
    images = [photograph(POSES[0])[0], torch.rand(3, *SIZE)]
    found = correspond(images, INTRINSICS.expand(2, 3, 3), [SIFT, learned])
    assert all(len(pose) < 25 for pose in found.poses.values())


def test_a_blank_photo_has_no_matches(learned):
    for matcher in (SIFT, learned):
        first, blank = (
            matcher.detect(image)
            for image in (photograph(POSES[0])[0], torch.full((3, *SIZE), 0.5))
        )
        assert len(matcher.match(first, blank)) == 0


def test_learned_keypoints_move_with_the_picture(learned):
    image, _ = photograph(POSES[0])
    first, second = (learned.detect(part) for part in (image[:, :160, :240], image[:, 32:, 16:]))
    matches = learned.match(first, second)
    pixels = torch.tensor([240, 160])
    shift = (first.coordinates[matches[:, 0]] - second.coordinates[matches[:, 1]]) * pixels
    assert len(matches) > 100
    torch.testing.assert_close(shift.median(0).values, torch.tensor([16.0, 32.0]), atol=0.1, rtol=0)


def test_guesses_hold_more_right_pairs_than_matches_and_say_how_likely_they_are(learned):
    features = [learned.detect(photograph(pose)[0]) for pose in POSES]
    guesses = learned.guess(*features)

    def right(pairs):
        at = [found.coordinates[pairs[:, side]] for side, found in enumerate(features)]
        both = INTRINSICS.expand(2, 3, 3)
        return epipolar_offsets(tuple(at), both, (SIZE, SIZE), SECOND).abs() < 1

    matches = learned.match(*features)
    likely = guesses.chances > 0.3
    assert right(guesses.pairs).sum() > 1.1 * right(matches).sum()
    assert right(guesses.pairs[likely]).float().mean() > 0.8
    assert right(guesses.pairs[~likely]).float().mean() < 0.5
    count = torch.zeros(len(features[0].coordinates))
    assert count.index_add(0, guesses.pairs[:, 0], guesses.chances).max() < 1 + 1e-5


class Scripted:
    """A matcher that has keypoints and matches by heart."""

    def __init__(
        self,
        coordinates: list[torch.Tensor],
        matches: torch.Tensor,
        guesses: Guesses = NO_GUESSES,
    ) -> None:
        self.coordinates, self.matches, self.guesses = coordinates, matches, guesses
        self.asked = 0

    def detect(self, image, turn=0.0):
        coordinates = self.coordinates[self.asked]
        self.asked += 1
        return Features(coordinates, torch.zeros(len(coordinates), 128), 4 / 3)

    def match(self, first, second):
        return self.matches

    def guess(self, first, second):
        return self.guesses


def true_sightings(count: int) -> list[torch.Tensor]:
    points = torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor(
        [-0.5, -0.5, 2.0]
    )
    seen = [(points @ pose[:3, :3].T + pose[:3, 3]) @ INTRINSICS.T for pose in POSES]
    return [on_image[:, :2] / on_image[:, 2:] for on_image in seen]


def test_later_matchers_add_to_what_earlier_ones_found():
    first, second = true_sightings(60)
    one = Scripted([first[:20], second[:20]], torch.arange(20)[:, None].expand(20, 2))
    # The second matcher knows the other points, those of the second photo in reverse.
    reversed_matches = torch.stack([torch.arange(40), torch.arange(39, -1, -1)], dim=1)
    guesses = Guesses(reversed_matches, torch.linspace(0.1, 0.9, 40))
    two = Scripted([first[20:], second[20:].flip(0)], reversed_matches, guesses)

    images = [torch.zeros(3, *SIZE)] * 2
    found = correspond(images, INTRINSICS.expand(2, 3, 3), [one, two])

    assert len(found.poses[0, 1]) == len(found.matches[0, 1]) == 60
    numbers = found.matches[0, 1]
    torch.testing.assert_close(found.coordinates[0][numbers[:, 0]], first)
    torch.testing.assert_close(found.coordinates[1][numbers[:, 1]], second)
    torch.testing.assert_close(found.guesses[0, 1].pairs, numbers[20:])
    torch.testing.assert_close(found.guesses[0, 1].chances, guesses.chances)


def test_a_pair_that_is_certain_is_not_matched_again():
    sightings = true_sightings(ENOUGH + 10)
    sure = Scripted(sightings, torch.arange(ENOUGH + 10)[:, None].expand(-1, 2))
    spare = Scripted([], torch.zeros(0, 2, dtype=torch.long))
    correspond([torch.zeros(3, *SIZE)] * 2, INTRINSICS.expand(2, 3, 3), [sure, spare])
    assert (sure.asked, spare.asked) == (2, 0)
