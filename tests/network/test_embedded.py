"""The weights in the package, on real photos with known depth: the Middlebury motorcycle."""

from pathlib import Path

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from models.features.aliked_lightglue import LearnedMatcher
from models.features.sift import SiftMatcher
from models.geometry.camera import Camera, from_pixels
from models.geometry.views import View, resize
from models.metrics.errors import psnr
from models.options import Options
from models.reconstruct import reconstruct
from models.reconstruction import Networks
from models.render import render
from models.weights import embedded_path, load_network, load_stereo

SHIPPED = Path(skimage.__file__).parent / "data"
SIZE = (500, 741)  # height, width
FOCAL_PX, CENTER_X, CENTER_Y, DOFFS_PX = 994.978, 311.193, 254.877, 31.086


@pytest.fixture(scope="module")
def motorcycle():
    images = [
        torch.from_numpy(np.array(Image.open(SHIPPED / f"motorcycle_{side}.png").convert("RGB")))
        .permute(2, 0, 1)
        .float()
        / 255
        for side in ("left", "right")
    ]
    matrices = torch.tensor([[FOCAL_PX, 0, CENTER_X], [0, FOCAL_PX, CENTER_Y], [0, 0, 1]])
    matrices = matrices.repeat(2, 1, 1)
    matrices[1, 0, 2] += DOFFS_PX
    views = [
        View(image, Camera(from_pixels(matrix, SIZE), torch.eye(4), SIZE))
        for image, matrix in zip(images, matrices, strict=True)
    ]
    network, _ = load_network(embedded_path())
    stereo, _ = load_stereo(embedded_path("stereo"))
    matchers = (SiftMatcher(), LearnedMatcher(torch.device("cpu")))
    networks = Networks(network, matchers=matchers, stereo=stereo)
    return views, reconstruct(views, networks, Options(resolution=384))


def test_the_package_fits_into_a_repository():
    for name in ("network", "stereo", "aliked", "lightglue"):
        assert embedded_path(name).stat().st_size < 64 * 2**20


def test_the_second_camera_stands_to_the_right_and_looks_the_same_way(motorcycle):
    _, result = motorcycle
    position = -result.world2cam[1, :3, :3].T @ result.world2cam[1, :3, 3]
    assert torch.nn.functional.normalize(position, dim=0)[0] > 0.998
    assert (result.world2cam[1, :3, :3] - torch.eye(3)).abs().max() < 0.01
    assert result.pairs[0].confidence > 0.9 and not result.problems


def test_depth_is_that_of_the_true_disparity(motorcycle):
    _, result = motorcycle
    disparity = torch.from_numpy(np.load(SHIPPED / "motorcycle_disp.npz")["arr_0"].copy())
    true = 1 / (disparity + DOFFS_PX)
    height, width = result.depths[0].shape
    rows = (torch.arange(height) * SIZE[0] / height).long()
    columns = (torch.arange(width) * SIZE[1] / width).long()
    true = true[rows][:, columns]
    known = true.isfinite() & (true > 0)
    ratio = result.depths[0][known] / true[known]
    error = (ratio / ratio.median() - 1).abs()
    assert error.median() < 0.02
    assert (error < 0.06).float().mean() > 0.8


def test_the_scene_looks_like_the_photos_from_where_they_were_taken(motorcycle):
    views, result = motorcycle
    size = (160, 240)
    for view, camera in zip(views, result.cameras, strict=True):
        rendering = render(result.gaussians, camera.resized(size))
        assert psnr(rendering.color, resize(view.image, size)) > 20
