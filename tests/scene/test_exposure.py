"""Photos of one place get the colors of the first, whatever their exposure was."""

from dataclasses import replace

import torch
from two_planes_scene import depth_map_at

from models.geometry.depth_map import DepthMap
from models.geometry.rigid import se3_exponential
from models.scene.exposure import compensate_exposure

SECOND = se3_exponential(torch.tensor([-0.4, 0.05, 0.0, 0.0, -0.1, 0.0]))
ELSEWHERE = se3_exponential(torch.tensor([0.0, 0.0, 0.0, 0.0, 2.5, 0.0]))
GAIN, OFFSET = torch.tensor([0.8, 0.7, 0.9]), torch.tensor([0.05, 0.1, 0.0])


def darkened(posed: DepthMap) -> DepthMap:
    return replace(posed, image=posed.image * GAIN[:, None, None] + OFFSET[:, None, None])


def test_a_darker_second_photo_gets_the_colors_of_the_first():
    first, second = depth_map_at(torch.eye(4)), depth_map_at(SECOND)
    compensated = compensate_exposure([first, darkened(second)])
    assert (darkened(second).image - second.image).abs().mean() > 0.05
    assert (compensated[1].image - second.image).abs().mean() < 0.015
    assert torch.equal(compensated[0].image, first.image)
    assert torch.equal(compensated[1].depth, second.depth)


def test_a_highlight_in_one_photo_does_not_change_the_rest():
    first, second = depth_map_at(torch.eye(4)), depth_map_at(SECOND)
    image = darkened(second).image.clone()
    image[:, 60:110, 80:140] = 1.0
    compensated = compensate_exposure([first, replace(second, image=image)])
    rest = (compensated[1].image - second.image).abs().mean(0)
    assert rest[120:].mean() < 0.025


def test_photos_that_share_nothing_stay_as_they_are():
    first, second = depth_map_at(torch.eye(4)), depth_map_at(torch.eye(4))
    second = replace(second, camera=replace(second.camera, world2cam=ELSEWHERE))
    assert torch.equal(compensate_exposure([first, second])[1].image, second.image)
