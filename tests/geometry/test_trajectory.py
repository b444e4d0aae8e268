"""Camera paths: loops without a seam that keep their eyes on the scene."""

import math
from dataclasses import replace

import pytest
import torch

from models.geometry.camera import Camera, stack_cameras
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import invert, rotation_angle, se3_exponential
from models.geometry.trajectory import (
    dolly,
    guess_camera,
    interpolate,
    mean_camera,
    orbit,
    orbit_amplitude_deg,
    scene_center,
    spiral,
    video_size,
    wiggle,
)

INTRINSICS = torch.tensor([[0.9, 0.0, 0.48], [0.0, 1.2, 0.53], [0.0, 0.0, 1.0]])
CENTER = torch.tensor([0.1, -0.05, 2.0])


SIZE = (300, 400)


def two_cameras() -> Camera:
    """The world's own camera, and one to its right that is turned inwards and rolled."""
    second = se3_exponential(torch.tensor([-0.5, 0.05, 0.1, 0.02, -0.3, 0.1]))
    return camera_batch(torch.eye(4), second)


def cloud(count: int = 500) -> Gaussians:
    means = torch.rand(count, 3) * torch.tensor([2.0, 1.5, 1.0]) + torch.tensor([-1, -0.75, 1.5])
    return Gaussians(
        means=means,
        scales=torch.full((count, 3), 0.01),
        rotations=torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        harmonics=torch.zeros(count, 3, 1),
        opacities=torch.full((count,), 0.9),
    )


def camera_batch(*poses: torch.Tensor) -> Camera:
    return stack_cameras([Camera(INTRINSICS, pose, SIZE) for pose in poses])


PATHS = [orbit, wiggle, dolly, spiral, interpolate]


@pytest.mark.parametrize("path", PATHS)
def test_the_step_over_the_seam_is_as_small_as_the_steps_beside_it(path):
    moved = path(two_cameras(), CENTER, 120).center
    steps = (moved - moved.roll(1, 0)).norm(dim=-1)
    assert 0 < steps.max() < 0.06
    assert steps[0] <= 1.1 * max(steps[1], steps[-1])


