"""Two views of walls: which hides which, and what both see."""

import math

import pytest
import torch

from models.geometry.camera import Camera
from models.geometry.depth_map import (
    DepthMap,
    contradicted,
    covered,
    look_up,
    photometric_agreement,
)

SIZE = (4, 8)
INTRINSICS = torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 0.5], [0.0, 0.0, 1.0]])


def wall(depth: float, confidence: float = 0.5, x: float = 0.0, color: float = 0.5) -> DepthMap:
    """Return a wall seen by a camera at (x, 0, 0) that looks along +z."""
    world2cam = torch.eye(4)
    world2cam[0, 3] = -x
    fill = torch.full
    camera = Camera(INTRINSICS, world2cam, SIZE)
    return DepthMap(fill((3, *SIZE), color), fill(SIZE, depth), fill(SIZE, confidence), camera)


def test_a_step_of_a_quarter_of_the_picture_shows_each_pixel_two_columns_to_the_side():
    columns = torch.arange(8.0).expand(1, *SIZE)
    z, inside, there = look_up(wall(2.0), wall(2.0, x=0.5), columns)
    assert z.tolist() == [2.0] * 32
    assert inside.unflatten(0, SIZE)[0].tolist() == [False] * 2 + [True] * 6
    assert there.unflatten(1, SIZE)[0, 0, 2:].tolist() == [0, 1, 2, 3, 4, 5]


def test_what_is_behind_the_other_camera_is_not_inside():
    behind = torch.eye(4)
    behind[2, 3] = -3.0  # three units ahead, past the wall
    other = wall(2.0)
    ahead = DepthMap(other.image, other.depth, other.confidence, Camera(INTRINSICS, behind, SIZE))
    assert not look_up(wall(2.0), ahead, ahead.depth[None])[1].any()


@pytest.mark.parametrize(
    ("depth", "hides"), [(1.0, True), (1.9, True), (1.95, False), (2.0, False), (3.0, False)]
)
def test_a_point_in_front_of_a_surer_surface_contradicts_it(depth: float, hides: bool):
    assert contradicted(wall(depth, 0.4), wall(2.0, 0.6)).all() == hides
    assert contradicted(wall(depth, 0.4), wall(2.0, 0.6)).any() == hides


def test_a_surer_point_contradicts_nothing():
    assert not contradicted(wall(1.0, 0.6), wall(2.0, 0.4)).any()
    assert contradicted(wall(1.0, 0.4), wall(2.0, 0.6), margin=0.1).all()
    assert not contradicted(wall(1.0, 0.4), wall(2.0, 0.6), margin=0.3).any()


def test_only_what_the_other_view_shows_is_contradicted():
    found = contradicted(wall(1.0, 0.4), wall(2.0, 0.6, x=0.25))
    assert found[0].tolist() == [False] * 2 + [True] * 6


@pytest.mark.parametrize(
    ("depth", "seen"), [(1.0, True), (2.0, True), (2.05, True), (2.1, False), (3.0, False)]
)
def test_a_point_on_or_before_another_views_surface_is_covered(depth: float, seen: bool):
    assert covered(wall(depth), wall(2.0)).all() == seen
    assert covered(wall(depth), wall(2.0)).any() == seen
    assert covered(wall(1.0), wall(2.0, x=0.25))[0].tolist() == [False] * 2 + [True] * 6


def test_colors_agree_by_their_mean_difference_where_both_views_see():
    difference, share = photometric_agreement(wall(2.0, color=0.7), wall(2.0, x=0.5, color=0.4))
    assert difference == pytest.approx(0.3, abs=1e-6)
    assert share == 0.75
    hidden = photometric_agreement(wall(1.0), wall(2.0))
    assert hidden == (1.0, 0.0)
    assert math.isclose(photometric_agreement(wall(2.0), wall(2.05))[1], 1.0)
    assert photometric_agreement(wall(2.0), wall(2.1))[1] == 0
