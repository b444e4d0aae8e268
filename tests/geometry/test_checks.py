"""Cameras from files: one check, whatever wrote them."""

import pytest
import torch

from models.geometry.camera import Camera, from_pixels
from models.geometry.checks import check_camera, parse_matrix, parse_number, parse_size
from models.geometry.rigid import se3_exponential

SIZE = (480, 640)
K = [[500.0, 2.0, 300.0], [0, 510, 250], [0, 0, 1]]
POSE = se3_exponential(torch.tensor([1.0, -2, 300, 0.3, -0.2, 0.1], dtype=torch.float64))


def camera(intrinsics_px=K, world2cam=POSE) -> Camera:
    matrix = torch.tensor(intrinsics_px, dtype=torch.float64)
    return Camera(from_pixels(matrix, SIZE), world2cam, SIZE)


def changed(row: int, column: int, value: float) -> torch.Tensor:
    pose = POSE.clone()
    pose[row, column] = value
    return pose


def test_cameras_of_any_place_and_lens_pass():
    check_camera(camera())
    check_camera(camera().float())
    check_camera(camera([[100_000.0, 0, -3000], [0, 100_000, 9000], [0, 0, 1]]))  # a moon, cropped
    check_camera(camera(world2cam=changed(0, 3, 6.4e6)))  # from the center of the earth
    check_camera(camera(world2cam=changed(3, 3, 1 + 1e-7)))


@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("value", [1e300, float("nan"), float("inf"), -float("inf")])
def test_no_entry_of_the_intrinsics_may_be_beyond_use(row, column, value):
    rows = [list(numbers) for numbers in K]
    rows[row][column] = value
    with pytest.raises(ValueError, match="not a pinhole camera's"):
        check_camera(camera(rows))


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [(0, 0, 0), (1, 1, -500), (0, 0, 1e-9), (2, 2, 0), (1, 0, 3), (2, 0, 1)],
)
def test_a_matrix_that_is_no_pinhole_is_refused(row, column, value):
    rows = [list(numbers) for numbers in K]
    rows[row][column] = value
    with pytest.raises(ValueError, match="not a pinhole camera's"):
        check_camera(camera(rows))


@pytest.mark.parametrize(
    ("pose", "why"),
    [
        (changed(0, 0, float("nan")), "not finite"),
        (changed(1, 3, float("inf")), "not finite"),
        (changed(2, 3, 1e30), "too far away"),
        (changed(0, 0, 0.5), "rigid"),
        (changed(3, 3, 2), "rigid"),
        (changed(3, 0, 1), "rigid"),
        (POSE @ torch.diag(POSE.new_tensor([-1, 1, 1, 1])), "rigid"),
        (torch.zeros(4, 4, dtype=torch.float64), "rigid"),
    ],
)
def test_a_pose_that_is_no_rigid_motion_is_refused(pose, why):
    with pytest.raises(ValueError, match=why):
        check_camera(camera(world2cam=pose))


@pytest.mark.parametrize("value", [None, True, "1", [1], float("nan"), float("inf"), 10**400])
def test_only_finite_numbers_are_numbers(value):
    with pytest.raises(ValueError, match="not a finite number"):
        parse_number(value)
    with pytest.raises(ValueError, match="not a finite number"):
        parse_matrix([[1, 2], [3, value]], 2, 2)
    with pytest.raises(ValueError, match="not a finite number"):
        parse_size(640, value)


@pytest.mark.parametrize("rows", [3, "ab", [], [[1, 2]], [[1, 2], [3]], [[1, 2], None], [[[]]] * 2])
def test_rows_of_another_shape_are_no_matrix(rows):
    with pytest.raises(ValueError):
        parse_matrix(rows, 2, 2)


@pytest.mark.parametrize("side", [0, -1, 1.5, 2**16 + 1, 1e300])
def test_a_size_is_a_whole_number_of_pixels(side):
    assert parse_size(640.0, 480) == (480, 640)
    with pytest.raises(ValueError, match="size is"):
        parse_size(side, 480)
