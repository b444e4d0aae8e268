"""Looks from outside: everything fits, and what is left, far or near appears so."""

import torch

from models.geometry.rigid import invert
from models.overview import look_from_outside, nearness, spread

INTRINSICS = torch.tensor([[0.8, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]]).repeat(2, 1, 1)
SIZE = (300, 500)


def two_cameras(second: tuple[float, float, float]) -> torch.Tensor:
    cam2world = torch.eye(4).repeat(2, 1, 1)
    cam2world[1, :3, 3] = torch.tensor(second)
    return invert(cam2world)


def a_wall() -> torch.Tensor:
    return torch.rand(200, 3) * torch.tensor([4, 3, 0.5]) + torch.tensor([-2, -1.5, 5])


def test_from_straight_above_right_is_right_and_ahead_is_up():
    points = torch.tensor([[0.0, 0.0, 4.0], [-1.0, 3.0, 8.0], [1.0, -3.0, 8.0]])
    seen = look_from_outside(
        points, two_cameras((1.0, 0.0, 0.0)), INTRINSICS, SIZE, 4.0, above=True
    )
    (first, second), (near, left, right) = seen.frusta[:, 0], seen.points
    assert second[0] > first[0] and abs(second[1] - first[1]) < 1e-5
    assert near[1] < first[1] and left[0] < near[0]
    pixels = torch.tensor([SIZE[1], SIZE[0]])
    apart = ((second - first) * pixels).norm()  # a world unit; heights do not show
    torch.testing.assert_close(((right - left) * pixels).norm(), 2 * apart)


def test_from_aside_up_is_up():
    points = torch.cat([torch.tensor([[0.0, 0.0, 4.0], [0.0, -1.0, 4.0]]), a_wall()])
    seen = look_from_outside(points, two_cameras((0.5, 0.0, 0.0)), INTRINSICS, SIZE, 4.0)
    assert seen.points[1, 1] < seen.points[0, 1]


def test_cameras_and_nearly_all_points_fit():
    points = torch.cat([a_wall(), torch.tensor([[0.0, 0.0, 900.0]])])
    for above in (False, True):
        seen = look_from_outside(points, two_cameras((1, 0, 0)), INTRINSICS, SIZE, 4.0, above=above)
        assert ((seen.frusta > 0) & (seen.frusta < 1)).all()
        assert seen.points[:-1].isfinite().all(1).float().mean() > 0.9
        assert seen.points[-1].isnan().all()


def test_cameras_without_points_or_at_one_place_are_seen():
    nothing = torch.zeros(0, 3)
    for place in ((1.0, 0, 0), (0.0, 0, 0)):
        seen = look_from_outside(nothing, two_cameras(place), INTRINSICS, SIZE, 4.0)
        assert ((seen.frusta >= 0) & (seen.frusta <= 1)).all()
        assert (seen.frusta[0, 1] - seen.frusta[0, 3]).norm() > 0.1


def test_nearness_ranks_depths():
    depth = torch.tensor([3.0, 1.0, 1e9, 2.0])
    torch.testing.assert_close(nearness(depth), torch.tensor([1 / 3, 1, 0, 2 / 3]))
    assert nearness(torch.tensor([5.0])).tolist() == [1]


def test_spread_points_are_apart_in_every_photo():
    first = torch.rand(300, 2)
    second = torch.stack([first[:, 0], 0.1 * first[:, 1]], dim=1)  # squeezed there
    both = torch.stack([first, second])
    chosen = spread(both, 10, least=0.05)
    between = torch.cdist(both[:, chosen], both[:, chosen]) + torch.eye(len(chosen))
    assert len(chosen) >= 8 and between.min() > 0.05
    assert chosen[0] == (first - 0.5).norm(dim=1).argmin()


def test_spread_takes_no_more_than_there_are():
    assert len(spread(torch.rand(2, 3, 2), 10)) == 3
    assert len(spread(torch.zeros(2, 0, 2), 10)) == 0


def test_cameras_that_stayed_are_drawn_at_one_place():
    seen = look_from_outside(torch.zeros(0, 3), two_cameras((1e-4, 0, 0)), INTRINSICS, SIZE, 4.0)
    assert (seen.frusta[0] - seen.frusta[1]).abs().max() < 1e-3
