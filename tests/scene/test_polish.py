"""A scene that is polished looks more like its photos, and stays nearly as it was."""

from dataclasses import replace

import torch
from two_planes_scene import FIRST_CAMERA, SECOND_CAMERA, depth_map_at

from models.geometry.gaussians import Gaussians
from models.render import render
from models.scene.fusion import fuse
from models.scene.polish import polish


def error(scene: Gaussians, views: list) -> float:
    colors = [(render(scene, view.camera).color - view.image).square().mean() for view in views]
    return float(torch.stack(colors).mean())


def test_a_polished_scene_looks_more_like_its_photos_and_keeps_its_marks():
    cameras = (FIRST_CAMERA, SECOND_CAMERA)
    views = [depth_map_at(camera.world2cam) for camera in cameras]
    scene = fuse(views)
    guessed = torch.arange(len(scene)) % 2 == 0
    scene = replace(scene, guessed=guessed, harmonics=scene.harmonics + 0.1)
    with torch.no_grad():
        polished = polish(scene, views, steps=6)
    assert error(polished, views) < 0.9 * error(scene, views)
    assert torch.equal(polished.guessed, guessed) and not polished.means.requires_grad
    assert (polished.means / scene.means - 1).abs().nanmedian() < 0.002


def test_what_a_photo_does_not_show_changes_nothing():
    view = depth_map_at(torch.eye(4))
    cut_out = replace(view, image=1 - view.image, mask=torch.zeros_like(view.depth, dtype=bool))
    scene = fuse([view])
    torch.testing.assert_close(polish(scene, [cut_out], steps=2).harmonics, scene.harmonics)
