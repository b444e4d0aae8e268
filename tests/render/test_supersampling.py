"""Images too small for a scene's detail are supersampled, whatever program asks for them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from two_planes_scene import INTRINSICS, SIZE, raytrace

from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.geometry.gaussians import Gaussians
from models.geometry.views import resize
from models.metrics.errors import psnr
from models.render.supersampling import render_supersampled, required_supersampling
from models.scene.fusion import splat
from nps_cli.formats import save_scene


def camera(size: tuple[int, int]) -> Camera:
    return Camera(INTRINSICS, torch.eye(4), size)


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return raytrace(torch.eye(4))[0]


@pytest.fixture(scope="module")
def scene(photo) -> Gaussians:
    """One Gaussian for every pixel of the photo."""
    depth = raytrace(torch.eye(4))[1]
    view = DepthMap(photo, depth, torch.ones(SIZE), camera(SIZE))
    return splat(view, torch.ones(SIZE, dtype=torch.bool))


@pytest.mark.parametrize(("smaller", "factor"), [(0.5, 1), (1, 1), (2, 2), (3, 3), (16, 4)])
def test_the_factor_is_how_much_smaller_the_image_is_and_never_above_four(
    scene, smaller: float, factor: int
):
    size = (round(SIZE[0] / smaller), round(SIZE[1] / smaller))
    assert required_supersampling(scene, camera(size)) == factor


def test_nothing_in_front_of_the_camera_needs_no_supersampling(scene):
    behind = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))
    assert required_supersampling(scene, Camera(INTRINSICS, behind, SIZE)) == 1


def test_a_supersampled_rendering_is_nearer_to_the_shrunk_photo(scene, photo):
    half = (SIZE[0] // 2, SIZE[1] // 2)
    small = resize(photo, half)
    plain, supersampled = (
        psnr(render_supersampled(scene, camera(half), factor), small) for factor in (1, 2)
    )
    assert supersampled > plain + 2


def test_nps_render_supersamples_small_images(nps, scene, photo, tmp_path: Path):
    half = (SIZE[0] // 2, SIZE[1] // 2)
    save_scene(scene, tmp_path / "scene.ply")
    view = {
        "width": SIZE[1],
        "height": SIZE[0],
        "intrinsics_px": (torch.tensor([SIZE[1], SIZE[0], 1])[:, None] * INTRINSICS).tolist(),
        "world2cam": torch.eye(4).tolist(),
    }
    (tmp_path / "pose.json").write_text(json.dumps({"views": [view]}))
    size = ("--size", f"{half[1]}x{half[0]}")
    ran = nps(
        *("render", tmp_path / "scene.ply", "--path", tmp_path / "pose.json"),
        *("-o", tmp_path / "view.png", *size),
    )
    assert ran.code == 0, ran.err
    pixels = np.array(Image.open(tmp_path / "view.png").convert("RGB"))
    shown = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    plain = render_supersampled(scene, camera(half), 1)
    small = resize(photo, half)
    assert psnr(shown, small) > psnr(plain, small) + 2
