"""Cameras, rotations and quaternions."""

import math

import pytest
import torch

from models.geometry.camera import (
    Camera,
    camera_rays,
    from_pixels,
    pixel_grid,
    project,
    stack_cameras,
    with_poses,
)
from models.geometry.rigid import from_wxyz, se3_exponential, to_wxyz, twist_gradient

INTRINSICS = torch.tensor([[0.9, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]])
POSES = se3_exponential(torch.tensor([[0.1, -0.2, 0.3, 0.2, -0.3, 0.1], [0, 0.1, 0, 0.1, 0.2, 0]]))


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


def test_pixel_centers_are_half_a_pixel_from_the_borders():
    grid = pixel_grid((2, 4), torch.zeros(1))
    assert grid[0, :, 0].tolist() == [0.125, 0.375, 0.625, 0.875]
    assert grid[:, 0, 1].tolist() == [0.25, 0.75]
    assert grid.shape == (2, 4, 2)
    assert pixel_grid((2, 4), torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


def test_an_image_is_symmetric_about_its_principal_ray():
    centered = torch.tensor([[0.9, 0.0, 0.5], [0.0, 1.2, 0.5], [0.0, 0.0, 1.0]])
    rays = camera_rays(centered, (5, 7))
    assert rays[2, 3].tolist() == [0, 0, 1]
    turned = rays.flip(0, 1) * torch.tensor([-1.0, -1.0, 1.0])
    torch.testing.assert_close(turned, rays)
    assert (rays[:, 0, 0] < 0).all() and (rays[0, :, 1] < 0).all()  # left, and above
    assert rays[0, 0, 0] == pytest.approx((0.5 / 7 - 0.5) / 0.9)
    assert rays[0, 0, 1] == pytest.approx((0.5 / 5 - 0.5) / 1.2)


def test_what_a_pixel_sees_projects_to_the_pixels_center():
    size = (3, 4)
    cameras = Camera(INTRINSICS.expand(2, 3, 3), POSES, size)
    depth = torch.rand(2, *size) + 2
    points = cameras.unproject(depth)
    coordinates, z = cameras.project(points.flatten(1, 2))
    expected = pixel_grid(size, depth).flatten(0, 1).expand(2, -1, 2)
    torch.testing.assert_close(coordinates, expected)
    torch.testing.assert_close(z, depth.flatten(1))
    for index, camera in enumerate(cameras):
        torch.testing.assert_close(camera.unproject(depth[index]), points[index])


def test_rays_through_pixel_centers_are_the_cameras_rays():
    size = (3, 4)
    grid = pixel_grid(size, INTRINSICS).flatten(0, 1)
    rays = Camera(INTRINSICS, POSES[0], size).rays_at(grid)
    torch.testing.assert_close(rays, camera_rays(INTRINSICS, size).flatten(0, 1))


def test_a_camera_sees_its_own_center_at_its_origin():
    camera = Camera(INTRINSICS, POSES[0], (3, 4))
    at_center = camera.world2cam[:3, :3] @ camera.center + camera.world2cam[:3, 3]
    torch.testing.assert_close(at_center, torch.zeros(3), atol=1e-6, rtol=0)
    assert camera.center.norm() > 0.1


def test_a_window_shows_a_point_closer_to_its_corner_by_the_windows_own():
    camera = Camera(INTRINSICS, torch.eye(4), (300, 400))
    for top, left, size in ((30, 100, (120, 160)), (-10, -20, (320, 440))):
        window = camera.cropped(top, left, size)
        point = torch.tensor([[0.2, -0.1, 1.5]])
        whole, _ = camera.project(point)
        part, _ = window.project(point)
        moved = part[0] * torch.tensor(size[::-1]) - whole[0] * torch.tensor([400, 300])
        torch.testing.assert_close(moved, torch.tensor([-left, -top]).float())
        assert window.size == size


def test_intrinsics_in_pixels_scale_columns_by_width_and_rows_by_height():
    camera = Camera(INTRINSICS, torch.eye(4), (300, 400))
    expected = torch.tensor([[360, 0, 192], [0, 360, 159], [0, 0, 1]]).float()
    torch.testing.assert_close(camera.intrinsics_px, expected)
    torch.testing.assert_close(from_pixels(expected, (300, 400)), INTRINSICS)


def test_a_batch_of_cameras_is_a_sequence():
    first, second = (Camera(INTRINSICS, pose, (3, 4), focal_group=7) for pose in POSES)
    both = stack_cameras([first, second])
    assert len(both) == 2 and both.size == (3, 4) and both.focal_group is None
    assert [torch.equal(each.world2cam, pose) for each, pose in zip(both, POSES, strict=True)]
    assert torch.equal(both[1].world2cam, second.world2cam) and len(first[None]) == 1
    with pytest.raises(ValueError, match="one size"):
        stack_cameras([first, second.resized((4, 3))])
    moved = with_poses([first, second.resized((4, 3))], POSES.flip(0))
    assert torch.equal(moved[1].world2cam, POSES[0]) and moved[1].size == (4, 3)
    assert moved[0].focal_group == 7
    assert first.to(torch.device("meta")).world2cam.device.type == "meta"


def test_pixels_are_projected_to_where_intrinsics_are_in_pixels():
    camera = Camera(INTRINSICS, POSES[0], (300, 400))
    points = torch.tensor([[0.3, -0.2, 2.5]])
    at_px, _ = project(points, camera.world2cam, camera.intrinsics_px)
    torch.testing.assert_close(at_px, camera.project(points)[0] * torch.tensor([400.0, 300.0]))
