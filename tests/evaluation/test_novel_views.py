"""Scenes are compared with photos as photos are made: a pixel is the average of what fell on it."""

import torch
from two_planes_scene import SIZE, depth_map_at

from models.evaluation.novel_views import score_views
from models.geometry.views import View, crop_to_aspect
from models.scene.fusion import splat


def test_a_scene_finer_than_the_picture_is_averaged_not_sampled():
    first = depth_map_at(torch.eye(4))
    view = View(first.image, first.camera)
    scene = splat(first, torch.ones(SIZE, dtype=torch.bool))
    square = crop_to_aspect(view, 1.0).resized((SIZE[0] // 2, SIZE[0] // 2))
    sampled, averaged = (
        score_views(scene, [square], align=False, lpips=None, factor=factor).posed[0]
        for factor in (1, 2)
    )
    assert averaged.psnr > sampled.psnr + 2
    assert averaged.ssim > sampled.ssim
