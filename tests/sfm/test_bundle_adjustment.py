"""Three photos, one set of poses: tracks, and the bundle adjustment that fits them."""

from collections.abc import Sequence

import pytest
import torch

from models.geometry.camera import Camera, project, with_poses
from models.geometry.rigid import invert, rotation_angle, se3_exponential
from models.sfm.bundle_adjustment import bundle_adjust
from models.sfm.tracks import build_tracks, is_inlier, triangulate_tracks
from models.sfm.two_view import RelativePose

SIZES = [(480, 640), (480, 640), (640, 480)]
INTRINSICS = torch.tensor(
    [[[1.0, 0, 0.5], [0, 4 / 3, 0.5], [0, 0, 1]]] * 2
    + [[[4 / 3, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]]
)
POSES = torch.stack(
    [
        torch.eye(4),
        se3_exponential(torch.tensor([-0.5, 0.05, 0.0, 0.0, -0.1, 0.0])),
        se3_exponential(torch.tensor([0.4, -0.1, 0.1, 0.05, 0.1, 0.0])),
    ]
)
CAMERAS = [Camera(*each) for each in zip(INTRINSICS, POSES, SIZES, strict=True)]
NOISE_PX = 0.3


@pytest.fixture
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Points, and noisy observations: a tenth are wrong, and a third are missing in a view."""
    points = torch.randn(300, 3) * torch.tensor([0.8, 0.6, 0.5]) + torch.tensor([0, 0, 3.5])
    observations, _ = project(points.expand(3, -1, -1), POSES, INTRINSICS)
    sides = torch.tensor([[width, height] for height, width in SIZES])
    observations = observations + NOISE_PX * torch.randn(3, 300, 2) / sides[:, None]
    wrong = torch.rand(3, 300) < 0.1
    observations[wrong] += 0.1 * torch.randn(int(wrong.sum()), 2)
    missing = torch.randint(9, (300,))
    for view in range(3):
        observations[view, missing == view] = torch.nan
    return points, observations


def perturbed() -> tuple[Camera, ...]:
    twists = torch.zeros(3, 6)
    twists[1:] = 0.02 * torch.randn(2, 6)
    return with_poses(CAMERAS, se3_exponential(twists) @ POSES)


def stacked(cameras: Sequence[Camera]) -> torch.Tensor:
    return torch.stack([camera.world2cam for camera in cameras])


def errors_deg(world2cam: torch.Tensor) -> torch.Tensor:
    return torch.rad2deg(rotation_angle(world2cam[:, :3, :3], POSES[:, :3, :3]))


def test_adjusted_poses_are_right_where_those_before_were_not(scene):
    _, observations = scene
    before = perturbed()
    points = triangulate_tracks(observations, before)

    adjusted, points = bundle_adjust(before, points, observations)
    after = stacked(adjusted)

    assert errors_deg(stacked(before))[1:].min() > 0.5
    assert errors_deg(after).max() < 0.15
    lengths, true = (invert(poses)[1:, :3, 3].norm(dim=1) for poses in (after, POSES))
    assert float(lengths[0] / lengths[1]) == pytest.approx(float(true[0] / true[1]), rel=0.01)
    assert torch.equal(after[0], torch.eye(4))


def test_parallel_rays_and_unobserved_points_break_no_adjustment():
    points = torch.tensor([[0.0, 0.0, 1.0], [0.3, 0.1, 1e12], [0.0, 0.0, 0.0]]).repeat(3, 1)
    observations = torch.full((3, 9, 2), 0.5)
    observations[1:, ::2] = torch.nan
    cameras = with_poses(CAMERAS, torch.eye(4).repeat(3, 1, 1))

    triangulate_tracks(observations, cameras)
    adjusted, _ = bundle_adjust(cameras, points, observations)
    assert torch.stack([camera.world2cam for camera in adjusted]).isfinite().all()


def test_right_observations_are_inliers_and_wrong_ones_are_not(scene):
    points, observations = scene
    true, _ = project(points.expand(3, -1, -1), POSES, INTRINSICS)
    right = ((observations - true).norm(dim=-1) < 0.003) & observations.isfinite().all(-1)

    near = is_inlier(points, observations, CAMERAS, 2.0)

    assert (near == right).float().mean() > 0.98
    assert 0.75 < near.float().mean() < 0.95


def pair_of(*matches: tuple[int, int]) -> RelativePose:
    ones = torch.ones(len(matches))
    return RelativePose(torch.eye(4), torch.tensor(matches), ones, ones, 1.0)


def test_matches_of_one_point_become_one_track():
    pairs = {(0, 1): pair_of((5, 7), (6, 8)), (0, 2): pair_of((5, 2)), (1, 2): pair_of((8, 3))}
    assert build_tracks(pairs, 3).tolist() == [[5, 7, 2], [6, 8, 3]]


def test_a_match_that_contradicts_others_is_left_out():
    pairs = {(0, 1): pair_of((5, 7)), (0, 2): pair_of((5, 2)), (1, 2): pair_of((7, 4))}
    assert build_tracks(pairs, 3).tolist() == [[5, 7, 2]]
