"""Scenes are compared with photos as photos are made: a pixel is the average of what fell on it."""

import torch
from card_world import INTRINSICS, SIZE, photograph

from models.evaluation.novel_views import Square, score_views
from models.geometry.views import crop_to_aspect, resize
from models.scene.fusion import PosedDepth, splat


def test_a_scene_finer_than_the_picture_is_averaged_not_sampled():
    image, depth = photograph(torch.eye(4))
    first = PosedDepth(image, depth, torch.ones(SIZE), INTRINSICS, torch.eye(4))
    scene = splat(first, torch.ones(SIZE, dtype=torch.bool))
    cropped, intrinsics = crop_to_aspect(image, INTRINSICS, 1.0)
    small = resize(cropped, (SIZE[0] // 2, SIZE[0] // 2))
    square = Square("first", small, intrinsics, torch.eye(4))
    sampled, averaged = (
        score_views(scene, [square], unit=1.0, align=False, lpips=None, detail=detail).first_view
        for detail in (1, 2)
    )
    assert averaged.psnr > sampled.psnr + 2
    assert averaged.ssim > sampled.ssim
