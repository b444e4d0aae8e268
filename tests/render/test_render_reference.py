"""The rasterizer against the definition: every Gaussian at every pixel, in float64."""

from dataclasses import fields

import pytest
import torch
from random_gaussians import random_gaussians
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.gaussians import PARAMETERS, Gaussians
from models.geometry.rigid import from_wxyz, se3_exponential
from models.geometry.spherical_harmonics import real_harmonics
from models.render import Rendering, render

SIZE = (40, 56)
INTRINSICS = torch.tensor([[0.9, 0.0, 0.42], [0.0, 1.3, 0.61], [0.0, 0.0, 1.0]])
BACKGROUND = (0.2, 0.5, 0.8)


def reference(scene: Gaussians, camera: Camera) -> Rendering:
    """Render by the definition; all tensors float64."""
    height, width = camera.size
    world2cam, lens = camera.world2cam, camera.intrinsics_px
    x, y, z = (scene.means @ world2cam[:3, :3].mT + world2cam[:3, 3]).unbind(-1)
    seen = torch.argsort(z)[(z < 0.01).sum() :]
    x, y, z = x[seen], y[seen], z[seen]
    left, top = -lens[0, 2] - 0.15 * width, -lens[1, 2] - 0.15 * height
    across = torch.minimum(torch.maximum(lens[0, 0] * x / z, left), left + 1.3 * width)
    down = torch.minimum(torch.maximum(lens[1, 1] * y / z, top), top + 1.3 * height)
    zero = torch.zeros_like(z)
    jacobian = torch.stack(
        [lens[0, 0] / z, zero, -across / z, zero, lens[1, 1] / z, -down / z], dim=-1
    ).unflatten(-1, (2, 3))
    to_pixel = jacobian @ world2cam[:3, :3]
    axes = to_pixel @ from_wxyz(scene.rotations[seen]) * scene.scales[seen, None]
    spread = axes @ axes.mT
    conic = torch.linalg.inv(spread + 0.3 * torch.eye(2).double())

    center = torch.stack([lens[0, 0] * x / z + lens[0, 2], lens[1, 1] * y / z + lens[1, 2]], -1)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack([columns, rows], dim=-1) + 0.5
    offset = pixels - center[:, None, None, :]
    power = torch.einsum("nhwi,nij,nhwj->nhw", offset, conic, offset) / 2
    alpha = (scene.opacities[seen, None, None] * torch.exp(-power)).clamp(max=0.999)
    alpha = torch.where(alpha >= 1 / 255, alpha, 0)
    alpha = torch.where(torch.cumprod(1 - alpha, dim=0) > 1e-4, alpha, 0)
    after = torch.cumprod(1 - alpha, dim=0)
    weight = alpha * torch.cat([torch.ones_like(after[:1]), after[:-1]])

    eye = torch.linalg.inv(world2cam)[:3, 3]
    directions = torch.nn.functional.normalize(scene.means[seen] - eye, dim=-1)
    basis = real_harmonics(directions, scene.sh_degree)
    color = torch.einsum("nck,nk->nc", scene.harmonics[seen], basis)
    color = (0.5 + color).clamp(min=0)
    behind = torch.tensor(BACKGROUND)[:, None, None] * after[-1]
    return Rendering(
        color=torch.einsum("nhw,nc->chw", weight, color) + behind,
        depth=torch.einsum("nhw,n->hw", weight, z),
        alpha=1 - after[-1],
    )


def random_scene(sh_degree: int = 3) -> Gaussians:
    """Gaussians before, beside and behind the camera; some opaque, some very long."""
    scene = random_gaussians(300, sh_degree, sh_degree, spread=(1.0, 0.8, 1.0), opacity_spread=2)
    scene.scales[:5, 0] = 1
    scene.opacities[:20] = 1
    return scene


def random_pose() -> Tensor:
    return se3_exponential(torch.tensor([0.1, -0.15, 0.2, 0.1, -0.2, 0.3]))


def fields_of(rendered: Rendering) -> dict[str, Tensor]:
    return {field.name: getattr(rendered, field.name) for field in fields(rendered)}


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_renderings_follow_the_definition(sh_degree: int):
    scene, camera = random_scene(sh_degree), Camera(INTRINSICS, random_pose(), SIZE)

    rendered = fields_of(render(scene, camera, BACKGROUND))

    expected = fields_of(
        reference(
            scene.map(Tensor.double), Camera(INTRINSICS.double(), camera.world2cam.double(), SIZE)
        )
    )
    assert expected["alpha"].min() < 0.4 and expected["alpha"].max() > 0.99
    for name, value in rendered.items():
        error = (value - expected[name]).abs()
        assert error.mean() < 2e-6, name
        assert (error > 1e-4).float().mean() < 2e-3, name  # alpha on the verge of 1/255
        assert error.max() < 2e-2, name


def gradients(renderer, scene: Gaussians, weights: Rendering) -> dict[str, Tensor]:
    """Gradients of a weighted sum of a rendering, by every input."""
    leaves = {name: getattr(scene, name).clone() for name in PARAMETERS}
    leaves["twist"] = torch.zeros(6, dtype=scene.means.dtype)
    leaves["intrinsics"] = INTRINSICS.to(scene.means.dtype, copy=True)
    for leaf in leaves.values():
        leaf.requires_grad_()
    *arrays, twist, intrinsics = leaves.values()
    world2cam = se3_exponential(twist) @ random_pose().to(twist.dtype)
    rendered = fields_of(renderer(Gaussians(*arrays), Camera(intrinsics, world2cam, SIZE)))
    sum((value * fields_of(weights)[name]).sum() for name, value in rendered.items()).backward()
    return {name: leaf.grad for name, leaf in leaves.items()}


@pytest.mark.parametrize("part", ["color", "depth", "alpha", "all"])
def test_gradients_are_those_of_the_definition(part: str):
    scene, generator = random_scene(), torch.Generator().manual_seed(1)
    weights = Rendering(
        color=torch.randn(3, *SIZE, generator=generator) * (part in ("color", "all")),
        depth=torch.randn(SIZE, generator=generator) * (part in ("depth", "all")),
        alpha=torch.randn(SIZE, generator=generator) * (part in ("alpha", "all")),
    )

    ours = gradients(lambda *given: render(*given, BACKGROUND), scene, weights)

    expected = gradients(reference, scene.map(Tensor.double), weights)
    for name, value in ours.items():
        scale = expected[name].norm()
        assert (value - expected[name]).norm() <= 1e-3 * scale, name
        assert scale > 0 or (name == "harmonics" and part != "color")
