"""Depth maps to Gaussians, and the guesses about what no photo shows."""

from dataclasses import replace

import torch
from two_planes_scene import CARD, INTRINSICS, SIZE, WALL, depth_map_at, raytrace

from models.geometry.camera import Camera, camera_rays
from models.geometry.depth_map import DepthMap, contradicted, photometric_agreement
from models.geometry.gaussians import join
from models.geometry.rigid import se3_exponential, to_wxyz
from models.metrics.errors import psnr
from models.render import render
from models.scene.disocclusion import extrapolate, inpaint_disocclusions, outpaint_border
from models.scene.fusion import fuse, splat

SECOND = se3_exponential(torch.tensor([-0.4, 0.05, 0.0, 0.0, -0.1, 0.0]))
BETWEEN = se3_exponential(torch.tensor([-0.2, 0.02, 0.0, 0.0, -0.05, 0.0]))


def everything(posed: DepthMap) -> torch.Tensor:
    return torch.ones_like(posed.depth, dtype=torch.bool)


def test_a_photo_is_rendered_again_from_where_it_was_taken():
    first = depth_map_at(torch.eye(4))
    rendered = render(splat(first, everything(first)), Camera(INTRINSICS, torch.eye(4), SIZE))
    assert psnr(rendered.color, first.image) > 30
    assert rendered.alpha.mean() > 0.95


def test_two_photos_show_what_lies_between_them():
    views = [depth_map_at(torch.eye(4)), depth_map_at(SECOND)]
    truth, _ = raytrace(BETWEEN)
    scene = join([fuse(views), extrapolate(views)])
    rendered = render(scene, Camera(INTRINSICS, BETWEEN, SIZE))
    assert psnr(rendered.color, truth) > 24
    assert rendered.alpha.min() > 0.5
    assert len(scene.without_guesses()) == len(fuse(views))


def test_one_gaussian_per_pixel_at_its_point_in_its_color():
    first = depth_map_at(torch.eye(4))
    scene = splat(first, everything(first))
    points = camera_rays(INTRINSICS, SIZE) * first.depth[..., None]
    torch.testing.assert_close(scene.means, points.flatten(0, 1))
    assert len(scene) == SIZE[0] * SIZE[1] and scene.sh_degree == 0


def test_gaussians_lie_in_a_slanted_surface():
    slanted = torch.linspace(2, 4, SIZE[1]).expand(SIZE)
    first = replace(depth_map_at(torch.eye(4)), depth=slanted)
    scene = splat(first, everything(first))
    w, x, y, z = scene.rotations.T
    normal = torch.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], -1)
    points = scene.means.unflatten(0, SIZE)
    along = (points[96, 150] - points[96, 149]).repeat(2, 1)[0]
    here = normal.unflatten(0, SIZE)[96, 149]
    assert float(along @ here) / float(along.norm()) < 0.01
    thickness = scene.scales[:, 2]
    assert (thickness <= scene.scales[:, 0] + 1e-9).all()


def test_quaternions_are_those_of_the_rotation():
    for twist in torch.randn(20, 3) * 3:
        frame = se3_exponential(torch.cat([torch.zeros(3), twist]))[:3, :3]
        w, x, y, z = to_wxyz(frame[None])[0]
        first_column = torch.stack(
            [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
        )
        torch.testing.assert_close(first_column, frame[:, 0], rtol=0, atol=1e-5)


def test_what_stands_in_the_way_of_a_more_confident_view_is_left_out():
    first, second = depth_map_at(torch.eye(4)), depth_map_at(SECOND)
    wrong = second.depth.clone()
    wrong[80:100, 100:130] = 1.0  # a floater right in front of the second camera
    floating = replace(second, depth=wrong, confidence=torch.full(SIZE, 0.5))

    assert contradicted(floating, first)[80:100, 100:130].all()
    assert contradicted(floating, first).float().mean() < 0.05
    assert not contradicted(replace(floating, confidence=torch.full(SIZE, 2.0)), first).any()


def test_two_views_of_one_surface_agree_and_shifted_ones_do_not():
    first, second = depth_map_at(torch.eye(4)), depth_map_at(SECOND)
    error, overlap = photometric_agreement(first, second)
    worse, _ = photometric_agreement(first, replace(second, depth=second.depth * 1.2))
    assert error < 0.03 and 0.5 < overlap < 0.98
    assert worse > 2 * error


def test_the_background_goes_on_behind_the_edge_of_the_foreground():
    first = depth_map_at(torch.eye(4))
    hidden = inpaint_disocclusions(first, [], cell=4, radius=6)
    assert len(hidden) > 100
    assert (hidden.means[:, 2] - WALL).abs().max() < 0.01
    behind = hidden.means[:, :2] / hidden.means[:, 2:] * CARD
    assert (behind.abs().amax(1) < 0.45).float().mean() > 0.95
    assert (behind.abs().amax(1) < 0.08).sum() == 0  # no further than its reach


def test_no_guess_is_made_where_another_photo_looks():
    first, second = depth_map_at(torch.eye(4)), depth_map_at(SECOND)
    alone, together = outpaint_border(first, []), outpaint_border(first, [second])
    coordinates = alone.means @ INTRINSICS.T
    outside = ((coordinates[:, :2] / coordinates[:, 2:] - 0.5).abs() > 0.499).any(1)
    assert outside.all()
    assert 0 < len(together) < len(alone)


def test_what_is_masked_makes_no_gaussians_and_hides_none():
    first, second = depth_map_at(torch.eye(4)), depth_map_at(SECOND)
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[:, : SIZE[1] // 2] = True
    masked = replace(first, mask=mask)

    assert len(fuse([masked])) == int(mask.sum())
    assert len(extrapolate([masked])) == 0
    nothing = replace(first, mask=torch.zeros_like(mask))
    assert len(fuse([nothing, second])) == len(fuse([second]))
