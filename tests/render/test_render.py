"""Facts about renderings that every renderer must reproduce."""

import math
from dataclasses import fields, replace

import pytest
import torch
from random_gaussians import random_gaussians
from scipy.special import sph_harm_y
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.gaussians import PARAMETERS, SH_DEGREE_0, Gaussians, join, rescale
from models.geometry.rigid import invert, rotation_angle, se3_exponential
from models.render import Rendering, render

SIZE = (33, 50)
INTRINSICS = torch.tensor([[0.8, 0.0, 0.47], [0.0, 1.2, 0.55], [0.0, 0.0, 1.0]])
IDENTITY = torch.eye(4)
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def blob(
    mean: tuple[float, float, float],
    color: tuple[float, float, float] = RED,
    scale: float = 0.05,
    opacity: float = 0.9,
) -> Gaussians:
    """One round Gaussian of one color."""
    return Gaussians(
        means=torch.tensor([mean]),
        scales=torch.full((1, 3), scale),
        rotations=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        harmonics=((torch.tensor(color) - 0.5) / SH_DEGREE_0).reshape(1, 3, 1),
        opacities=torch.tensor([opacity]),
    )


def cloud(count: int = 400, sh_degree: int = 3) -> Gaussians:
    """Random Gaussians before the camera."""
    return random_gaussians(count, sh_degree, seed=count, spread=(0.8, 0.6, 0.3))


def render_view(scene: Gaussians, world2cam: Tensor = IDENTITY, **options) -> Rendering:
    return render(scene, Camera(INTRINSICS, world2cam, SIZE), **options)


def assert_same(first: Rendering, second: Rendering, tolerance: float = 1e-5) -> None:
    for field in fields(Rendering):
        error = (getattr(first, field.name) - getattr(second, field.name)).abs()
        assert error.mean() < tolerance / 10, field.name
        assert (error > tolerance).float().mean() < 2e-3, field.name  # alpha close to 1/255


def centroid(alpha: Tensor) -> Tensor:
    """The center (x, y) of what is seen, as image coordinates."""
    height, width = alpha.shape
    x = (torch.arange(width) + 0.5) / width
    y = (torch.arange(height) + 0.5) / height
    return torch.stack([(alpha.sum(0) * x).sum(), (alpha.sum(1) * y).sum()]) / alpha.sum()


def test_a_gaussian_on_the_axis_lands_on_the_principal_point():
    rendering = render_view(blob((0.0, 0.0, 2.0)))

    torch.testing.assert_close(centroid(rendering.alpha), INTRINSICS[:2, 2], atol=2e-4, rtol=0)


@pytest.mark.parametrize("mean", [(0.4, -0.3, 2.0), (-0.5, 0.2, 1.5)])
def test_a_gaussian_lands_where_its_center_projects_to(mean: tuple[float, float, float]):
    world2cam = se3_exponential(torch.tensor([0.1, 0.05, -0.1, 0.05, -0.1, 0.2]))
    expected, _ = Camera(INTRINSICS, world2cam, SIZE).project(torch.tensor([mean]))

    rendering = render_view(blob(mean, scale=0.02), world2cam)

    torch.testing.assert_close(centroid(rendering.alpha), expected[0], atol=1e-3, rtol=0)


def test_a_gaussian_is_as_wide_and_as_high_as_its_projection():
    scene = replace(blob((0.0, 0.0, 2.0), opacity=1.0), scales=torch.tensor([[0.3, 0.1, 1e-4]]))
    half = math.sqrt(0.5)  # a quarter turn about z swaps the axes
    turned = replace(scene, rotations=torch.tensor([[half, 0.0, 0.0, half]]))

    for rendering, expected in (
        (render_view(scene), (0.3, 0.1)),
        (render_view(turned), (0.1, 0.3)),
    ):
        height, width = SIZE
        pixels_x = torch.arange(width) + 0.5 - 0.47 * width
        pixels_y = torch.arange(height) + 0.5 - 0.55 * height
        row, column = rendering.alpha[18], rendering.alpha[:, 23]  # those through the center
        spread_x = ((row * pixels_x**2).sum() / row.sum()).sqrt()
        spread_y = ((column * pixels_y**2).sum() / column.sum()).sqrt()
        wide = math.hypot(0.8 * width * expected[0] / 2, math.sqrt(0.3))
        high = math.hypot(1.2 * height * expected[1] / 2, math.sqrt(0.3))
        assert spread_x.item() == pytest.approx(wide, rel=0.03)
        assert spread_y.item() == pytest.approx(high, rel=0.03)


