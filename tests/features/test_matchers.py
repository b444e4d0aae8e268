"""Keypoints and matches of both matchers, on photographs whose cameras are known."""

import torch
from two_planes_scene import FIRST_CAMERA, SECOND, SIZE, raytrace

from models.features.sift import SiftMatcher
from models.sfm.two_view import TwoView

CAMERAS = (FIRST_CAMERA, FIRST_CAMERA)
SIFT = SiftMatcher()


def test_sift_counts_from_the_corner_of_the_first_pixel():
    image = torch.zeros(3, 64, 96)
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(96) + 0.5, indexing="ij")
    image += torch.exp(-((x - 30.0) ** 2 + (y - 20.0) ** 2) / 18)

    found = SIFT.detect(image).coordinates * torch.tensor([96, 64])

    assert (found - torch.tensor([30.0, 20.0])).norm(dim=1).min() < 0.1


def test_a_blank_photo_has_no_matches(learned):
    for matcher in (SIFT, learned):
        first = matcher.detect(raytrace(torch.eye(4))[0])
        blank = matcher.detect(torch.full((3, *SIZE), 0.5))
        assert len(matcher.match(first, blank)) == 0


def test_learned_keypoints_move_with_the_picture(learned):
    image, _ = raytrace(torch.eye(4))
    first, second = (learned.detect(part) for part in (image[:, :160, :240], image[:, 32:, 16:]))
    matches = learned.match(first, second)
    pixels = torch.tensor([240, 160])
    shift = (first.coordinates[matches[:, 0]] - second.coordinates[matches[:, 1]]) * pixels
    assert len(matches) > 100
    torch.testing.assert_close(shift.median(0).values, torch.tensor([16.0, 32.0]), atol=0.1, rtol=0)


def test_tentative_matches_hold_more_right_ones_than_matches_and_have_probabilities(learned):
    features = [learned.detect(raytrace(pose)[0]) for pose in (torch.eye(4), SECOND)]
    tentative = learned.match_softly(*features)

    def right(matches):
        keypoints = features[0].coordinates, features[1].coordinates
        return TwoView(CAMERAS, keypoints, matches).sampson_px(SECOND).abs() < 1

    matches = learned.match(*features)
    likely = tentative.probabilities > 0.3
    assert right(tentative.matches).sum() > 1.1 * right(matches).sum()
    assert right(tentative.matches[likely]).float().mean() > 0.8
    assert right(tentative.matches[~likely]).float().mean() < 0.5
    count = torch.zeros(len(features[0].coordinates))
    assert count.index_add(0, tentative.matches[:, 0], tentative.probabilities).max() < 1 + 1e-5
