"""Depths that another view sees through, and what they become."""

from dataclasses import replace

import torch
from two_planes_scene import CARD, SIZE, WALL, depth_map_at

from models.geometry.depth_map import DepthMap, look_up
from models.geometry.rigid import se3_exponential
from models.scene.visibility import push_back_contradicted

SECOND = se3_exponential(torch.tensor([-0.3, 0.05, 0.0, 0.0, 0.0, 0.0]))


def with_card_continued(view: DepthMap, other: DepthMap) -> tuple[DepthMap, torch.Tensor]:
    """Continue the card's depth, unsure of it, over the wall that the card hides from the other."""
    z, inside, (there,) = look_up(view, other, other.depth[None])
    hidden = (inside & (z > 1.03 * there)).unflatten(0, SIZE)
    unsure = torch.where(hidden, 0.0, view.confidence)
    return replace(view, depth=view.depth.masked_fill(hidden, CARD), confidence=unsure), hidden


def test_what_only_one_view_shows_joins_the_background():
    first, second = depth_map_at(torch.eye(4)), depth_map_at(SECOND)
    wrong, hidden = with_card_continued(first, second)
    assert hidden.float().mean() > 0.01
    repaired, _ = push_back_contradicted([wrong, second])
    assert ((repaired.depth - WALL).abs() < 0.01)[hidden].float().mean() > 0.9
    assert torch.equal(repaired.depth[~hidden], first.depth[~hidden])


def test_views_that_agree_and_points_that_are_surer_stay():
    first, second = depth_map_at(torch.eye(4)), depth_map_at(SECOND)
    for view, kept in zip([first, second], push_back_contradicted([first, second]), strict=True):
        assert torch.equal(kept.depth, view.depth)
    floating = replace(first, depth=first.depth.clone(), confidence=torch.full(SIZE, 2.0))
    floating.depth[80:100, 100:130] = 1.0
    assert torch.equal(push_back_contradicted([floating, second])[0].depth, floating.depth)


def test_without_a_depth_to_continue_a_point_stays():
    first, second = depth_map_at(torch.eye(4)), depth_map_at(SECOND)
    lost = replace(first, depth=torch.ones(SIZE), confidence=torch.zeros(SIZE))
    assert torch.equal(push_back_contradicted([lost, second])[0].depth, lost.depth)