def test_a_scene_twice_as_large_and_as_far_looks_the_same():
    scene = cloud()
    world2cam = se3_exponential(torch.tensor([0.1, -0.2, 0.3, 0.1, 0.2, -0.1]))
    farther = world2cam.clone()
    farther[:3, 3] *= 2

    small, large = render_view(scene, world2cam), render_view(rescale(scene, 2.0), farther)

    assert_same(replace(large, depth=large.depth / 2), small)


def test_moving_world_and_camera_together_changes_nothing():
    scene = cloud(sh_degree=0)
    rigid_motion = se3_exponential(torch.tensor([0.3, 0.1, -0.2, 0, 0, 1.0]))
    half = torch.tensor(0.5)
    w, x, y, z = scene.rotations.unbind(-1)
    cos, sin = half.cos(), half.sin()  # the same turn about z, multiplied from the left
    turned = torch.stack(
        [cos * w - sin * z, cos * x - sin * y, cos * y + sin * x, cos * z + sin * w], dim=-1
    )
    moved = replace(
        scene, means=scene.means @ rigid_motion[:3, :3].T + rigid_motion[:3, 3], rotations=turned
    )

    assert_same(render_view(moved, invert(rigid_motion)), render_view(scene))


def test_the_order_of_gaussians_does_not_matter():
    scene = cloud()
    order = torch.randperm(len(scene))

    assert_same(render_view(scene.map(lambda tensor: tensor[order])), render_view(scene))


def test_the_opaque_front_hides_the_back():
    front = blob((0.0, 0.0, 1.0), RED, scale=1.0, opacity=1.0)
    back = blob((0.0, 0.0, 2.0), BLUE, scale=1.0, opacity=1.0)

    rendering = render_view(join([back, front]))

    y, x = int(0.55 * SIZE[0]), int(0.47 * SIZE[1])
    torch.testing.assert_close(rendering.color[:, y, x], torch.tensor(RED), atol=2e-3, rtol=0)
    assert rendering.depth[y, x].item() == pytest.approx(1, abs=2e-3)


def test_the_background_shows_where_nothing_is():
    background = (0.1, 0.6, 0.3)

    rendering = render_view(blob((0.0, 0.0, 2.0)), background=background)

    empty = rendering.alpha == 0
    assert 0 < empty.sum() < empty.numel()
    assert (rendering.color[:, empty] == torch.tensor(background)[:, None]).all()
    assert (rendering.depth[empty] == 0).all()


def test_depth_over_alpha_is_the_distance_along_the_axis():
    rendering = render_view(blob((0.3, 0.2, 2.0), scale=0.2))

    seen = rendering.alpha > 0.01
    torch.testing.assert_close(
        rendering.depth[seen] / rendering.alpha[seen], torch.full((int(seen.sum()),), 2.0)
    )


@pytest.mark.parametrize("term", range(16))
def test_harmonics_are_those_of_physics_in_the_order_of_3dgs(term: int):
    mean, eye = torch.tensor([0.3, -0.2, 2.0]), torch.tensor([0.4, 0.3, -0.1])
    x, y, z = torch.nn.functional.normalize(mean - eye, dim=0).tolist()
    degree = math.isqrt(term)
    order = term - degree * (degree + 1)
    value = complex(sph_harm_y(degree, abs(order), math.acos(z), math.atan2(y, x)))
    part = value.imag if order < 0 else value.real
    expected = 0.5 + 0.7 * part * (math.sqrt(2) if order else 1)
    harmonics = torch.zeros(1, 3, 16)
    harmonics[:, 1, term] = 0.7
    scene = replace(blob(tuple(mean.tolist()), scale=0.3), harmonics=harmonics)
    world2cam = torch.eye(4)
    world2cam[:3, 3] = -eye

    rendering = render_view(scene, world2cam)

    bright = rendering.alpha > 0.5
    color = (rendering.color / rendering.alpha)[:, bright].mean(-1)
    assert color.tolist() == pytest.approx([0.5, expected, 0.5], abs=1e-5)


def test_degrees_above_three_are_cut():
    scene = cloud()
    more = replace(scene, harmonics=torch.cat([scene.harmonics, torch.rand(400, 3, 9)], dim=-1))

    assert torch.equal(render_view(more).color, render_view(scene).color)


def test_negative_colors_are_black():
    rendering = render_view(blob((0.0, 0.0, 2.0), color=(-1.0, 0.5, 0.5)))

    assert (rendering.color[0] == 0).all() and rendering.color[1].max() > 0.3


def test_quaternions_may_have_any_length():
    scene = cloud()

    assert_same(render_view(replace(scene, rotations=3 * scene.rotations)), render_view(scene))


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 31), (3, 130)])
def test_any_size_shows_the_same_view(size: tuple[int, int]):
    scene = blob((0.0, 0.0, 2.0), scale=50.0, opacity=0.9)

    rendering = render(scene, Camera(INTRINSICS, IDENTITY, size))

    assert rendering.color.shape == (3, *size)
    torch.testing.assert_close(rendering.alpha, torch.full(size, 0.9), atol=1e-3, rtol=0)


