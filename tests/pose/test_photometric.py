import math
from dataclasses import replace

import pytest
import torch

from models.geometry.camera import Camera
from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from models.geometry.rigid import invert, rotation_angle, se3_exponential
from models.geometry.views import View
from models.metrics.errors import pose_error, psnr
from models.metrics.lpips import Lpips
from models.pose.photometric import align_pose, subsample
from models.render import render


def camera_at(world2cam: torch.Tensor, size: tuple[int, int]) -> Camera:
    height, width = size
    intrinsics = torch.tensor([[1.1, 0, 0.5], [0, 1.1 * width / height, 0.5], [0, 0, 1]])
    return Camera(intrinsics, world2cam, size)


def moved(view: View, twist: torch.Tensor) -> View:
    """The view with its camera perturbed on the left."""
    world2cam = se3_exponential(twist) @ view.camera.world2cam
    return View(view.image, replace(view.camera, world2cam=world2cam))


def rendered_view(scene: Gaussians, camera: Camera) -> View:
    return View(render(scene, camera).color, camera)


def test_alignment_moves_a_camera_until_it_sees_the_photo(tiny_scene):
    true = se3_exponential(torch.tensor([0.1, 0.05, -0.1, 0.02, -0.03, 0.05]))
    view = rendered_view(tiny_scene, camera_at(true, (96, 128)))
    start = moved(view, torch.tensor([0.03, -0.02, 0.02, -0.02, 0.02, 0.02]))

    found = align_pose(tiny_scene, start, max_steps=(25, 15, 0))

    before, after = (
        psnr(render(tiny_scene, camera).color, view.image) for camera in (start.camera, found)
    )
    assert before < 16
    assert after > 24


def bumpy_scene() -> Gaussians:
    """One Gaussian per pixel of a wide image of a textured relief, about three units away."""
    size = (54, 72)
    wide = camera_at(torch.eye(4), size).intrinsics * torch.tensor([0.65, 0.65, 1.0])[:, None]
    wide[:2, 2] = 0.5

    def noise(cells: int) -> torch.Tensor:
        coarse = torch.rand(1, 4, cells, cells)
        return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic")[0]

    texture = (0.45 * noise(4) + 0.3 * noise(9) + 0.25 * noise(24))[:3].clamp(0, 1)
    depth = 2 + 2 * noise(5)[3]
    count = size[0] * size[1]
    return Gaussians(
        means=Camera(wide, torch.eye(4), size).unproject(depth).flatten(0, 1),
        scales=(depth.flatten()[:, None] / size[1]).repeat(1, 3),
        rotations=torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1),
        harmonics=((texture.flatten(1).T - 0.5) / SH_DEGREE_0)[:, :, None],
        opacities=torch.full((count,), 0.95),
    )


@pytest.mark.parametrize("seed", range(3))
def test_alignment_undoes_ten_degrees_and_a_tenth_of_the_depth(seed):
    torch.manual_seed(seed)
    scene = bumpy_scene()
    true = se3_exponential(torch.cat([0.1 * torch.randn(3), 0.05 * torch.randn(3)]))
    step, axis = torch.nn.functional.normalize(torch.randn(2, 3), dim=1)
    view = rendered_view(scene, camera_at(true, (72, 96)))

    found = align_pose(scene, moved(view, torch.cat([0.3 * step, math.radians(10) * axis])))

    left = found.world2cam @ invert(true)
    assert torch.rad2deg(rotation_angle(left[:3, :3], torch.eye(3))) < 0.1
    assert left[:3, 3].norm() < 0.003 * 3


def test_the_gradient_by_a_twist_is_what_finite_differences_say():
    size, count = (96, 128), 12  # few and large: sorting and cutting make an image jump
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
        image = render(blobs, camera_at(se3_exponential(twist) @ world2cam, size)).color
        return (image.double() * weights).sum()

    twist = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(brightness(twist), twist)
    with torch.no_grad():
        steps = 1e-2 * torch.eye(6, dtype=torch.float64)
        changes = [(brightness(step) - brightness(-step)) / 2e-2 for step in steps]
    torch.testing.assert_close(
        gradient, torch.stack(changes), rtol=0, atol=0.03 * float(gradient.norm())
    )


def test_a_perceptual_distance_counts(tiny_scene):
    view = rendered_view(tiny_scene, camera_at(torch.eye(4), (48, 64)))
    start = moved(view, torch.tensor([0.03, 0.0, 0.0, 0.0, 0.02, 0.0]))

    class Contrary(Lpips):
        """Says that images that look different are alike."""

        def forward(self, first, second):
            return -100 * (first - second).abs().mean((1, 2, 3))

    with_it, without = (
        align_pose(tiny_scene, start, max_steps=(0, 0, 5), lpips=lpips).world2cam
        for lpips in (Contrary(), None)
    )
    assert pose_error(without, torch.eye(4)).rotation_deg < 1
    assert pose_error(with_it, torch.eye(4)).rotation_deg > 1.1


def test_a_subsample_covers_about_as_much_as_all(tiny_scene):
    subset, camera = subsample(tiny_scene, 96), camera_at(torch.eye(4), (48, 64))
    all_alpha, alpha = (render(scene, camera).alpha.mean() for scene in (tiny_scene, subset))
    assert len(subset) == 96
    assert 0.8 < alpha / all_alpha < 1.2


def test_alignment_never_leaves_for_something_worse(tiny_scene):
    view = rendered_view(tiny_scene, camera_at(torch.eye(4), (48, 64)))
    found = align_pose(tiny_scene, view, max_steps=(2, 2, 2))
    assert torch.equal(found.world2cam, torch.eye(4))
