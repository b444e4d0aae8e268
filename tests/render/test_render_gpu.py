"""The CUDA renderer is the CPU renderer's twin."""

from dataclasses import fields

import pytest
import torch
from random_gaussians import random_gaussians
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.gaussians import PARAMETERS, Gaussians
from models.geometry.rigid import se3_exponential
from models.render import Rendering, render

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SIZE = (75, 110)
INTRINSICS = torch.tensor([[0.8, 0.0, 0.45], [0.0, 1.2, 0.6], [0.0, 0.0, 1.0]])
BACKGROUND = (0.3, 0.1, 0.6)


def rendering_and_gradients(
    scene: Gaussians, device: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All fields of a rendering on a device, and the gradients of a weighted sum of it."""
    leaves = {name: getattr(scene, name).to(device) for name in PARAMETERS}
    leaves["twist"] = torch.tensor([0.1, -0.1, 0.2, 0.1, -0.1, 0.2], device=device)
    for leaf in leaves.values():
        leaf.requires_grad_()
    *arrays, twist = leaves.values()
    world2cam = se3_exponential(twist)
    camera = Camera(INTRINSICS.to(device), world2cam, SIZE)
    rendered = render(Gaussians(*arrays), camera, BACKGROUND)
    generator = torch.Generator().manual_seed(1)
    parts = {field.name: getattr(rendered, field.name) for field in fields(Rendering)}
    weights = (torch.randn(part.shape, generator=generator).to(device) for part in parts.values())
    loss = sum((part * weight).sum() for part, weight in zip(parts.values(), weights, strict=True))
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return (
        {name: part.detach().cpu() for name, part in parts.items()},
        {name: value.cpu() for name, value in zip(leaves, gradients, strict=True)},
    )


@pytest.mark.parametrize("sh_degree", [0, 3, 4])
def test_both_backends_agree(sh_degree: int):
    scene = random_gaussians(2000, sh_degree, log_scale=-3.5, opacity_spread=2)

    rendered, gradients = rendering_and_gradients(scene, "cpu")
    rendered_cuda, gradients_cuda = rendering_and_gradients(scene, "cuda")

    for name, part in rendered.items():
        error = (part - rendered_cuda[name]).abs()
        assert error.mean() < 1e-5, name
        assert (error > 1e-3).float().mean() < 1e-2, name  # alpha on the verge of 1/255
    for name, gradient in gradients.items():
        error = (gradient - gradients_cuda[name]).norm()
        assert error < 1e-2 * gradient.norm(), name


def test_an_empty_scene_is_the_background_on_both():
    nothing = random_gaussians(0, 0).to(torch.device("cuda"))

    rendered = render(nothing, Camera(INTRINSICS.cuda(), torch.eye(4).cuda(), SIZE), BACKGROUND)

    assert (rendered.alpha == 0).all() and rendered.color[2].allclose(torch.tensor(0.6).cuda())
