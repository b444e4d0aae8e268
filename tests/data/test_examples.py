from dataclasses import replace

import numpy as np
import pytest
import torch
from chunk_factory import encode, make_scene
from PIL import Image

from models.data.crop import crop_camera, rescale_and_crop
from models.data.examples import check_fov, collate, make_example, normalize_poses
from models.data.sampling import Sample
from models.data.scenes import Scene
from models.data.settings import SETTINGS
from models.geometry.camera import Camera
from models.geometry.rigid import invert

OWN = SETTINGS["own"]
SAMPLE = Sample((2, 5), (3, 4, 2))


def photo(height: int, width: int) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("old", "size", "whole", "corner"),
    [
        ((360, 640), (256, 256), (256, 455), (0, 99)),
        ((270, 480), (256, 256), (256, 455), (0, 99)),
        ((720, 1280), (512, 512), (512, 910), (0, 199)),
        ((300, 256), (256, 256), (300, 256), (22, 0)),
        ((256, 256), (256, 256), (256, 256), (0, 0)),
        ((401, 299), (96, 160), (215, 160), (59, 0)),
    ],
)
def test_a_crop_is_that_of_the_whole_image_resized_by_lanczos(old, size, whole, corner):
    image = photo(*old)
    resized = np.asarray(image.resize(whole[::-1], Image.Resampling.LANCZOS))
    top, left = corner
    expected = resized[top : top + size[0], left : left + size[1]]
    assert np.array_equal(rescale_and_crop(image, size).permute(1, 2, 0), expected)
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    flipped = rescale_and_crop(mirrored, size, flip=True)
    assert torch.equal(flipped, rescale_and_crop(image, size))


def test_a_crop_changes_focal_lengths_and_leaves_the_published_principal_point():
    intrinsics = torch.tensor([[0.9, 0, 0.52], [0, 1.6, 0.5], [0, 0, 1]])
    camera = Camera(intrinsics, torch.eye(4), (360, 640))
    cropped = crop_camera(camera, (256, 256), move_center=False)
    expected = torch.tensor([[0.9 * 455 / 256, 0, 0.52], [0, 1.6, 0.5], [0, 0, 1]])
    torch.testing.assert_close(cropped.intrinsics, expected)
    assert cropped.size == (256, 256)


def test_a_moved_principal_point_projects_points_where_the_crop_shows_them():
    intrinsics = torch.tensor([[0.9, 0, 0.6], [0, 1.6, 0.45], [0, 0, 1]])
    camera = Camera(intrinsics, torch.eye(4), (512, 1024))
    cropped = crop_camera(camera, (256, 256), move_center=True)
    points = torch.tensor([[0.1, 0.2, 2.0], [-0.1, -0.1, 1.5]])
    before, _ = camera.project(points)
    after, _ = cropped.project(points)
    torch.testing.assert_close(after[:, 0] * 256, before[:, 0] * 512 - 128)
    torch.testing.assert_close(after[:, 1], before[:, 1])


def test_an_image_is_never_enlarged():
    with pytest.raises(ValueError, match="64x36, smaller than 64x64"):
        rescale_and_crop(photo(36, 64), (64, 64))


def test_the_first_view_is_the_world_and_the_last_context_view_is_one_away():
    scene = make_scene("a")
    example = make_example(scene, SAMPLE, OWN, (32, 32))
    torch.testing.assert_close(example.cameras.world2cam[0], torch.eye(4))
    assert example.scale == pytest.approx(0.3, rel=1e-5)
    centers = example.cameras.center
    assert centers[1].norm() == pytest.approx(1)
    assert centers[2].norm() == pytest.approx(1 / 3, rel=1e-4)  # frame 3, a third of the way
    torch.testing.assert_close(
        example.cameras.world2cam[4], torch.eye(4)
    )  # a target may be a context view
    relative = scene.world2cam[5] @ invert(scene.world2cam[2])
    torch.testing.assert_close(example.cameras.world2cam[1, :3, :3], relative[:3, :3])