@pytest.mark.parametrize("path", PATHS)
def test_every_frame_is_a_rigid_motion(path):
    rotation = path(two_cameras(), CENTER, 9).world2cam[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(9, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(9))


@pytest.mark.parametrize("path", PATHS[:-1])
def test_the_center_stays_at_one_place_of_the_picture(path):
    cameras = path(two_cameras(), CENTER, 12)
    coordinates, depth = cameras.project(CENTER.expand(12, 1, 3))
    torch.testing.assert_close(coordinates, coordinates[:1].expand_as(coordinates))
    if path in (orbit, wiggle):
        torch.testing.assert_close(depth, depth[:1].expand_as(depth))


def test_a_dolly_goes_straight_in_then_out_and_does_not_turn():
    cameras = two_cameras()
    path = dolly(cameras, CENTER, 40, 0.3)
    mean = mean_camera(cameras).world2cam
    torch.testing.assert_close(path.world2cam[0], mean)
    torch.testing.assert_close(path.world2cam[:, :3, :3], mean[:3, :3].expand(40, 3, 3))
    arms = path.center - CENTER
    torch.testing.assert_close(arms[10], 0.7 * arms[0])
    torch.testing.assert_close(arms[30], 1.3 * arms[0])


def test_a_spiral_circles_twice_while_it_goes_in_and_out_once():
    path = spiral(camera_batch(torch.eye(4)), torch.tensor([0.0, 0.0, 2.0]), 80, 4.0)
    place = path.center
    aside = place[:, 0]
    assert int(((aside > 1e-5) & (aside.roll(1) <= 1e-5)).sum()) == 2
    distances = (place - torch.tensor([0.0, 0.0, 2.0])).norm(dim=-1)
    assert distances[20].item() == pytest.approx(1.8) and distances[60].item() == pytest.approx(2.2)
    assert (aside / distances).max().item() == pytest.approx(math.sin(math.radians(4)), abs=1e-4)


def test_an_orbit_starts_at_the_mean_camera_and_goes_right_first():
    cameras = two_cameras()
    path = orbit(cameras, CENTER, 40)
    mean = mean_camera(cameras).world2cam
    torch.testing.assert_close(path.world2cam[0], mean)
    in_mean = mean @ invert(path.world2cam)
    assert in_mean[10, 0, 3] > 0.1 and in_mean[30, 0, 3] < -0.1


def test_an_orbit_swings_as_far_as_it_is_told():
    path = orbit(camera_batch(torch.eye(4)), torch.tensor([0.0, 0.0, 2.0]), 40, 20.0)
    rays = path.center - torch.tensor([0.0, 0.0, 2.0])
    angle = torch.atan2(rays[:, 0], -rays[:, 2])
    assert angle.max().item() == pytest.approx(math.radians(20), abs=1e-4)
    assert angle.min().item() == pytest.approx(math.radians(-20), abs=1e-4)


def test_interpolation_passes_through_the_cameras():
    third = se3_exponential(torch.tensor([0.4, 0.0, 0.0, 0.0, 0.2, -0.1]))
    poses = torch.cat([two_cameras().world2cam, third[None]])
    intrinsics = torch.stack([INTRINSICS, 1.1 * INTRINSICS, 1.2 * INTRINSICS])
    path = interpolate(Camera(intrinsics, poses, SIZE), CENTER, 40)
    torch.testing.assert_close(path.world2cam[[0, 10, 20, 30]], poses[[0, 1, 2, 1]])
    torch.testing.assert_close(path.intrinsics[[0, 10, 20, 30]], intrinsics[[0, 1, 2, 1]])


def test_interpolation_keeps_the_center_between_where_the_two_photos_have_it():
    cameras = two_cameras()
    path = interpolate(cameras, CENTER, 30)
    seen = (path.world2cam[:, :3, :3] @ CENTER) + path.world2cam[:, :3, 3]
    low, high = seen[[0, 15]].min(dim=0).values, seen[[0, 15]].max(dim=0).values
    assert ((seen >= low - 1e-5) & (seen <= high + 1e-5)).all()


def test_half_way_between_two_cameras_is_half_of_the_turn():
    cameras = two_cameras()
    path = interpolate(cameras, CENTER, 4)
    whole = rotation_angle(*cameras.world2cam[:, :3, :3])
    half = rotation_angle(cameras.world2cam[0, :3, :3], path.world2cam[1, :3, :3])
    torch.testing.assert_close(half, whole / 2)


@pytest.mark.parametrize("turn", [0.0, 1e-5, math.pi - 1e-3])
def test_interpolation_survives_cameras_that_are_equal_or_opposite(turn: float):
    second = se3_exponential(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, turn]))
    path = interpolate(camera_batch(torch.eye(4), second), CENTER, 8)
    assert path.world2cam.isfinite().all()
    torch.testing.assert_close(path.world2cam[4], second, atol=1e-5, rtol=0)


def test_the_center_lies_in_the_line_of_sight_at_the_median_depth():
    scene = cloud()
    center = scene_center(scene, camera_batch(torch.eye(4)))
    torch.testing.assert_close(center[:2], torch.zeros(2))
    assert center[2] == scene.means[:, 2].median()


def test_the_center_of_an_empty_scene_is_in_front_of_the_camera():
    nothing = cloud().select(torch.zeros(500, dtype=torch.bool))
    assert scene_center(nothing, camera_batch(torch.eye(4))).tolist() == [0, 0, 1]


def test_a_foreign_scene_in_front_of_the_origin_is_seen_from_the_origin():
    camera = guess_camera(cloud())
    assert torch.equal(camera.world2cam, torch.eye(4))
    assert 2 * math.degrees(math.atan(0.5 / camera.intrinsics[0, 0])) == pytest.approx(60)


