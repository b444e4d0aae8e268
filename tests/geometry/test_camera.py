"""Cameras, rotations and quaternions."""

import math

import pytest
import torch

from models.geometry.camera import Camera
from models.geometry.rigid import from_wxyz, se3_exponential, to_wxyz, twist_gradient

INTRINSICS = torch.tensor([[0.9, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]])


def rotations(angle: float, count: int = 50) -> torch.Tensor:
    axes = torch.nn.functional.normalize(torch.randn(count, 3, dtype=torch.float64), dim=-1)
    twist = torch.cat([torch.zeros_like(axes), angle * axes], dim=-1)
    return se3_exponential(twist)[:, :3, :3]


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1.0, math.pi - 1e-6, math.pi])
def test_a_rotation_survives_the_way_through_a_quaternion(angle: float):
    rotation = rotations(angle)
    wxyz = to_wxyz(rotation)
    torch.testing.assert_close(wxyz.norm(dim=-1), torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close(from_wxyz(wxyz), rotation, atol=1e-9, rtol=0)


def test_a_quarter_turn_about_the_down_axis_takes_forward_to_the_right():
    half = math.sqrt(0.5)
    turn = from_wxyz(torch.tensor([half, 0.0, half, 0.0]))
    torch.testing.assert_close(turn @ torch.tensor([0.0, 0, 1]), torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(to_wxyz(turn), torch.tensor([half, 0.0, half, 0.0]))


def test_the_gradient_by_a_twist_is_that_through_its_exponential():
    world2cam = se3_exponential(torch.randn(3, 6, dtype=torch.float64))
    weights = torch.randn(3, 4, 4, dtype=torch.float64)
    twist = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    moved = se3_exponential(twist) @ world2cam
    (expected,) = torch.autograd.grad((moved.sin() * weights).sum(), twist)
    found = twist_gradient(world2cam, world2cam.cos() * weights)
    torch.testing.assert_close(found, expected)


def test_a_wider_image_of_the_same_camera_keeps_the_width_and_cuts_the_height():
    framed = Camera(INTRINSICS, torch.eye(4), (300, 400)).framed((100, 400)).intrinsics
    torch.testing.assert_close(framed[0], INTRINSICS[0])
    corner = torch.tensor([0.0, 1 / 3])  # of the part kept, in the photo
    on_image = framed @ torch.linalg.inv(INTRINSICS) @ torch.cat([corner, torch.ones(1)])
    torch.testing.assert_close(on_image, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6, rtol=0)


def test_pixels_stay_square_whatever_the_shape_of_the_image():
    square = torch.tensor([[0.75, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])  # 400 x 300
    for height, width in [(100, 400), (400, 100), (300, 400)]:
        framed = Camera(square, torch.eye(4), (300, 400)).framed((height, width)).intrinsics
        assert framed[0, 0] * width == pytest.approx((framed[1, 1] * height).item(), rel=1e-6)