def test_a_batch_tells_context_views_from_targets():
    scene = make_scene("a")
    examples = [make_example(scene, SAMPLE, OWN, (36, 64)) for _ in range(2)]
    batch = collate(examples, context=2)
    assert batch.images.shape == (2, 2, 3, 36, 64) and batch.target_images.shape == (
        2,
        3,
        3,
        36,
        64,
    )
    frames = (batch.target_images[:, :, 0, 0, 0] * 255 / 10).round()
    assert frames.tolist() == [[3, 4, 2], [3, 4, 2]]
    assert batch.keys == ("a", "a")
    assert batch.scale.tolist() == pytest.approx([0.3, 0.3])
    torch.testing.assert_close(batch.target_cameras.world2cam[0], examples[0].cameras.world2cam[2:])


def test_a_mirrored_example_shows_mirrored_points():
    scene = make_scene("a")
    scene = replace(
        scene, intrinsics=scene.intrinsics + torch.tensor([0, 0, 0.03]) * torch.eye(3)[0][:, None]
    )
    plain = make_example(scene, SAMPLE, OWN, (36, 64))
    mirrored = make_example(scene, SAMPLE, OWN, (36, 64), flip=True)
    assert torch.equal(mirrored.pixels, plain.pixels.flip(3))
    points = (torch.rand(20, 3) + torch.tensor([0.0, 0.0, 3.0])).expand(5, 20, 3)
    seen, depth = plain.cameras.project(points)
    in_mirror = points * torch.tensor([-1.0, 1, 1])
    seen_mirrored, depth_mirrored = mirrored.cameras.project(in_mirror)
    torch.testing.assert_close(seen_mirrored[..., 0], 1 - seen[..., 0])
    torch.testing.assert_close(seen_mirrored[..., 1], seen[..., 1])
    torch.testing.assert_close(depth_mirrored, depth)


@pytest.mark.parametrize("focal", [(0.3, 2.0), (2.0, 0.3)])
def test_a_view_wider_than_allowed_is_refused(focal):
    intrinsics = torch.tensor([[focal[0], 0, 0.5], [0, focal[1], 0.5], [0, 0, 1]])[None]
    with pytest.raises(ValueError, match="sees 118 degrees, more than 100"):
        check_fov(intrinsics, 100.0)
    check_fov(intrinsics, 120.0)


@pytest.mark.parametrize("bounds", [(0.31, 1.0), (0.0, 0.29)])
def test_a_baseline_out_of_range_is_refused(bounds):
    world2cam = make_scene("a").world2cam[[2, 5, 3]]
    normalize_poses(world2cam, 2, (0.29, 0.31))
    with pytest.raises(ValueError, match=r"its baseline is 0\.3, not between"):
        normalize_poses(world2cam, 2, bounds)


def test_two_photos_from_one_spot_are_refused_by_all_settings():
    scene = make_scene("a")
    scene = replace(scene, world2cam=scene.world2cam[:1].repeat(12, 1, 1))
    for settings in SETTINGS.values():
        with pytest.raises(ValueError, match="its baseline is 0"):
            make_example(scene, SAMPLE, replace(settings, shape=None), (32, 32))


def test_an_image_of_another_shape_is_refused_where_that_is_set():
    with pytest.raises(ValueError, match="frame 2: its image is 64x36, not 640x360"):
        make_example(make_scene("a"), SAMPLE, SETTINGS["re10k"], (32, 32))


def test_a_broken_image_is_named_by_its_frame():
    scene = make_scene("a")
    images = list(scene.images)
    images[4] = encode(np.zeros((36, 64, 3), dtype=np.uint8))[:60]
    broken = Scene("a", tuple(images), scene.intrinsics, scene.world2cam)
    with pytest.raises(ValueError, match="frame 4: its image cannot be decoded"):
        make_example(broken, SAMPLE, OWN, (32, 32))
