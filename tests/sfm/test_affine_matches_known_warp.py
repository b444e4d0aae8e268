"""Affine matches between pictures whose warp is known, and the geometry they start from."""

import math
from dataclasses import replace

import pytest
import torch
from scripted_matcher import in_order
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.rigid import invert, se3_exponential
from models.sfm import affine_matches
from models.sfm.affine_matches import AffineMatches, affine_neighbors
from models.sfm.two_view import TwoView

INTRINSICS = torch.tensor([[1.2, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]])
FIRST, SECOND = (Camera(INTRINSICS, torch.eye(4), size) for size in ((480, 640), (240, 320)))
POSE = se3_exponential(torch.tensor([-0.5, 0.1, 0.15, 0.05, -0.1, 0.3]))
CENTERS = torch.cartesian_prod(torch.arange(40.5, 121, 20), torch.arange(40.5, 121, 20))


def picture(places: Tensor) -> Tensor:
    """A smooth random texture at any places in pixels."""
    generator = torch.Generator().manual_seed(0)
    waves = torch.randn(40, 2, generator=generator) * 0.25
    phases = 2 * math.pi * torch.rand(40, generator=generator)
    return 0.5 + 0.05 * torch.sin(places @ waves.T + phases).sum(-1)


def pixel_centers(side: int) -> Tensor:
    line = torch.arange(side) + 0.5
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)


def warp(degrees: float, scale: float, shear: float = 0.0) -> Tensor:
    turn = torch.tensor(math.radians(degrees))
    rotation = torch.stack([turn.cos(), -turn.sin(), turn.sin(), turn.cos()]).view(2, 2)
    return scale * rotation @ torch.tensor([[1.0, shear], [0.0, 1.0]])


def align(affinity: Tensor, off_px: tuple[float, float], start: Tensor | None = None, noise=0.0):
    """Align patches of a picture with those of its warp, from a start that is off."""
    middle = torch.tensor([80.5, 80.5])
    side = math.ceil(160 * max(1.0, float(affinity.norm()) / math.sqrt(2)))
    there = torch.tensor([side / 2, side / 2])
    pulled = (pixel_centers(side) - there) @ torch.linalg.inv(affinity).T + middle
    generator = torch.Generator().manual_seed(1)
    second = 0.1 + 0.6 * picture(pulled) + noise * torch.randn(side, side, generator=generator)
    truth = (CENTERS - middle) @ affinity.T + there
    first = picture(pixel_centers(160))
    initial = (affinity if start is None else start).expand(len(CENTERS), 2, 2)
    begin = truth + torch.tensor(off_px)
    found = affine_matches._align_patches((first, second), CENTERS, begin, initial)
    return *found, (found[0] - truth).norm(dim=1)


@pytest.mark.parametrize(
    ("degrees", "scale", "shear"),
    [(0, 1, 0), (10, 1.05, 0), (-8, 0.95, 0.1), (30, 0.5, 0.1), (20, 2.0, -0.1)],
)
def test_a_known_warp_is_recovered_whatever_brightness_and_contrast(degrees, scale, shear):
    truth = warp(degrees, scale, shear)
    start = truth @ warp(4, 1.03, 0.03)
    _, affinity, converged, error = align(truth, (1.0, -1.0), start)
    assert converged.float().mean() > 0.8
    assert error[converged].max() < 0.1
    off = (affinity - truth).flatten(1).norm(dim=1) / truth.norm()
    assert off[converged].median() < 0.03


def test_a_match_that_was_more_than_three_pixels_off_was_another_one():
    assert align(torch.eye(2), (2.0, 2.0))[2].any()
    _, _, converged, error = align(torch.eye(2), (2.3, 2.3))
    assert (error < 0.1).any() and not converged.any()


def test_patches_that_hardly_correlate_are_not_the_same():
    signal = 0.6 * float(picture(pixel_centers(160)).std())
    for correlation, share in ((0.95, 0.9), (0.6, 0.3)):
        noise = signal * math.sqrt(1 / correlation**2 - 1)
        found = align(torch.eye(2), (0.0, 0.0), noise=noise)[2].float().mean()
        assert (found > share) == (correlation > 0.8)


def test_values_are_standardized_under_the_window():
    window = torch.rand(50)
    window = window / window.sum()
    values = torch.cat([torch.rand(3, 50), torch.full((1, 50), 0.3)])
    standard, deviation = affine_matches._standardize(values, window)
    moments = [(standard**power * window).sum(1) for power in (1, 2)]
    torch.testing.assert_close(moments[0], torch.zeros(4), rtol=0, atol=5e-3)
    torch.testing.assert_close(moments[1][:3], torch.ones(3), rtol=1e-4, atol=0)
    expected = (values * values * window).sum(1) - (values * window).sum(1) ** 2
    torch.testing.assert_close(deviation[:3, 0], expected[:3].sqrt(), rtol=1e-4, atol=1e-6)
    assert 0 < deviation[3] < 2e-5


