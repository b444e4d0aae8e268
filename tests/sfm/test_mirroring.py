import pytest
import torch
from torch.nn.functional import interpolate

from models.geometry.camera import Camera
from models.geometry.views import View
from models.sfm.mirroring import find_mirrored_pairs, mirror


@pytest.fixture(scope="module")
def views() -> list[View]:
    """Two cameras that look at far and at near texture, a step apart."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 40, 60, generator=generator)
    texture = interpolate(coarse, size=(320, 480), mode="bicubic").clamp(0, 1)[0]
    intrinsics = torch.tensor([[1.0, 0, 0.45], [0, 4 / 3, 0.5], [0, 0, 1]])
    camera = Camera(intrinsics, torch.eye(4), (240, 320))
    shifts = (40, 40), (48, 60)  # of the upper and of the lower half, in both views
    images = [
        torch.cat([texture[:, 40:160, far : far + 320], texture[:, 160:280, near : near + 320]], 1)
        for far, near in shifts
    ]
    return [View(image, camera) for image in images]


def test_a_mirrored_photo_is_found_on_either_side(views):
    first, second = views

    assert find_mirrored_pairs([first, mirror(second)]) == [(0, 1)]
    assert find_mirrored_pairs([mirror(first), second]) == [(0, 1)]


def test_photos_as_they_are_and_photos_that_are_both_mirrored_agree(views):
    assert find_mirrored_pairs(views) == []
    assert find_mirrored_pairs([mirror(view) for view in views]) == []


def test_photos_of_different_things_are_not_mirrored(views):
    noise = torch.rand(1, 3, 30, 40, generator=torch.Generator().manual_seed(4))
    other = View(
        interpolate(noise, size=(240, 320), mode="bicubic")[0].clamp(0, 1), views[0].camera
    )

    assert find_mirrored_pairs([views[0], other]) == []


def test_a_mirror_image_has_its_principal_point_on_the_other_side(views):
    mirrored = mirror(views[0])

    assert mirrored.camera.intrinsics[0, 2].item() == pytest.approx(0.55)
    assert mirrored.image.flip(-1).equal(views[0].image)
    assert mirror(mirrored).camera.intrinsics.equal(views[0].camera.intrinsics)
