"""Plane sweep and stereo network, against exact depth."""

import torch
from two_planes_scene import (
    CARD,
    FIRST_CAMERA,
    INTRINSICS,
    SECOND,
    SECOND_CAMERA,
    SIZE,
    WALL,
    raytrace,
)

from models.geometry.camera import Camera
from models.geometry.rigid import se3_exponential
from models.geometry.views import View
from models.stereo.depth import estimate_depths, upsample_guided
from models.stereo.network import StereoConfig, StereoNetwork
from models.stereo.plane_sweep import (
    Comparison,
    box_mean,
    inverse_depth_planes,
    sweep,
    warp_to_planes,
)
from models.stereo.prior import SurfacePrior
from models.stereo.semi_global import position_to_depth, semi_global_matching

ASIDE = se3_exponential(torch.tensor([-0.9, 0.1, 0.0, 0.05, -0.45, 0.0]))  # shows half of it
THIRD = se3_exponential(torch.tensor([0.25, 0.0, 0.0, 0.0, 0.1, 0.0]))
CAMERAS = FIRST_CAMERA[None], SECOND_CAMERA[None]
RANGES = [(1.5, 5.0)] * 3
TOLERANCE = torch.tensor([0.1])
NO_POINTS = {count: (torch.zeros(0, 3), torch.zeros(count, 0, 2)) for count in (2, 3)}


def view(world2cam: torch.Tensor) -> View:
    return View(raytrace(world2cam)[0], Camera(INTRINSICS, world2cam, SIZE))


def planes(near: float, far: float, count: int) -> torch.Tensor:
    return inverse_depth_planes(torch.tensor([near]), torch.tensor([far]), count)


def test_planes_run_from_near_to_far_in_even_steps_of_inverse_depth():
    inverse = planes(1.0, 4.0, 4)[0]
    torch.testing.assert_close(inverse, torch.tensor([1.0, 0.75, 0.5, 0.25]))
    torch.testing.assert_close(
        position_to_depth(torch.tensor([[[0.0, 1.5, 3.0]]]), inverse[None], 4)[0, 0],
        1 / torch.tensor([1.0, 0.625, 0.25]),
    )


def test_at_the_true_depth_the_other_photo_looks_the_same():
    first, depth = raytrace(torch.eye(4))
    second, _ = raytrace(SECOND)
    warped, seen = warp_to_planes(second[None], *CAMERAS, planes(CARD, WALL, 2))
    on_wall = (depth == WALL) & (seen[0, 1] > 0)
    on_card = (depth - CARD).abs() < 1e-4

    # Right beside the card the second camera sees the card where the first sees the wall.
    assert (warped[0, :, 1] - first).abs().mean(0)[on_wall].median() < 0.01
    assert (warped[0, :, 0] - first).abs().mean(0)[on_card].mean() < 0.02
    assert (warped[0, :, 1] - first).abs().mean(0)[on_card].mean() > 0.1


def compare(second: torch.Tensor, inverse_depths: torch.Tensor) -> Comparison:
    """Compare a second photo with the first one on planes, without features."""
    first, _ = raytrace(torch.eye(4))
    correlation, difference, seen = sweep(
        first[None], second[None], TOLERANCE, *CAMERAS, inverse_depths
    )
    return Comparison(correlation, difference, torch.zeros_like(seen), seen)


def test_correlation_is_zero_where_the_source_sees_nothing():
    compared = compare(raytrace(SECOND)[0], planes(1.0, 5.0, 8))
    unseen = compared.seen == 0
    assert unseen.any() and (compared.correlation[unseen] == 0).all()
    assert compared.correlation.abs().max() < 1.01


def test_correlation_does_not_mind_exposure():
    second, inverse = raytrace(SECOND)[0], planes(1.0, 5.0, 8)
    bright, dark = (compare(each, inverse).correlation for each in (second, 0.7 * second + 0.1))
    assert (bright - dark).abs().mean() < 0.02


