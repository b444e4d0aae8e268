import math

import pytest
import torch

from models.geometry.camera import Camera
from models.geometry.rigid import se3_exponential
from models.metrics.errors import pose_error
from models.pose import pnp
from models.pose.pnp import pose_from_centers

WORLD2CAM = se3_exponential(torch.tensor([0.4, -0.2, 0.3, 0.1, -0.3, 0.2]))
LANDSCAPE, PORTRAIT = (48, 64), (64, 48)


def intrinsics_for(size: tuple[int, int], x: float = 0.5, y: float = 0.5) -> torch.Tensor:
    height, width = size
    return torch.tensor([[1.1, 0, x], [0, 1.1 * width / height, y], [0, 0, 1]])


INTRINSICS = intrinsics_for(LANDSCAPE)


def centers_of(size: tuple[int, int], intrinsics: torch.Tensor) -> torch.Tensor:
    """Exact centers of a bumpy surface seen by `WORLD2CAM`."""
    depth = 3 + torch.rand(size) + torch.linspace(0, 2, size[1])
    return Camera(intrinsics, WORLD2CAM, size).unproject(depth)


@pytest.mark.parametrize("size", [LANDSCAPE, PORTRAIT])
@pytest.mark.parametrize("principal_point", [(0.5, 0.5), (0.37, 0.56)])
def test_exact_centers_give_the_exact_pose(size, principal_point):
    intrinsics = intrinsics_for(size, *principal_point)

    pose = pose_from_centers(centers_of(size, intrinsics), torch.ones(size), intrinsics)

    torch.testing.assert_close(pose.world2cam, WORLD2CAM, atol=1e-5, rtol=0)
    assert pose.inliers == size[0] * size[1]
    assert pose.inlier_ratio == 1


@pytest.mark.parametrize("size", [LANDSCAPE, PORTRAIT])
def test_noise_and_four_outliers_in_ten_cost_little(size):
    intrinsics = intrinsics_for(size)
    centers = centers_of(size, intrinsics) + 0.01 * torch.randn(*size, 3)
    wrong = torch.rand(size) < 0.4
    centers[wrong] = 3 * torch.randn(int(wrong.sum()), 3)

    pose = pose_from_centers(centers, torch.ones(size), intrinsics)

    error = pose_error(pose.world2cam, WORLD2CAM)
    assert error.rotation_deg < 0.3
    assert error.translation_deg < 2
    assert 0.5 < pose.inlier_ratio < 0.65


def test_a_pixels_ray_goes_through_its_middle():
    centers = centers_of(LANDSCAPE, INTRINSICS)
    shifted = INTRINSICS.clone()
    shifted[:2, 2] -= 0.5 / torch.tensor([LANDSCAPE[1], LANDSCAPE[0]])  # as if corners were seen

    right = pose_from_centers(centers, torch.ones(LANDSCAPE), INTRINSICS)
    wrong = pose_from_centers(centers, torch.ones(LANDSCAPE), shifted)

    assert pose_error(right.world2cam, WORLD2CAM).rotation_deg < 1e-3
    assert pose_error(wrong.world2cam, WORLD2CAM).rotation_deg > 0.1


def test_faint_and_unknown_centers_do_not_count():
    centers = centers_of(LANDSCAPE, INTRINSICS)
    opacities = torch.ones(LANDSCAPE)
    centers[:24] = torch.randn(24, 64, 3)
    opacities[:24] = 0.29
    centers[24, 0] = math.nan
    centers[24, 1] = math.inf

    pose = pose_from_centers(centers, opacities, INTRINSICS)

    assert pose.inliers == 24 * 64 - 2
    assert pose.inlier_ratio == 1


def test_the_same_centers_give_the_same_pose():
    centers = centers_of(LANDSCAPE, INTRINSICS) + 0.1 * torch.randn(*LANDSCAPE, 3)
    first, second = (
        pose_from_centers(centers, torch.ones(LANDSCAPE), INTRINSICS) for _ in range(2)
    )
    assert torch.equal(first.world2cam, second.world2cam)


