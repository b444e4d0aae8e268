"""What matches by besides gray values: colors made the same, and learned features."""

import torch
from two_planes_scene import CARD, FIRST_CAMERA, SECOND, SECOND_CAMERA, SIZE, WALL, raytrace

from models.stereo.color_transfer import (
    COLOR_NOISE,
    DEFAULT_DIFFERENCE,
    TOLERANCE_FACTOR,
    match_colors,
)
from models.stereo.features import MatchingFeatures, compare_features
from models.stereo.plane_sweep import Comparison, inverse_depth_planes
from models.stereo.prior import SurfacePrior
from models.stereo.semi_global import semi_global_matching


def points(count: int = 60) -> torch.Tensor:
    return 0.1 + 0.8 * torch.rand(count, 2, generator=torch.Generator().manual_seed(0))


def test_another_exposure_and_white_balance_are_undone():
    photo, _ = raytrace(torch.eye(4))
    gain, offset = torch.tensor([0.6, 0.8, 1.1]), torch.tensor([0.1, 0.0, -0.05])
    other = photo * gain[:, None, None] + offset[:, None, None]
    undone, tolerance = match_colors(photo, other, points(), points())

    assert (other - photo).abs().mean() > 0.05
    assert (undone - photo).abs().mean() < 0.02
    assert tolerance < 2 * TOLERANCE_FACTOR * COLOR_NOISE


def test_the_less_alike_matched_points_are_the_larger_a_difference_must_be():
    photo, _ = raytrace(torch.eye(4))
    _, alike = match_colors(photo, photo, points(), points())
    _, unlike = match_colors(photo, photo, points(), points().flip(0))
    assert unlike > 3 * alike


def test_without_enough_shared_points_colors_stay():
    photo, _ = raytrace(torch.eye(4))
    kept, tolerance = match_colors(photo, 0.5 * photo, points(7), points(7))
    torch.testing.assert_close(kept, 0.5 * photo)
    assert abs(float(tolerance) - TOLERANCE_FACTOR * (DEFAULT_DIFFERENCE + COLOR_NOISE)) < 1e-6


def test_colors_and_features_decide_where_gray_values_say_nothing():
    nothing = torch.zeros(1, 24, 8, 8)
    image, prior = torch.full((1, 3, 8, 8), 0.5), SurfacePrior(*2 * [torch.zeros(1, 8, 8)])
    other_color, alike = nothing + 1, nothing.clone()
    other_color[:, 7] = 0
    alike[:, 15] = 1
    by_color, by_features = (
        semi_global_matching(Comparison(nothing, *likeness, nothing + 1), image, prior)
        for likeness in ((other_color, nothing), (nothing, alike))
    )

    assert (by_color.position - 7).abs().max() < 0.5
    assert (by_features.position - 15).abs().max() < 0.5


def test_features_are_most_alike_at_the_true_depth_and_interpolated_between_steps():
    photos, depths = zip(*(raytrace(pose) for pose in (torch.eye(4), SECOND)), strict=True)
    small = [torch.nn.functional.avg_pool2d(photo, 2)[None] for photo in photos]
    colors = [torch.nn.functional.normalize(each - 0.5, dim=1) for each in small]
    features = [torch.cat([each, torch.ones_like(each[:, :1])], dim=1) for each in colors]
    cameras = FIRST_CAMERA[None], SECOND_CAMERA[None]
    inverse = inverse_depth_planes(torch.tensor([CARD]), torch.tensor([WALL]), 5)
    whole, fine = (
        compare_features(*features, *cameras, planes, planes_per_step)
        for planes, planes_per_step in ((inverse[:, ::2], 1), (inverse, 2))
    )
    on_wall, on_card = depths[0] > WALL - 1e-3, (depths[0] - CARD).abs() < 1e-3

    assert whole.shape == (1, 3, *SIZE) and fine.shape == (1, 5, *SIZE)
    torch.testing.assert_close(fine[:, ::2], whole)
    torch.testing.assert_close(fine[:, 1], (whole[:, 0] + whole[:, 1]) / 2)
    assert whole[0, 2][on_wall].mean() > whole[0, 0][on_wall].mean() + 0.2
    assert whole[0, 0][on_card].mean() > whole[0, 2][on_card].mean() + 0.2


def test_untrained_features_say_next_to_nothing_at_any_size():
    network = MatchingFeatures((8, 8, 8), 4)
    found = network(torch.rand(2, 3, 45, 62, generator=torch.Generator().manual_seed(1)))
    direction, weight = found.split([4, 1], dim=1)

    assert found.shape == (2, 5, 23, 31)
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(2, 23, 31))
    assert weight.max() < 0.5
