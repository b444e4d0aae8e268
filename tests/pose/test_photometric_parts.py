"""What photometric alignment is made of: its loss, its twists, its subsets, its sizes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from random_gaussians import random_gaussians

from models.geometry.camera import Camera
from models.geometry.rigid import se3_exponential, transform_points
from models.geometry.views import View
from models.metrics.lpips import Lpips
from models.metrics.ssim import structure_loss, window_statistics
from models.pose import photometric
from models.pose.photometric import PhotometricLoss, align_pose, subsample
from models.render import render

SIZE = (24, 32)
CAMERA = Camera(torch.tensor([[1.1, 0, 0.5], [0, 1.47, 0.5], [0, 0, 1]]), torch.eye(4), SIZE)
MOVED = replace(CAMERA, world2cam=se3_exponential(torch.tensor([0.05, 0, 0, 0, 0.05, 0])))


class Far(Lpips):
    """Says that any two images are two apart."""

    def forward(self, first, second):
        assert first.shape == second.shape == (1, 3, *SIZE)
        return torch.full((1,), 2.0)


@dataclass(frozen=True)
class Scripted(PhotometricLoss):
    """A loss of the camera's matrix, which notes where it was asked for."""

    function: Callable[[torch.Tensor], torch.Tensor]
    path: list[torch.Tensor]

    def __call__(self, gaussians, camera):
        self.path.append(camera.world2cam.detach())
        return self.function(camera.world2cam)


def scripted(function: Callable[[torch.Tensor], torch.Tensor]) -> Scripted:
    return Scripted(window_statistics(torch.rand(3, *SIZE)), None, function, [])


def test_the_loss_is_squared_error_a_tenth_of_structure_and_a_twentieth_of_lpips(tiny_scene):
    image, rendered = (render(tiny_scene, camera).color for camera in (CAMERA, MOVED))
    target = window_statistics(image)
    squared, structure = (image - rendered).square().mean(), structure_loss(rendered, target)
    plain, perceptual = PhotometricLoss(target, None), PhotometricLoss(target, Far())
    torch.testing.assert_close(plain(tiny_scene, MOVED), squared + 0.1 * structure)
    torch.testing.assert_close(
        perceptual(tiny_scene, MOVED) - plain(tiny_scene, MOVED), torch.tensor(0.1)
    )


@pytest.mark.parametrize("column", [0, 1])
def test_a_step_aside_keeps_what_is_at_the_depth_in_the_middle(column: int):
    depth, angle = 4.0, 1e-3
    twists = photometric._preconditioner(depth)
    middle = torch.tensor([[0.0, 0.0, depth]], dtype=torch.float64)
    moved = transform_points(middle, se3_exponential(angle * twists[:, column]))[0]
    assert moved[:2].norm() < 1e-2 * angle * depth
    center = se3_exponential(angle * twists[:, column])[:3, 3].norm()
    assert float(center) == pytest.approx(angle * depth, rel=1e-3)


def test_the_other_steps_are_the_depth_forward_and_three_rotations():
    twists = photometric._preconditioner(4.0)
    expected = torch.diag(torch.tensor([0.0, 0, 4, 1, 1, 1], dtype=torch.float64))
    torch.testing.assert_close(twists[:, 2:], expected[:, 2:])


def test_the_depth_of_a_scene_is_the_median_of_what_is_in_front(tiny_scene):
    depths = torch.tensor([-9.0, -8, -7, -6, 0, 1, 2, 5])
    means = torch.stack([depths, depths, depths], dim=1)
    scene = replace(tiny_scene.select(torch.arange(384) < 8), means=means)
    assert photometric._median_depth(scene, CAMERA) == 2
    closer = replace(CAMERA, world2cam=se3_exponential(torch.tensor([0.0, 0, 0.5, 0, 0, 0])))
    assert photometric._median_depth(scene, closer) == pytest.approx(1.5)
    behind = replace(scene, means=-means.abs())
    assert photometric._median_depth(behind, CAMERA) == 1