ON_A_POINT, UNKNOWN = torch.full((*LANDSCAPE, 3), 2.0), torch.full((*LANDSCAPE, 3), math.nan)
ON_A_LINE = torch.linspace(0, 1, 48 * 64).view(*LANDSCAPE, 1) * torch.tensor([1.0, 2, 3]) + 1


@pytest.mark.parametrize("centers", [ON_A_POINT, ON_A_LINE, UNKNOWN], ids=["point", "line", "nan"])
def test_centers_that_determine_no_pose_give_none(centers):
    assert pose_from_centers(centers, torch.ones(LANDSCAPE), INTRINSICS) is None


def test_centers_that_agree_on_nothing_give_none_or_few_inliers():
    centers = 1e3 * torch.randn(*LANDSCAPE, 3)
    pose = pose_from_centers(centers, torch.ones(LANDSCAPE), INTRINSICS)
    assert pose is None or pose.inlier_ratio < 0.05


def test_a_scene_too_faint_to_see_has_no_pose():
    centers = centers_of(LANDSCAPE, INTRINSICS)
    assert pose_from_centers(centers, torch.full(LANDSCAPE, 0.2), INTRINSICS) is None


@pytest.mark.parametrize(("share", "is_inlier"), [(0.93, True), (1.07, False)])
@pytest.mark.parametrize("size", [LANDSCAPE, PORTRAIT])
def test_an_inlier_is_off_by_five_of_256_parts_of_the_longer_side(size, share, is_inlier: bool):
    intrinsics = intrinsics_for(size)
    centers = centers_of(size, intrinsics)
    camera = Camera(intrinsics, WORLD2CAM, size)
    depth = camera.project(centers.flatten(0, 1))[1].view(size)
    off = share * 5 / 256 * depth / 1.1 * (max(size) / size[1])  # in widths of the image
    right = WORLD2CAM[0, :3]  # the camera's x axis in the world
    moved = torch.zeros(size)
    moved[10:40:10, 10:40:10] = 1
    moved[10:40:20] *= -1
    pose = pose_from_centers(
        centers + (moved * off)[..., None] * right, torch.ones(size), intrinsics
    )
    assert size[0] * size[1] - pose.inliers == (0 if is_inlier else 9)


def test_a_flat_wall_determines_a_pose():
    camera = Camera(INTRINSICS, WORLD2CAM, LANDSCAPE)
    wall = camera.unproject(torch.full(LANDSCAPE, 3.0))
    pose = pose_from_centers(wall, torch.ones(LANDSCAPE), INTRINSICS)
    torch.testing.assert_close(pose.world2cam, WORLD2CAM, atol=1e-4, rtol=0)


def test_points_behind_the_camera_are_no_inliers():
    ray = torch.tensor([0.1, 0.2, 1.0], dtype=torch.float64)
    points = torch.stack([2 * ray, -0.5 * ray, -2 * ray])
    intrinsics_px = torch.diag(torch.tensor([50.0, 50.0, 1.0], dtype=torch.float64))
    pixels = torch.tensor([[5.0, 10.0]], dtype=torch.float64).expand(3, 2)
    found = pnp._inliers(points, pixels, torch.eye(4, dtype=torch.float64), intrinsics_px, 1.0)
    assert found.tolist() == [True, False, False]


def test_five_centers_are_too_few():
    opacities = torch.zeros(LANDSCAPE)
    opacities[::10, ::20] = 1
    opacities[20:, :] = 0
    centers = centers_of(LANDSCAPE, INTRINSICS)
    assert (opacities > 0).sum() == 8
    assert pose_from_centers(centers, opacities, INTRINSICS) is not None
    opacities[0] = 0
    opacities[10, 20:] = 1
    opacities[10, 22:] = 0
    assert pose_from_centers(centers, opacities, INTRINSICS) is None


def test_a_row_of_pixels_on_a_wall_is_a_line_that_a_camera_may_turn_about():
    camera = Camera(INTRINSICS, WORLD2CAM, LANDSCAPE)
    wall, opacities = camera.unproject(torch.full(LANDSCAPE, 3.0)), torch.zeros(LANDSCAPE)
    opacities[10] = 1
    assert pose_from_centers(wall, opacities, INTRINSICS) is None
    opacities[30] = 1
    assert pose_from_centers(wall, opacities, INTRINSICS) is not None
