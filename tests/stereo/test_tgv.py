"""Regularized depth maps: planes continue through uncertain depths, edges stay where they are."""

from dataclasses import replace

import torch
from two_planes_scene import CARD, SIZE, WALL, depth_map_at

from models.geometry.depth_map import look_up
from models.geometry.rigid import se3_exponential
from models.stereo.tgv import regularize, snap_edge_pixels, tgv

NEAR_FAR, PLANES = (1.0, 8.0), 64
SECOND = se3_exponential(torch.tensor([-0.4, 0.05, 0.0, 0.0, -0.1, 0.0]))
HEIGHT_WIDTH = (128, 192)
FLAT = torch.full((3, *HEIGHT_WIDTH), 0.5)


def slanted() -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(192.0), indexing="ij")
    return 10 + 0.2 * rows + 0.1 * columns


def test_a_slanted_plane_goes_on_through_a_hole():
    measured, data_weight = slanted(), torch.full(HEIGHT_WIDTH, 0.3)
    measured[40:90, 60:120] = 0.0
    data_weight[40:90, 60:120] = 1e-4
    found = tgv(measured, data_weight, FLAT)
    assert (found - slanted()).abs().max() < 1.0


def test_steps_between_planes_are_evened_out():
    found = tgv(slanted().round(), torch.full(HEIGHT_WIDTH, 0.3), FLAT)
    before = (slanted().round() - slanted()).square().mean()
    assert (found - slanted()).square().mean() < 0.15 * before


def test_an_edge_of_the_photo_may_be_an_edge_of_the_surface():
    guide = FLAT.clone()
    guide[:, :, 96:] = 0.9
    truth = slanted()
    truth[:, 96:] += 10
    data_weight = torch.full(HEIGHT_WIDTH, 0.3)
    data_weight[:, 80:112] = 1e-4
    measured = truth.clone()
    measured[:, 80:112] = 20.0
    found = tgv(measured, data_weight, guide)
    assert (found - truth)[:, :95].abs().max() < 1.0
    assert (found - truth)[:, 97:].abs().max() < 1.0


def test_two_noisy_views_of_a_card_before_a_wall_become_smooth_and_keep_its_outline():
    generator = torch.Generator().manual_seed(0)
    step = (1 / NEAR_FAR[0] - 1 / NEAR_FAR[1]) / (PLANES - 1)
    truths, views = [], []
    for world2cam in (torch.eye(4), SECOND):
        view = depth_map_at(world2cam)
        noise = step * torch.randn(SIZE, generator=generator)
        views.append(replace(view, depth=1 / (1 / view.depth + noise).clamp(min=0.05)))
        truths.append(view.depth)
    regularized = regularize(views, [NEAR_FAR] * 2, PLANES)
    for view, noisy, truth in zip(regularized, views, truths, strict=True):
        error = (1 / view.depth - 1 / truth).abs() / step
        assert error.median() < 0.4 * ((1 / noisy.depth - 1 / truth).abs() / step).median()
    on_card = truths[0] < (CARD + WALL) / 2
    found_card = regularized[0].depth < (CARD + WALL) / 2
    assert (found_card != on_card).float().mean() < 0.01


def test_pixels_between_a_foreground_and_its_background_go_where_their_color_is():
    image, depth = torch.full((3, *HEIGHT_WIDTH), 0.2), torch.full(HEIGHT_WIDTH, 4.0)
    image[:, :, 100:], depth[:, 100:] = 0.8, 2.0
    smeared = depth.clone()
    smeared[:, 96:104] = torch.linspace(3.7, 2.2, 8)
    torch.testing.assert_close(snap_edge_pixels(smeared, image), depth)


def test_a_steep_plane_has_no_foreground():
    depth = 1 / torch.linspace(0.1, 1.0, 192).expand(HEIGHT_WIDTH)
    torch.testing.assert_close(snap_edge_pixels(depth, FLAT)[:, 40:], depth[:, 40:])


def test_what_hides_behind_another_views_foreground_is_not_taken_for_measured(monkeypatch):
    weights = []

    def record(measured, data_weight, guide):
        weights.append(data_weight)
        return measured

    monkeypatch.setattr("models.stereo.tgv.tgv", record)
    first, second = depth_map_at(torch.eye(4)), depth_map_at(SECOND)
    z, inside, there = look_up(first, second, second.depth[None])
    hidden = (inside & (there[0] < 0.9 * z)).unflatten(0, SIZE)
    regularize([first, second], [NEAR_FAR] * 2, PLANES)
    assert hidden.sum() > 500
    assert weights[0][hidden].max() < 0.05 * weights[0][~hidden].median()