def test_a_foreign_scene_behind_the_origin_is_framed_whole():
    scene = cloud()
    behind = replace(scene, means=scene.means * 50 - 200)
    coordinates, depth = guess_camera(behind).project(behind.means)
    inside = (depth > 0) & ((coordinates - 0.5).abs() < 0.5).all(dim=-1)
    assert inside.float().mean() > 0.9


@pytest.mark.parametrize(
    ("photo", "video"),
    [((3024, 4032), (576, 768)), ((4032, 3024), (768, 576)), ((9, 2001), (4, 768))],
)
def test_a_video_has_the_shape_of_the_photo_and_even_sides(photo, video):
    assert video_size(photo) == video


@pytest.mark.parametrize(("baseline", "expected"), [(0.02, 6.0), (0.35, 10.0), (3.0, 15.0)])
def test_photos_that_are_further_apart_allow_a_wider_orbit(baseline: float, expected: float):
    second = torch.eye(4)
    second[0, 3] = -baseline
    cameras = camera_batch(torch.eye(4), second)
    path = orbit(cameras, torch.tensor([baseline / 2, 0.0, 4.0]), 40)
    forward = path.world2cam[:, 2, :3]
    turned = torch.rad2deg(torch.acos((forward @ forward[0]).clamp(-1, 1)))
    assert turned.max() == pytest.approx(expected, abs=0.6)


AHEAD = torch.tensor([0.0, 0.0, 2.0])


def angles_around_deg(path: Camera) -> torch.Tensor:
    """How far right and down of the first camera's axis each frame is, as seen from AHEAD."""
    arms = path.center - AHEAD
    right = torch.atan2(arms[:, 0], -arms[:, 2])
    down = torch.asin(arms[:, 1] / arms.norm(dim=-1))
    return torch.rad2deg(torch.stack([right, down], dim=-1))


def test_a_wiggle_is_a_circle_of_two_and_a_half_degrees():
    around = angles_around_deg(wiggle(camera_batch(torch.eye(4)), AHEAD, 40))
    torch.testing.assert_close(around.norm(dim=-1), torch.full((40,), 2.5), atol=0.01, rtol=0)
    assert around[0].tolist() == pytest.approx([0, 2.5], abs=0.01)
    assert around[10].tolist() == pytest.approx([2.5, 0], abs=0.01)


def test_an_orbit_is_a_flat_figure_of_eight():
    around = angles_around_deg(orbit(camera_batch(torch.eye(4)), AHEAD, 80, 8.0))
    corners = around[[10, 30, 50, 70]]
    side = 8 * math.sqrt(0.5)
    expected = torch.tensor([[side, 2], [side, -2], [-side, 2], [-side, -2]])
    torch.testing.assert_close(corners, expected, atol=0.05, rtol=0)


def test_one_photo_allows_fifteen_degrees_and_its_spiral_half_of_them():
    single = camera_batch(torch.eye(4))
    assert orbit_amplitude_deg(single, AHEAD) == 15
    orbiting = angles_around_deg(orbit(single, AHEAD, 80)).max(dim=0).values
    assert orbiting.tolist() == pytest.approx([15, 3.75], abs=0.2)
    spiraling = angles_around_deg(spiral(single, AHEAD, 80)).max(dim=0).values
    assert spiraling.tolist() == pytest.approx([7.5, 3.75], abs=0.1)


def test_a_dolly_goes_a_fifth_of_the_way_by_default():
    distances = (dolly(camera_batch(torch.eye(4)), AHEAD, 40).center - AHEAD).norm(dim=-1)
    assert distances[[0, 10, 30]].tolist() == pytest.approx([2, 1.6, 2.4])