def test_a_subset_is_random_and_its_gaussians_cover_as_much_area():
    scene = random_gaussians(40, 1)
    assert subsample(scene, 40) is scene and subsample(scene, 41) is scene
    subset = subsample(scene, 10)
    assert len(subset) == 10
    place = (scene.means[:, None] == subset.means).all(-1).nonzero()[:, 0]
    torch.testing.assert_close(subset.scales, 2 * scene.scales[place])
    assert (place.diff() > 1).any() and len(place) == 10
    assert torch.equal(subsample(scene, 10).means, subset.means)


def sizes_used(monkeypatch, steps: tuple[int, ...], camera: Camera, **options) -> list[tuple]:
    """Return image size, number of Gaussians, depth, steps, rate and LPIPS of each level."""
    calls = []

    def optimize(gaussians, camera, loss, depth, steps, rate):
        assert tuple(loss.target.image.shape[1:]) == camera.size
        calls.append((camera.size, len(gaussians), depth, steps, rate, loss.lpips is not None))
        return camera

    monkeypatch.setattr(photometric, "_optimize", optimize)
    monkeypatch.setattr(photometric, "GAUSSIANS_PER_PIXEL", 1)
    scene = random_gaussians(900, 1)
    align_pose(scene, View(torch.rand(3, *camera.size), camera), steps, **options)
    depth = photometric._median_depth(scene, camera)
    assert {call[2] for call in calls} == {depth}
    return [(size, count, steps, rate, lpips) for size, count, _, steps, rate, lpips in calls]


def test_alignment_goes_from_small_images_to_the_photo_with_a_smaller_rate_each(monkeypatch):
    found = sizes_used(monkeypatch, (9, 8, 7), replace(CAMERA, size=(48, 64)), learning_rate=0.1)
    assert [(size, steps) for size, _, steps, *_ in found] == [
        ((12, 16), 9),
        ((24, 32), 8),
        ((48, 64), 7),
    ]
    assert [count for _, count, *_ in found] == [192, 768, 900]
    rates = [rate for *_, rate, _ in found]
    assert rates[0] == 0.1 and rates[0] > 2 * rates[1] and rates[1] > 2 * rates[2] > 0.01
    assert rates[1] ** 2 == pytest.approx(rates[0] * rates[2])


def test_images_smaller_than_the_window_of_the_structure_loss_are_left_out(monkeypatch):
    found = sizes_used(monkeypatch, (9, 8, 7), CAMERA, lpips=Far())
    assert [(size, lpips) for size, *_, lpips in found] == [((12, 16), False), ((24, 32), True)]
    (found,) = sizes_used(monkeypatch, (9, 7), replace(CAMERA, size=(21, 64)))
    assert found[0] == (21, 64)


def test_steps_end_where_the_loss_no_longer_falls(tiny_scene):
    even = scripted(lambda world2cam: 1.0 + 0 * world2cam.sum())
    camera = photometric._optimize(tiny_scene, CAMERA, even, 2.0, 100, 0.01)
    assert torch.equal(camera.world2cam, CAMERA.world2cam)
    assert len(even.path) == 1 + 15

    falling = scripted(lambda world2cam: 1 / len(falling.path) + 0 * world2cam.sum())
    photometric._optimize(tiny_scene, CAMERA, falling, 2.0, 40, 0.01)
    assert len(falling.path) == 40


def test_steps_lead_downhill_and_get_shorter(tiny_scene):
    goal = se3_exponential(torch.tensor([0.03, -0.02, 0.01, 0.0, 0.0, 0.0]))
    loss = scripted(lambda world2cam: (world2cam - goal).square().sum())
    found = photometric._optimize(tiny_scene, CAMERA, loss, 1.0, 60, 0.01)
    torch.testing.assert_close(found.world2cam, goal, rtol=0, atol=3e-3)
    losses = [float((pose - goal).square().sum()) for pose in loss.path]
    assert torch.equal(found.world2cam, loss.path[losses.index(min(losses))])
    lengths = [float((after - before).norm()) for before, after in pairwise(loss.path)]
    assert sum(lengths[-5:]) < 0.7 * sum(lengths[:5])
