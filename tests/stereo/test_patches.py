"""What a pretrained encoder says of patches moves matches that are not sure, and no others."""

import pytest
import torch
from torch.nn import functional
from two_planes_scene import INTRINSICS, SECOND, SIZE, raytrace

from models.geometry.camera import Camera
from models.geometry.views import View
from models.network.config import Dinov2Config
from models.network.dinov2 import Dinov2
from models.stereo.depth import estimate_depths
from models.stereo.network import StereoConfig, StereoNetwork
from models.stereo.patches import describe_patches

FAINT = 0.005  # of the contrast: less than matching by colors takes for texture


class ColorEncoder(Dinov2):
    """Tells patches by their colors, from which the photos' own contrast was taken."""

    def __init__(self, gain: float) -> None:
        super().__init__(Dinov2Config(width=64, depth=1))
        self.gain = gain
        self.frequencies = 6 * torch.randn(32, 3, generator=torch.Generator().manual_seed(0))

    def forward(self, images: torch.Tensor, layers: tuple[int, ...]) -> torch.Tensor:
        colors = functional.avg_pool2d(images - 0.5, 14).flatten(2).mT * self.gain
        angles = colors @ self.frequencies.T
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


def views(contrast: float) -> list[View]:
    return [
        View(0.5 + contrast * (raytrace(pose)[0] - 0.5), Camera(INTRINSICS, pose, SIZE))
        for pose in (torch.eye(4), SECOND)
    ]


def depths(contrast: float, encoder: Dinov2 | None) -> torch.Tensor:
    points = torch.zeros(0, 3), torch.zeros(2, 0, 2)
    torch.manual_seed(0)
    network = StereoNetwork(StereoConfig()).eval()
    with torch.no_grad():
        found = estimate_depths(views(contrast), [(1.5, 5.0)] * 2, *points, network, encoder)
    return torch.stack([each.depth for each in found])


@pytest.fixture(scope="module")
def truth():
    return torch.stack([raytrace(pose)[1] for pose in (torch.eye(4), SECOND)])


def share_right(found: torch.Tensor, truth: torch.Tensor) -> float:
    return float(((found - truth).abs() < 0.1 * truth).float().mean())


def test_surfaces_without_texture_are_found_by_what_the_encoder_tells_apart(truth):
    blind = share_right(depths(FAINT, None), truth)
    seeing = share_right(depths(FAINT, ColorEncoder(1 / FAINT)), truth)
    assert seeing > blind + 0.2, (blind, seeing)


def test_depth_edges_of_textured_things_stay_where_they_are(truth):
    before, after = depths(1.0, None), depths(1.0, ColorEncoder(1.0))
    assert share_right(after, truth) > share_right(before, truth) - 0.01


def test_an_encoder_that_sees_no_difference_changes_nothing():
    torch.testing.assert_close(depths(1.0, ColorEncoder(0.0)), depths(1.0, None))


def test_descriptions_are_unit_vectors_of_weight_1_and_alike_for_the_same_place():
    first, second = (each.image for each in views(1.0))
    same, again, other = describe_patches(
        [View(image, Camera(INTRINSICS, SECOND, SIZE)) for image in (first, first, second)],
        ColorEncoder(1.0),
    )
    assert same.shape == (1, 49, SIZE[0] // 8, SIZE[1] // 8)
    torch.testing.assert_close(same[:, :-1].norm(dim=1), torch.ones(1, *same.shape[2:]))
    assert (same[:, -1] == 1).all() and torch.equal(same, again) and not torch.equal(same, other)
