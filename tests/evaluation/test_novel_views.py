"""Scenes are compared with photos as photos are made: a pixel is the average of what fell on it."""

import torch
from two_planes_scene import INTRINSICS, SIZE, photograph

from models.evaluation.novel_views import Square, score_views
from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.geometry.views import crop_to_aspect, resize
from models.scene.fusion import splat


def test_a_scene_finer_than_the_picture_is_averaged_not_sampled():
    image, depth = photograph(torch.eye(4))
    first = DepthMap(image, depth, torch.ones(SIZE), Camera(INTRINSICS, torch.eye(4), SIZE))
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