def test_a_pixel_is_sampled_in_its_middle():
    image = torch.rand(6, 9)
    places = torch.tensor([[2.5, 4.5], [3.0, 4.5], [2.5, 4.0]])
    expected = [image[4, 2], image[4, 2:4].mean(), image[3:5, 2].mean()]
    torch.testing.assert_close(affine_matches._sample_px(image, places), torch.stack(expected))


def pair_at(first: Tensor, second: Tensor) -> TwoView:
    return TwoView((FIRST, SECOND), (first, second), in_order(len(first)))


def test_neighbors_are_six_pixels_right_left_below_and_above():
    first, second = torch.rand(3, 2), torch.rand(3, 2)
    affinity = torch.tensor([[0.5, 0.1], [-0.2, 0.4]]).expand(3, 2, 2)
    is_refined = torch.tensor([True, False, True])
    found = affine_neighbors(
        pair_at(first, second), AffineMatches(second + 0.01, affinity, is_refined)
    )
    steps = 6 * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    expected = [
        (first[[0, 2], None] + steps / torch.tensor([640, 480])).flatten(0, 1),
        (second[[0, 2], None] + 0.01 + steps @ affinity[0].T / torch.tensor([320, 240])).flatten(
            0, 1
        ),
    ]
    for points, wanted in zip(found.points, expected, strict=True):
        torch.testing.assert_close(points, wanted)


def test_the_first_affinity_is_that_of_a_plane_that_faces_both_cameras():
    points = torch.rand(20, 3) * torch.tensor([2.0, 1.5, 2.0]) + torch.tensor([-1.0, -0.75, 2.0])
    other = replace(SECOND, world2cam=POSE)
    seen = [FIRST.project(points)[0], other.project(points)[0]]
    pair, sizes = pair_at(*seen), [torch.tensor([640, 480]), torch.tensor([320, 240])]
    found = affine_matches._initial_affinity(pair, POSE, seen[0] * sizes[0], points[:, 2])
    center = invert(POSE)[:3, 3]
    normal = torch.nn.functional.normalize(-points, dim=1)
    normal = normal + torch.nn.functional.normalize(center - points, dim=1)
    for axis in torch.eye(3):
        along = torch.linalg.cross(normal, axis.expand_as(normal)) * 1e-3
        ahead, behind = (
            [camera.project(points + sign * along)[0] for camera in (FIRST, other)]
            for sign in (1, -1)
        )
        step, expected = (
            (one - two) * size for one, two, size in zip(ahead, behind, sizes, strict=True)
        )
        mapped = (found @ step[..., None])[..., 0]
        assert ((mapped - expected).norm(dim=1) < 0.01 * expected.norm(dim=1) + 1e-4).all()


def test_candidates_are_near_their_epipolar_lines_and_in_front_of_both_cameras(monkeypatch):
    aside = torch.eye(4)
    aside[0, 3] = -1.0
    first = torch.tensor([0.5, 0.5]).repeat(5, 1)
    rows = math.sqrt(2) * torch.tensor([0.0, 2.9, -2.9, 3.2, 0.0]) / 480
    shift = torch.tensor([-0.05, -0.05, -0.05, -0.05, 0.05])  # the last is behind
    second = first + torch.stack([shift, rows], dim=1)
    pair = TwoView((FIRST, FIRST), (first, second), in_order(5))
    asked = []

    def align_all(gray, first, second, affinity):
        asked.append(second)
        return second + 1, affinity, second[:, 1] < 242

    monkeypatch.setattr(affine_matches, "_align_patches", align_all)
    blank = torch.zeros(3, 480, 640)
    found = affine_matches.refine_affine_matches((blank, blank), pair, [aside, aside])
    assert found.is_refined.tolist() == [True, False, True, False, False]
    assert [len(each) for each in asked] == [3, 1]  # only what is left is tried again
    moved_px = (found.second - second) * torch.tensor([640, 480])
    torch.testing.assert_close(moved_px[[0, 2]], torch.ones(2, 2), rtol=0, atol=1e-2)
    torch.testing.assert_close(found.second[[1, 3, 4]], second[[1, 3, 4]])
    assert (found.affinity[[1, 3, 4]] == 0).all() and (found.affinity[0] != 0).any()


def test_a_point_is_transformed_as_its_neighbors_are():
    """The pictures' warp, not its inverse or transpose, is what an affinity means."""
    truth = warp(20, 0.9, 0.2)
    _, affinity, converged, _ = align(truth, (0.0, 0.0))
    step = torch.tensor([3.0, -2.0])
    torch.testing.assert_close(
        affinity[converged] @ step, (truth @ step).expand(int(converged.sum()), 2), atol=0.1, rtol=0
    )
