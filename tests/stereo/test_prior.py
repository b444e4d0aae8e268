"""Priors from matched points, and smoothing."""

import numpy as np
import torch
from two_planes_scene import CARD, HALF_CARD, INTRINSICS, SIZE, WALL, raytrace

from models.geometry.camera import Camera, pixel_grid
from models.geometry.rigid import se3_exponential
from models.geometry.views import View
from models.stereo.depth import estimate_depths
from models.stereo.network import StereoConfig, StereoNetwork
from models.stereo.prior import (
    MAX_PENALTY,
    SurfacePrior,
    _interpolate_triangles,
    penalty,
    triangulated_prior,
)
from models.stereo.smoothing import smooth
from models.training.stereo_examples import imitate_matches

GRADIENT = torch.tensor([20.0, -8.0])


def slanted(coordinates: torch.Tensor) -> torch.Tensor:
    return 30 + coordinates @ GRADIENT


def random_points(count: int) -> torch.Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(1))


def test_points_on_a_slanted_plane_give_that_plane():
    points = random_points(100)
    prior = triangulated_prior(points, slanted(points), (48, 64))
    middle = (slice(8, 40), slice(8, 56))
    true = slanted(pixel_grid((48, 64), points))
    torch.testing.assert_close(prior.position[0][middle], true[middle], rtol=0, atol=1e-3)
    assert prior.weight[0][middle].mean() > 0.6


def test_a_point_unlike_all_its_neighbors_is_left_out():
    points = torch.cat([random_points(100), torch.tensor([[0.5, 0.5]])])
    values = slanted(points)
    values[-1] += 25
    prior = triangulated_prior(points, values, (48, 64))
    true = slanted(pixel_grid((48, 64), points))
    assert (prior.position[0] - true)[20:28, 28:36].abs().max() < 1


def test_two_points_give_nothing_and_points_on_a_line_are_no_accident():
    assert triangulated_prior(random_points(2), torch.zeros(2), (8, 8)).weight.max() == 0
    line = torch.linspace(0.1, 0.9, 9)[:, None].expand(-1, 2)
    prior = triangulated_prior(line, torch.full((9,), 7.0), (8, 8))
    torch.testing.assert_close(prior.position, torch.full((1, 8, 8), 7.0))


def test_every_pixel_within_the_hull_is_in_one_triangle_and_on_its_plane():
    """Against scipy's own search: thousands of points, some of them nearly on lines."""
    from scipy.interpolate import LinearNDInterpolator

    points = random_points(3000)
    points[:300, 0] = 0.5 + 1e-7 * points[:300, 0]
    values = 30 + 10 * torch.sin(6 * points[:, 0]) + 5 * points[:, 1]
    in_pixels = points.double().numpy() * [64, 48]
    pixel, surface, _ = _interpolate_triangles(in_pixels, values.double().numpy(), (48, 64))
    centers = pixel_grid((48, 64), points).double().numpy().reshape(-1, 2) * [64, 48]
    expected = LinearNDInterpolator(in_pixels, values.double().numpy())(centers)
    assert sorted(pixel) == np.nonzero(np.isfinite(expected))[0].tolist()
    np.testing.assert_allclose(surface, expected[pixel], atol=1e-6)


def test_a_triangle_across_a_gap_in_depth_has_little_weight():
    points = random_points(200)
    values = torch.where(points[:, 0] < 0.5, 10.0, 50.0)
    weight = triangulated_prior(points, values, (48, 64)).weight[0]
    assert weight[:, 31:33].mean() < 0.2 < 0.7 < weight[:, 8:20].mean()


def test_disagreement_costs_up_to_a_limit_and_by_weight():
    prior = SurfacePrior(torch.full((1, 1, 2), 20.0), torch.tensor([[[1.0, 0.5]]]))
    cost = penalty(prior, 64)[0, :, 0]
    assert cost[20].tolist() == [0, 0]
    assert 0 < cost[23, 0] < cost[40, 0] == MAX_PENALTY
    torch.testing.assert_close(cost[:, 1], cost[:, 0] / 2)


def test_points_fill_in_where_photos_show_nothing():
    """A wall without texture: only the points tell that the card's surroundings are flat."""
    second = se3_exponential(torch.tensor([-0.3, 0.0, 0.0, 0.0, -0.1, 0.0]))
    views, depth = [], raytrace(torch.eye(4))[1]
    for pose in (torch.eye(4), second):
        image, z = raytrace(pose)
        image = torch.where(z > (WALL + CARD) / 2, 0.5, image)
        views.append(View(image, Camera(INTRINSICS, pose, SIZE)))
    known = torch.rand(300, 3) * torch.tensor([3.0, 2.4, 0]) + torch.tensor([-1.5, -1.2, WALL])
    known = known[(known[:, :2].abs() > 1.6 * HALF_CARD).any(1)]
    seen = torch.stack([view.camera.project(known)[0] for view in views])
    network = StereoNetwork(StereoConfig()).eval()

    @torch.no_grad()
    def error(points: torch.Tensor, observations: torch.Tensor) -> float:
        found, _ = estimate_depths(views, [(1.5, 5.0)] * 2, points, observations, network)
        wall = depth > (WALL + CARD) / 2
        return float(((found.depth - depth).abs() / depth)[wall].mean())

    assert error(known, seen) < 0.01
    assert error(known[:0], seen[:, :0]) > 0.05


def edge_weights(guide: torch.Tensor) -> list[torch.Tensor]:
    return [10 * torch.exp(-guide.diff(dim=axis).abs() / 0.06)[None] for axis in (1, 0)]


def test_smoothing_stops_where_edges_weigh_nothing_and_follows_weights():
    guide = torch.zeros(SIZE)
    guide[:, 128:] = 1.0
    values = torch.where(guide > 0.5, 40.0, 10.0)
    weight = torch.full_like(values, 1e-4)
    weight[::8, ::8] = 1.0
    noisy = torch.where(weight < 0.5, 64 * torch.rand_like(values), values)
    result = smooth(noisy[None], weight[None], *edge_weights(guide))[0]
    assert (result[:, :120] - 10).abs().max() < 3 and (result[:, 136:] - 40).abs().max() < 3


def test_smoothing_has_the_derivative_that_small_changes_show():
    generator = torch.Generator().manual_seed(4)
    shapes = (1, 4, 5), (1, 4, 5), (1, 4, 4), (1, 3, 5)
    arguments = [
        (0.1 + torch.rand(shape, generator=generator, dtype=torch.double)).requires_grad_()
        for shape in shapes
    ]
    assert torch.autograd.gradcheck(smooth, arguments)


def test_imitated_matches_are_mostly_right_and_only_where_both_views_see():
    image, depth = raytrace(torch.eye(4))
    position = (60 - 18 * (depth - CARD))[None]
    visible = torch.zeros_like(position, dtype=torch.bool)
    visible[:, :, :128] = True
    generator = torch.Generator().manual_seed(3)
    priors = [imitate_matches(image[None], position, visible, generator) for _ in range(8)]
    used = [prior for prior in priors if prior.weight.mean() > 0.3]
    assert used
    for prior in used:
        firm = visible & (prior.weight > 0.6)
        assert (prior.position - position)[firm].abs().median() < 0.5
        assert prior.weight[..., :128].mean() > prior.weight[..., 160:].mean()