def test_nothing_and_everything_behind_the_camera_draw_the_background():
    nothing = cloud().select(torch.zeros(400, dtype=torch.bool))
    behind = replace(cloud(), means=cloud().means * torch.tensor([1.0, 1.0, -1.0]))

    for scene in (nothing, behind):
        rendering = render_view(scene, background=BLUE)
        assert (rendering.alpha == 0).all() and (rendering.color[2] == 1).all()


def leaves_of(scene: Gaussians) -> Gaussians:
    return scene.map(lambda tensor: tensor.clone().requires_grad_())


def test_extreme_gaussians_leave_no_trace_of_nan():
    extreme = join([cloud(sh_degree=0), *(blob((0.0, 0.0, 1.5)) for _ in range(9))])
    extreme.means[0] = torch.tensor([0.0, 0.0, 0.010001])
    extreme.means[1] = torch.tensor([1e6, 1e6, 0.02])
    extreme.scales[2] = torch.tensor([1e5, 1e-9, 1e-9])
    extreme.scales[3] = 1e15
    extreme.scales[4] = 0
    extreme.rotations[5] = 0
    extreme.means[6] = torch.nan
    extreme.scales[7] = torch.inf
    extreme.harmonics[8] = torch.nan
    extreme.opacities[9] = torch.nan
    extreme.opacities[10:12] = torch.tensor([0.0, 1.0])
    scene, world2cam = leaves_of(extreme), torch.eye(4, requires_grad=True)

    rendering = render_view(scene, world2cam)
    (rendering.color.sum() + rendering.depth.sum() + rendering.alpha.sum()).backward()

    for field in fields(rendering):
        assert getattr(rendering, field.name).isfinite().all()
    assert rendering.alpha.min() >= 0 and rendering.alpha.max() <= 1
    for name in PARAMETERS:
        assert getattr(scene, name).grad.isfinite().all(), name
    assert world2cam.grad.isfinite().all()


def test_the_same_call_gives_the_same_bits():
    world2cam = torch.eye(4, requires_grad=True)
    images, gradients = [], []
    for _ in range(2):
        scene = leaves_of(cloud())
        rendering = render_view(scene, world2cam)
        gradients += [torch.autograd.grad(rendering.color.square().sum(), (scene.means, world2cam))]
        images += [rendering.color]

    assert torch.equal(*images)
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_what_needs_no_gradient_gets_none():
    scene, world2cam = cloud(), torch.eye(4, requires_grad=True)
    render_view(scene, world2cam).color.sum().backward()
    assert world2cam.grad is not None and scene.means.grad is None

    only_colors = replace(scene, harmonics=scene.harmonics.clone().requires_grad_())
    both = leaves_of(scene)
    render_view(only_colors).color.sum().backward()
    render_view(both).color.sum().backward()
    assert torch.equal(only_colors.harmonics.grad, both.harmonics.grad)
    assert not render_view(scene).color.requires_grad


def test_other_floats_and_layouts_are_taken_as_they_come():
    scene = cloud()
    odd = scene.map(torch.Tensor.double)
    odd = replace(odd, harmonics=odd.harmonics.mT.contiguous().mT.requires_grad_())

    rendering = render_view(odd, IDENTITY.double())
    rendering.color.sum().backward()

    assert_same(rendering, render_view(scene))
    assert odd.harmonics.grad.dtype == torch.float64


def test_harmonics_of_no_degree_are_refused():
    with pytest.raises(ValueError, match=r"harmonics of 400 Gaussians have shape \(400, 3, 5\)"):
        render_view(replace(cloud(), harmonics=torch.ones(400, 3, 5)))


def test_gradient_descent_brings_a_perturbed_camera_back():
    scene = cloud()
    truth = se3_exponential(torch.tensor([0.1, 0.0, 0.1, 0.0, -0.05, 0.02]))
    target = render_view(scene, truth).color
    start = se3_exponential(torch.tensor([0.05, -0.04, 0.06, 0.03, 0.03, -0.04])) @ truth
    twist = torch.zeros(6, requires_grad=True)
    optimizer = torch.optim.Adam([twist], lr=1e-2)

    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / 150)
        optimizer.zero_grad()
        rendering = render_view(scene, se3_exponential(twist) @ start)
        (rendering.color - target).square().mean().backward()
        optimizer.step()

    found = (se3_exponential(twist) @ start).detach()
    before = rotation_angle(start[:3, :3], truth[:3, :3])
    assert rotation_angle(found[:3, :3], truth[:3, :3]) < before / 10
    assert (found[:3, 3] - truth[:3, 3]).norm() < (start[:3, 3] - truth[:3, 3]).norm() / 10
