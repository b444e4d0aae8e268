import torch
from random_gaussians import random_gaussians

from models.geometry.camera import Camera
from models.render import Rendering, render
from models.render.slabs import render_in_slabs


def test_slabs_from_front_to_back_make_the_same_picture():
    scene = random_gaussians(400, 1)
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    camera = Camera(intrinsics, torch.eye(4), (40, 48))
    background = (0.2, 0.5, 0.9)

    whole = render(scene, camera, background)
    slabs = render_in_slabs(scene, camera, background, render, slab=37)

    for name in ("color", "depth", "alpha"):
        torch.testing.assert_close(getattr(slabs, name), getattr(whole, name), atol=1e-3, rtol=0)


def test_a_large_scene_is_rendered_in_slabs(monkeypatch):
    sizes = []
    camera = Camera(torch.eye(3), torch.eye(4), (8, 8))
    nothing = Rendering(torch.zeros(3, 8, 8), torch.zeros(8, 8), torch.zeros(8, 8))

    def in_slabs(scene, *_) -> Rendering:
        sizes.append(len(scene))
        return nothing

    monkeypatch.setattr("models.render.cpu.MAX_AT_ONCE", 100)
    monkeypatch.setattr("models.render.cpu.render_in_slabs", in_slabs)

    with torch.no_grad():
        render(random_gaussians(101, 0), camera)
        render(random_gaussians(100, 0), camera)
    render(random_gaussians(101, 0), camera)

    assert sizes == [101]