def test_interpolation_starts_slowly_and_turns_in_step_with_its_way():
    sideways = se3_exponential(torch.tensor([0.0, 0, 0, 0, 0.4, 0]))
    sideways[0, 3] = -1.0
    path = interpolate(camera_batch(torch.eye(4), sideways), torch.zeros(3), 8)
    share = (1 - math.cos(math.pi / 4)) / 2  # of the way after a quarter of the time
    turned = rotation_angle(torch.eye(3), path.world2cam[1, :3, :3])
    assert turned.item() == pytest.approx(0.4 * share, rel=1e-3)
    assert path.world2cam[1, 0, 3].item() == pytest.approx(-share)


def test_interpolation_turns_the_short_way_round():
    turns = [se3_exponential(torch.tensor([0, 0, 0, 0, 0, each])) for each in (-1.5, 2.5)]
    path = interpolate(camera_batch(*turns), CENTER, 4)
    half = rotation_angle(turns[0][:3, :3], path.world2cam[1, :3, :3])
    assert half.item() == pytest.approx((2 * math.pi - 4) / 2, rel=1e-4)


def test_one_camera_stays_where_it_is():
    path = interpolate(camera_batch(torch.eye(4)), CENTER, 5)
    torch.testing.assert_close(path.world2cam, torch.eye(4).expand(5, 4, 4))


def test_the_mean_camera_is_half_way_and_shaped_as_the_first():
    turns = [se3_exponential(torch.tensor([0, 0, 0, 0, each, 0])) for each in (0.1, 0.5)]
    turns[1][0, 3] = 1.0
    mean = mean_camera(camera_batch(*turns))
    turned = rotation_angle(turns[0][:3, :3], mean.world2cam[:3, :3])
    assert turned.item() == pytest.approx(0.2, abs=1e-4)
    centers = camera_batch(*turns).center
    torch.testing.assert_close(mean.center, centers.mean(dim=0))
    assert mean.size == SIZE and torch.equal(mean.intrinsics, INTRINSICS)


def test_the_center_does_not_count_what_is_faint_or_behind():
    scene = cloud(5)
    z = torch.tensor([-4.0, 2.0, 3.0, 4.0, 50.0])
    means = torch.stack([torch.zeros(5), torch.zeros(5), z], dim=-1)
    opacities = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.09])
    scene = replace(scene, means=means, opacities=opacities)
    assert scene_center(scene, camera_batch(torch.eye(4))).tolist() == [0, 0, 3]


def at(*points: tuple[float, float, float]) -> Gaussians:
    return replace(cloud(len(points)), means=torch.tensor(points))


def test_half_of_a_scene_in_view_is_enough():
    inside, above, beside, behind = (0, 0, 5.0), (0, -4.0, 5), (4.0, 0, 5), (0, 0, -5.0)
    for outside in (above, beside, behind):
        assert torch.equal(guess_camera(at(inside, outside)).world2cam, torch.eye(4))
        moved = guess_camera(at(inside, outside, outside)).world2cam
        assert not torch.equal(moved, torch.eye(4))
    camera = guess_camera(at(inside).select(torch.tensor([False])))
    assert torch.equal(camera.world2cam, torch.eye(4))


def test_a_guessed_camera_has_square_pixels_and_looks_along_z():
    camera = guess_camera(at((0, 0, -5.0)))
    assert camera.intrinsics_px[0, 0].item() == pytest.approx(camera.intrinsics_px[1, 1].item())
    assert camera.intrinsics[:2, 2].tolist() == [0.5, 0.5]
    torch.testing.assert_close(camera.world2cam[:3, :3], torch.eye(3))
    points = [(x, y, -9.0) for x in (-1.0, 1.0) for y in (-1.0, 1.0)] + [(0, 0, -9.0)]
    camera = guess_camera(at(*points))
    coordinates, depth = camera.project(torch.tensor(points))
    assert (depth > 0).all()
    torch.testing.assert_close(coordinates.mean(0), torch.tensor([0.5, 0.5]))
    half_fov = math.atan(0.5 / camera.intrinsics[1, 1].item())  # touches a ball around the scene
    distance = -9 - camera.center[2].item()
    assert distance * math.sin(half_fov) == pytest.approx(math.sqrt(2), rel=1e-4)
