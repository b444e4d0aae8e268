"""The container of Gaussians keeps its fields in step."""

from dataclasses import replace

import pytest
import torch
from random_gaussians import random_gaussians

from models.geometry.gaussians import PARAMETERS, SH_DEGREE_0, join, rescale
from models.geometry.spherical_harmonics import real_harmonics


@pytest.mark.parametrize("degree", range(5))
def test_the_degree_follows_from_the_number_of_coefficients(degree: int):
    assert random_gaussians(3, degree).sh_degree == degree


def test_the_constant_harmonic_is_the_function_of_degree_zero():
    assert real_harmonics(torch.tensor([0.0, 0, 1]), 0).item() == pytest.approx(SH_DEGREE_0)


def test_joining_selections_gives_the_whole():
    scene = random_gaussians(10, 1)
    keep = torch.arange(10) < 4
    parts = join([scene.select(keep), scene.select(~keep)])
    assert len(scene.select(keep)) == 4 and len(parts) == 10
    for name in PARAMETERS:
        assert torch.equal(getattr(parts, name), getattr(scene, name))


def test_marks_of_guesses_follow_their_gaussians():
    scene = random_gaussians(6, 0)
    guesses = replace(scene, guessed=torch.ones(6, dtype=torch.bool))
    both = join([scene, guesses])
    assert both.guessed.tolist() == [False] * 6 + [True] * 6
    assert both.at(slice(5, 7)).guessed.tolist() == [False, True]
    seen = both.without_guesses()
    assert torch.equal(seen.means, scene.means) and seen.guessed is None
    assert scene.without_guesses() is scene and join([scene, scene]).guessed is None


def test_a_larger_scene_has_larger_gaussians_farther_away():
    scene = random_gaussians(5, 1)
    larger = rescale(scene, 3.0)
    torch.testing.assert_close(larger.means, 3 * scene.means)
    torch.testing.assert_close(larger.scales, 3 * scene.scales)
    assert torch.equal(larger.rotations, scene.rotations)


def test_a_copy_goes_to_a_device_whole():
    copy = random_gaussians(5, 1).to(torch.device("meta"))
    assert {getattr(copy, name).device.type for name in PARAMETERS} == {"meta"}
