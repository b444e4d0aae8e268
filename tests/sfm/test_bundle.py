"""Three photos, one set of poses: tracks, and the bundle adjustment that fits them."""

import pytest
import torch

from models.geometry.camera import project
from models.geometry.rigid import invert, rotation_angle, se3_exponential
from models.sfm.bundle_adjustment import adjust, agrees, link, triangulate_tracks
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
NOISE_PX = 0.3


@pytest.fixture
def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Points, and noisy sightings of which a tenth are wrong and a third are missing in a view."""
    points = torch.randn(300, 3) * torch.tensor([0.8, 0.6, 0.5]) + torch.tensor([0, 0, 3.5])
    sightings, _ = project(points.expand(3, -1, -1), POSES, INTRINSICS)
    sides = torch.tensor([[width, height] for height, width in SIZES])
    sightings = sightings + NOISE_PX * torch.randn(3, 300, 2) / sides[:, None]
    wrong = torch.rand(3, 300) < 0.1
    sightings[wrong] += 0.1 * torch.randn(int(wrong.sum()), 2)
    missing = torch.randint(9, (300,))
    for view in range(3):
        sightings[view, missing == view] = torch.nan
    return points, sightings


def perturbed() -> torch.Tensor:
    twists = torch.zeros(3, 6)
    twists[1:] = 0.02 * torch.randn(2, 6)
    return se3_exponential(twists) @ POSES


def errors_deg(world2cam: torch.Tensor) -> torch.Tensor:
    return torch.rad2deg(rotation_angle(world2cam[:, :3, :3], POSES[:, :3, :3]))


def test_adjusted_poses_are_right_where_those_before_were_not(scene):
    _, sightings = scene
    before = perturbed()
    points = triangulate_tracks(sightings, before, INTRINSICS)

    after, points = adjust(before, points, sightings, INTRINSICS, SIZES)

    assert errors_deg(before)[1:].min() > 0.5
    assert errors_deg(after).max() < 0.15
    lengths, true = (invert(poses)[1:, :3, 3].norm(dim=1) for poses in (after, POSES))
    assert float(lengths[0] / lengths[1]) == pytest.approx(float(true[0] / true[1]), rel=0.01)
    assert torch.equal(after[0], torch.eye(4))


def test_right_sightings_agree_and_wrong_ones_do_not(scene):
    points, sightings = scene
    true, _ = project(points.expand(3, -1, -1), POSES, INTRINSICS)
    right = ((sightings - true).norm(dim=-1) < 0.003) & sightings.isfinite().all(-1)

    near = agrees(POSES, points, sightings, INTRINSICS, SIZES, 2.0)

    assert (near == right).float().mean() > 0.98
    assert 0.75 < near.float().mean() < 0.95


def pair_of(*matches: tuple[int, int]) -> RelativePose:
    ones = torch.ones(len(matches))
    return RelativePose(torch.eye(4), torch.tensor(matches), ones, ones, 1.0)


def test_matches_of_one_point_become_one_track():
    pairs = {(0, 1): pair_of((5, 7), (6, 8)), (0, 2): pair_of((5, 2)), (1, 2): pair_of((8, 3))}
    assert link(pairs, 3).tolist() == [[5, 7, 2], [6, 8, 3]]


def test_a_match_that_contradicts_others_is_left_out():
    pairs = {(0, 1): pair_of((5, 7)), (0, 2): pair_of((5, 2)), (1, 2): pair_of((7, 4))}
    assert link(pairs, 3).tolist() == [[5, 7, 2]]
