"""Rigid motions, by hand and by the laws they obey."""

import math

import pytest
import torch

from models.geometry.rigid import (
    cross_matrix,
    from_wxyz,
    invert,
    look_at,
    nearest_rotation,
    rigid_motion,
    rotation_angle,
    se3_exponential,
    to_wxyz,
    transform_points,
)

MOTIONS = se3_exponential(torch.tensor([[0.1, -0.2, 0.3, 0.2, -0.3, 0.1], [1, 0, 2, 0.5, 1, -2]]))


def turn(angle: float, *axis: float) -> torch.Tensor:
    """Return the rotation by an angle about an axis."""
    unit = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float32), dim=0)
    return se3_exponential(torch.cat([torch.zeros(3), angle * unit]))[:3, :3]


def test_a_motion_and_its_inverse_cancel():
    torch.testing.assert_close(MOTIONS @ invert(MOTIONS), torch.eye(4).expand(2, 4, 4))
    kept = MOTIONS.clone()
    invert(MOTIONS)
    assert torch.equal(MOTIONS, kept)


def test_a_motion_rotates_then_translates():
    motion = rigid_motion(turn(math.pi / 2, 0, 0, 1), torch.tensor([1.0, 2, 3]))
    moved = transform_points(torch.tensor([[1.0, 0, 0], [0, 1, 0]]), motion)
    torch.testing.assert_close(moved, torch.tensor([[1.0, 3, 3], [0, 2, 3]]))
    assert motion[3].tolist() == [0, 0, 0, 1]
    both = transform_points(torch.zeros(2, 1, 3), MOTIONS)
    torch.testing.assert_close(both[:, 0], MOTIONS[:, :3, 3])


def test_a_cross_matrix_multiplies_as_the_cross_product():
    first, second = torch.randn(2, 5, 3)
    product = (cross_matrix(first) @ second[..., None])[..., 0]
    torch.testing.assert_close(product, torch.linalg.cross(first, second))


@pytest.mark.parametrize("axis", range(3))
def test_turns_follow_the_right_hand_about_every_axis(axis: int):
    before, after = torch.eye(3)[(axis + 1) % 3], torch.eye(3)[(axis + 2) % 3]
    rotation = turn(math.pi / 2, *torch.eye(3)[axis].tolist())
    torch.testing.assert_close(rotation @ before, after)


def test_a_twist_without_rotation_is_a_step_and_two_half_twists_are_the_whole():
    step = se3_exponential(torch.tensor([1.0, 2, 3, 0, 0, 0]))
    torch.testing.assert_close(step, rigid_motion(torch.eye(3), torch.tensor([1.0, 2, 3])))
    twist = torch.tensor([0.3, -0.2, 0.5, 0.4, 0.1, -0.6])
    half = se3_exponential(twist / 2)
    torch.testing.assert_close(half @ half, se3_exponential(twist))


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.7, math.pi / 2, 2.5, math.pi])
def test_the_angle_between_rotations_is_that_of_the_turn_between_them(angle: float):
    start = turn(1.1, 1, 2, 3)
    found = rotation_angle(start, start @ turn(angle, 0.3, -1, 0.2))
    assert found.item() == pytest.approx(angle, abs=2e-6)


def test_a_camera_looks_at_its_target_and_its_down_axis_is_near_down():
    position, target = torch.tensor([1.0, -2, 0.5]), torch.tensor([3.0, 0, 4])
    cam2world = look_at(position, target, torch.tensor([0.0, 1, 0]))
    torch.testing.assert_close(torch.linalg.det(cam2world[:3, :3]), torch.tensor(1.0))
    seen = transform_points(target[None], invert(cam2world))[0]
    torch.testing.assert_close(seen, torch.tensor([0.0, 0, (target - position).norm()]))
    right, down = cam2world[:3, 0], cam2world[:3, 1]
    assert right[1].abs() < 1e-6 and down[1] > 0.5  # level, and below in the picture is below
    ahead = look_at(torch.zeros(3), torch.tensor([0.0, 0, 5]), torch.tensor([0.0, 1, 0]))
    torch.testing.assert_close(ahead, torch.eye(4))


def test_quaternions_are_half_angles_about_axes_with_w_first():
    angle, axes = 0.8, torch.eye(3)
    for axis in axes:
        expected = torch.cat([torch.tensor([math.cos(angle / 2)]), math.sin(angle / 2) * axis])
        torch.testing.assert_close(to_wxyz(turn(angle, *axis.tolist())), expected)
        torch.testing.assert_close(from_wxyz(-3 * expected), turn(angle, *axis.tolist()))


@pytest.mark.parametrize("axis", [(1, 0.1, 0.2), (0.1, 1, -0.2), (-0.1, 0.2, 1)])
def test_a_quaternion_is_right_whichever_component_is_largest(axis: tuple[float, ...]):
    for angle in (0.5, 3.0, 4.0):
        rotation = turn(angle, *axis)
        wxyz = to_wxyz(rotation)
        torch.testing.assert_close(from_wxyz(wxyz), rotation)
        assert wxyz[0] >= 0


def test_a_stretched_rotation_has_itself_as_the_nearest():
    rotation = turn(1.2, 1, -2, 0.5)
    stretch = torch.diag(torch.tensor([3.0, 2.0, 0.5]))
    turned = turn(0.4, 1, 1, 0)
    torch.testing.assert_close(nearest_rotation(rotation @ turned @ stretch @ turned.T), rotation)


def test_the_rotation_nearest_to_a_mirror_is_no_mirror():
    mirrored = turn(0.6, 0, 1, 1) @ torch.diag(torch.tensor([1.0, 1.0, -0.1]))
    found = nearest_rotation(torch.stack([mirrored, mirrored]))
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(2))
    torch.testing.assert_close(found[0], turn(0.6, 0, 1, 1))  # giving up the shortest axis
