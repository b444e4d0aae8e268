import math

import pytest
import torch

from models.geometry.camera import Camera, unproject
from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from models.geometry.rigid import invert, rotation_angle, se3_exponential
from models.metrics.errors import pose_error, psnr
from models.metrics.lpips import Lpips
from models.pose.photometric import align_pose, pose_from_centers, thin
from models.render import render

WORLD2CAM = se3_exponential(torch.tensor([0.4, -0.2, 0.3, 0.1, -0.3, 0.2]))
LANDSCAPE, PORTRAIT = (48, 64), (64, 48)


def intrinsics_for(size: tuple[int, int], x: float = 0.5, y: float = 0.5) -> torch.Tensor:
    height, width = size
    return torch.tensor([[1.1, 0, x], [0, 1.1 * width / height, y], [0, 0, 1]])


def centers_of(size: tuple[int, int], intrinsics: torch.Tensor) -> torch.Tensor:
    """What a perfect network would predict for a bumpy slope seen by `WORLD2CAM`."""
    depth = 3 + torch.rand(size) + torch.linspace(0, 2, size[1])
    return unproject(depth, invert(WORLD2CAM), intrinsics)


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
    intrinsics = intrinsics_for(LANDSCAPE)
    centers = centers_of(LANDSCAPE, intrinsics)
    shifted = intrinsics.clone()
    shifted[:2, 2] -= 0.5 / torch.tensor([LANDSCAPE[1], LANDSCAPE[0]])  # as if corners were seen

    right = pose_from_centers(centers, torch.ones(LANDSCAPE), intrinsics)
    wrong = pose_from_centers(centers, torch.ones(LANDSCAPE), shifted)

    assert pose_error(right.world2cam, WORLD2CAM).rotation_deg < 1e-3
    assert pose_error(wrong.world2cam, WORLD2CAM).rotation_deg > 0.1


def test_faint_and_unknown_centers_do_not_count():
    intrinsics = intrinsics_for(LANDSCAPE)
    centers = centers_of(LANDSCAPE, intrinsics)
    opacities = torch.ones(LANDSCAPE)
    centers[:24] = torch.randn(24, 64, 3)
    opacities[:24] = 0.29
    centers[24, 0] = math.nan
    centers[24, 1] = math.inf

    pose = pose_from_centers(centers, opacities, intrinsics)

    assert pose.inliers == 24 * 64 - 2
    assert pose.inlier_ratio == 1


def test_the_same_centers_give_the_same_pose():
    intrinsics = intrinsics_for(LANDSCAPE)
    centers = centers_of(LANDSCAPE, intrinsics) + 0.1 * torch.randn(*LANDSCAPE, 3)

    first = pose_from_centers(centers, torch.ones(LANDSCAPE), intrinsics)
    second = pose_from_centers(centers, torch.ones(LANDSCAPE), intrinsics)

    assert torch.equal(first.world2cam, second.world2cam)


def on_a_point() -> torch.Tensor:
    return torch.full((*LANDSCAPE, 3), 2.0)


def on_a_line() -> torch.Tensor:
    return torch.rand(*LANDSCAPE, 1) * torch.tensor([1.0, 2, 3]) + 1


def unknown() -> torch.Tensor:
    return torch.full((*LANDSCAPE, 3), math.nan)


def random() -> torch.Tensor:
    return 1e3 * torch.randn(*LANDSCAPE, 3)


@pytest.mark.parametrize("centers", [on_a_point, on_a_line, unknown])
def test_centers_that_determine_no_pose_give_none(centers):
    assert pose_from_centers(centers(), torch.ones(LANDSCAPE), intrinsics_for(LANDSCAPE)) is None


def test_centers_that_agree_on_nothing_give_none_or_few_inliers():
    pose = pose_from_centers(random(), torch.ones(LANDSCAPE), intrinsics_for(LANDSCAPE))
    assert pose is None or pose.inlier_ratio < 0.05


def test_a_scene_too_faint_to_see_has_no_pose():
    intrinsics = intrinsics_for(LANDSCAPE)
    centers = centers_of(LANDSCAPE, intrinsics)
    assert pose_from_centers(centers, torch.full(LANDSCAPE, 0.2), intrinsics) is None


def test_alignment_moves_a_camera_until_it_sees_the_photo(tiny_scene):
    size = (96, 128)
    intrinsics = intrinsics_for(size)
    true = se3_exponential(torch.tensor([0.1, 0.05, -0.1, 0.02, -0.03, 0.05]))
    photo = render(tiny_scene, Camera(intrinsics, true, size)).color
    moved = se3_exponential(torch.tensor([0.03, -0.02, 0.02, -0.02, 0.02, 0.02])) @ true

    found = align_pose(tiny_scene, moved, intrinsics, photo, steps=(25, 15, 0))

    before, after = (
        psnr(render(tiny_scene, Camera(intrinsics, pose, size)).color, photo)
        for pose in (moved, found)
    )
    assert before < 16
    assert after > 24