def test_a_box_mean_near_the_border_counts_only_what_is_there():
    ramp = torch.arange(5.0).expand(1, 2, 5, 5)
    averaged = box_mean(ramp, 3)
    torch.testing.assert_close(averaged[0, 0, 2], torch.tensor([0.5, 1.0, 2.0, 3.0, 3.5]))


def test_the_untrained_network_keeps_what_matching_finds_on_texture():
    _, depth = raytrace(torch.eye(4))
    network = StereoNetwork(StereoConfig()).eval()
    views = [view(torch.eye(4)), view(SECOND)]
    found, _ = estimate_depths(views, RANGES[:2], *NO_POINTS[2], network)
    error = (found.depth - depth).abs() / depth
    assert error.median() < 0.01
    assert (error < 0.05).float().mean() > 0.75


def test_a_third_photo_helps_where_the_second_sees_nothing():
    views = [view(pose) for pose in (torch.eye(4), ASIDE, THIRD)]
    _, depth = raytrace(torch.eye(4))
    network = StereoNetwork(StereoConfig()).eval()

    def good(count: int) -> float:
        found, *_ = estimate_depths(views[:count], RANGES[:count], *NO_POINTS[count], network)
        return float(((found.depth - depth).abs() < 0.05 * depth).float().mean())

    assert good(3) > good(2) + 0.05


def test_a_match_does_not_mix_two_surfaces_and_says_how_certain_it_is():
    correlation = torch.full((1, 40, 8, 8), -1.0)
    correlation[0, [9, 10, 11]] = torch.tensor([0.8, 0.9, 0.8])[:, None, None]
    correlation[0, 30] = 0.85
    clear = correlation.clone()
    clear[0, 30] = -1.0
    nothing = torch.zeros(1, 8, 8)
    image, same = torch.full((1, 3, 8, 8), 0.5), torch.zeros_like(correlation)
    one, two = (
        semi_global_matching(
            Comparison(each, same, same, same + 1), image, SurfacePrior(nothing, nothing)
        )
        for each in (clear, correlation)
    )

    torch.testing.assert_close(one.position, torch.full((1, 8, 8), 10.0))
    torch.testing.assert_close(two.position, one.position)
    assert (two.confidence < one.confidence - 0.05).all() and one.confidence.max() <= 1


def test_twice_as_many_planes_find_the_same_positions():
    first, depth = raytrace(torch.eye(4))
    prior = SurfacePrior(torch.zeros(1, *SIZE), torch.zeros(1, *SIZE))
    found = []
    for planes_per_step in (1, 2):
        compared = compare(raytrace(SECOND)[0], planes(1.5, 5.0, 31 * planes_per_step + 1))
        found.append(semi_global_matching(compared, first[None], prior, planes_per_step))
    coarse, fine = (each.position[0] for each in found)
    assert (coarse - fine).abs().median() < 0.3
    assert found[0].cost.shape == found[1].cost.shape
    true = 31 * (1 / 1.5 - 1 / depth) / (1 / 1.5 - 1 / 5)
    assert (fine - true).abs().median() < (coarse - true).abs().median()


def test_upsampling_keeps_an_edge_where_the_photo_has_it():
    guide = torch.zeros(3, 32, 48)
    guide[:, :, 21:] = 1.0  # an edge that no coarse pixel border meets
    coarse = torch.zeros(2, 16, 24)
    coarse[0, :, 11:] = 20.0
    coarse[0, :, 10] = 20.0
    fine = upsample_guided(coarse, guide)
    assert (fine[0, :, :20] < 1).all() and (fine[0, :, 21:] > 19).all()


def test_upsampling_a_ramp_keeps_its_gradient():
    coarse = torch.arange(24.0).expand(2, 16, 24) / 4
    fine = upsample_guided(coarse, torch.full((3, 32, 48), 0.5))
    steps = fine[0, 16].diff()
    assert (steps[2:-2] - 0.125).abs().max() < 0.03