def bumpy_scene() -> Gaussians:
    """One Gaussian per pixel of a wide picture of a textured relief, about three units away."""
    size = (54, 72)
    wide = intrinsics_for(size) * torch.tensor([0.65, 0.65, 1.0])[:, None]
    wide[:2, 2] = 0.5

    def noise(cells: int) -> torch.Tensor:
        coarse = torch.rand(1, 4, cells, cells)
        return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0]

    texture = (0.45 * noise(4) + 0.3 * noise(9) + 0.25 * noise(24))[:3].clamp(0, 1)
    depth = 2 + 2 * noise(5)[3]
    count = size[0] * size[1]
    return Gaussians(
        means=unproject(depth, torch.eye(4), wide).flatten(0, 1),
        scales=(depth.flatten()[:, None] / size[1]).repeat(1, 3),
        rotations=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        harmonics=((texture.flatten(1).T - 0.5) / SH_DEGREE_0)[:, :, None],
        opacities=torch.full((count,), 0.95),
    )


@pytest.mark.parametrize("seed", range(3))
def test_alignment_undoes_ten_degrees_and_a_tenth_of_the_depth(seed):
    torch.manual_seed(seed)
    scene, size = bumpy_scene(), (72, 96)
    intrinsics = intrinsics_for(size)
    true = se3_exponential(torch.cat([0.1 * torch.randn(3), 0.05 * torch.randn(3)]))
    step, axis = torch.nn.functional.normalize(torch.randn(2, 3), dim=1)
    perturbed = se3_exponential(torch.cat([0.3 * step, math.radians(10) * axis])) @ true
    photo = render(scene, Camera(intrinsics, true, size)).color

    found = align_pose(scene, perturbed, intrinsics, photo)

    left = found @ invert(true)
    assert torch.rad2deg(rotation_angle(left[:3, :3], torch.eye(3))) < 0.1
    assert left[:3, 3].norm() < 0.003 * 3


def test_the_gradient_by_a_twist_is_what_finite_differences_say():
    size, count = (96, 128), 12  # few and large: sorting and cutting make a picture jump
    x, y = torch.meshgrid(torch.linspace(-0.9, 0.9, 4), torch.linspace(-0.6, 0.6, 3), indexing="ij")
    blobs = Gaussians(
        means=torch.stack([x.flatten(), y.flatten(), 2.5 + torch.rand(count)], dim=1),
        scales=0.1 + 0.2 * torch.rand(count, 3),
        rotations=torch.nn.functional.normalize(torch.randn(count, 4), dim=1),
        harmonics=0.3 * torch.randn(count, 3, 4),
        opacities=0.3 + 0.5 * torch.rand(count),
    )
    world2cam = se3_exponential(0.05 * torch.randn(6)).double()
    weights = torch.nn.functional.interpolate(torch.rand(1, 3, 4, 5), size=size, mode="bicubic")[0]

    def brightness(twist: torch.Tensor) -> torch.Tensor:
        moved = se3_exponential(twist) @ world2cam
        picture = render(blobs, Camera(intrinsics_for(size), moved, size)).color
        return (picture.double() * weights).sum()

    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(brightness(twist), twist)
    with torch.no_grad():
        steps = 1e-2 * torch.eye(6, dtype=torch.float64)
        changes = [(brightness(step) - brightness(-step)) / 2e-2 for step in steps]
    torch.testing.assert_close(
        gradient, torch.stack(changes), rtol=0, atol=0.03 * float(gradient.norm())
    )


def test_a_perceptual_distance_counts(tiny_scene):
    size = (48, 64)
    intrinsics = intrinsics_for(size)
    photo = render(tiny_scene, Camera(intrinsics, torch.eye(4), size)).color
    moved = se3_exponential(torch.tensor([0.03, 0.0, 0.0, 0.0, 0.02, 0.0]))

    class Contrary(Lpips):
        """Says that what looks unlike the photo is alike."""

        def forward(self, pictures, photos):
            return -100 * (pictures - photos).abs().mean((1, 2, 3))

    with_it, without = (
        align_pose(tiny_scene, moved, intrinsics, photo, steps=(0, 0, 5), lpips=lpips)
        for lpips in (Contrary(), None)
    )
    assert pose_error(without, torch.eye(4)).rotation_deg < 1
    assert pose_error(with_it, torch.eye(4)).rotation_deg > 1.1


def test_the_few_that_stand_for_many_cover_about_as_much(tiny_scene):
    intrinsics = intrinsics_for(LANDSCAPE)
    few = thin(tiny_scene, 96)
    covered_by_all, covered_by_few = (
        render(scene, Camera(intrinsics, torch.eye(4), LANDSCAPE)).alpha.mean()
        for scene in (tiny_scene, few)
    )
    assert len(few) == 96
    assert 0.8 < covered_by_few / covered_by_all < 1.2


def test_alignment_never_leaves_for_something_worse(tiny_scene):
    intrinsics = intrinsics_for(LANDSCAPE)
    photo = render(tiny_scene, Camera(intrinsics, torch.eye(4), LANDSCAPE)).color
    found = align_pose(tiny_scene, torch.eye(4), intrinsics, photo, steps=(2, 2, 2))
    assert torch.equal(found, torch.eye(4))
