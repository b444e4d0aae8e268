"""Facts about procedural worlds: depth, pose and intrinsics describe the images exactly."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from models.camera import camera_rays, invert, project, rotation_angle, transform_points, unproject
from models.data.artifacts import degrade
from models.data.procedural import FAR, WorldBatch, generate
from models.data.textures import load_textures, noise_textures

SIZE = (64, 96)
CPU = torch.device("cpu")


def worlds(seed: int, batch: int = 5, difficulty: float = 0.3, views: int = 2) -> WorldBatch:
    generator = torch.Generator().manual_seed(seed)
    textures = noise_textures(8, 32, generator)
    return generate(batch, views, SIZE, textures, generator, CPU, difficulty)


def seen_from_second(batch: WorldBatch) -> tuple[torch.Tensor, ...]:
    """Where the first view's pixels land in the second, their depth there, and who hits it."""
    points = unproject(batch.depth[:, 0], batch.cam2world[:, 0], batch.intrinsics[:, 0])
    at, z = project(points.flatten(1, 2), invert(batch.cam2world[:, 1]), batch.intrinsics[:, 1])
    inside = (at > 0.03).all(-1) & (at < 0.97).all(-1) & (z > 0)
    return at, z, inside & (batch.depth[:, 0].flatten(1) < FAR)


def look_up(maps: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    grid = (at * 2 - 1)[:, None]
    return torch.nn.functional.grid_sample(maps, grid, align_corners=False)[:, :, 0]


@pytest.fixture(scope="module")
def batch() -> WorldBatch:
    return worlds(seed=1, batch=12)


def test_depth_warps_the_second_view_onto_the_first(batch: WorldBatch):
    at, z, inside = seen_from_second(batch)
    depth_there = look_up(batch.depth[:, 1:2], at)[:, 0]
    visible = inside & ((depth_there / z - 1).abs() < 0.01)
    color_there = look_up(batch.images[:, 1], at)
    difference = (color_there - batch.images[:, 0].flatten(2)).abs().mean(1)

    assert visible.float().mean() > 0.3
    assert difference[visible].mean() < 0.03


def test_a_pixel_of_shift_in_the_warp_is_noticed(batch: WorldBatch):
    at, z, inside = seen_from_second(batch)
    depth_there = look_up(batch.depth[:, 1:2], at)[:, 0]
    visible = inside & ((depth_there / z - 1).abs() < 0.01)

    def error(shift: tuple[float, float]) -> float:
        moved = at + torch.tensor(shift) / torch.tensor([SIZE[1], SIZE[0]])
        difference = (look_up(batch.images[:, 1], moved) - batch.images[:, 0].flatten(2)).abs()
        return difference.mean(1)[visible].mean().item()

    exact = error((0, 0))
    assert all(error(shift) > 1.1 * exact for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)))


def test_both_views_measure_the_same_surface(batch: WorldBatch):
    at, z, inside = seen_from_second(batch)
    depth_there = look_up(batch.depth[:, 1:2], at)[:, 0]
    ratio = (depth_there / z)[inside]

    assert ((ratio - 1).abs() < 0.01).float().mean() > 0.6  # the rest is hidden, or at edges
    assert (ratio > 1.05).float().mean() < 0.04  # nothing is seen through


def test_the_first_camera_is_the_world(batch: WorldBatch):
    torch.testing.assert_close(batch.cam2world[:, 0], torch.eye(4).expand(12, 4, 4))
    rotations = batch.cam2world[:, 1, :3, :3]
    torch.testing.assert_close(
        rotations @ rotations.mT, torch.eye(3).expand(12, 3, 3), atol=1e-5, rtol=0
    )


def test_views_overlap_and_turn_within_bounds(batch: WorldBatch):
    _, _, inside = seen_from_second(batch)
    angle = rotation_angle(batch.cam2world[:, 0, :3, :3], batch.cam2world[:, 1, :3, :3])

    assert inside.float().mean(1).quantile(0.2) > 0.3
    assert angle.rad2deg().quantile(0.9) < 46


def test_cameras_keep_away_from_things(batch: WorldBatch):
    depth = torch.where(batch.depth < FAR, batch.depth, torch.nan).flatten(2)
    nearest = depth.nan_to_num(FAR).amin(-1) / depth.nanmedian(-1).values

    assert nearest.quantile(0.1) > 0.08


def test_the_same_generator_state_makes_the_same_worlds():
    first, second = worlds(seed=3, batch=2), worlds(seed=3, batch=2)
    other = worlds(seed=4, batch=2)

    assert torch.equal(first.images, second.images)
    assert torch.equal(first.depth, second.depth)
    assert not torch.equal(first.images, other.images)


def test_images_are_colors_and_depth_is_positive(batch: WorldBatch):
    assert batch.images.shape == (12, 2, 3, *SIZE)
    assert batch.images.min() >= 0 and batch.images.max() <= 1
    assert batch.depth.min() > 0 and batch.depth.max() <= FAR
    assert batch.images.std(dim=(2, 3, 4)).min() > 0.01


def test_pixels_are_square(batch: WorldBatch):
    focal_px = batch.intrinsics.diagonal(dim1=-2, dim2=-1)[..., :2] * torch.tensor(
        [SIZE[1], SIZE[0]]
    )
    torch.testing.assert_close(focal_px[..., 0], focal_px[..., 1])


def test_harder_means_wider():
    def mean_baseline(difficulty: float) -> float:
        made = worlds(seed=5, batch=24, difficulty=difficulty)
        near = made.depth[:, 0].flatten(1).median(1).values.clamp(max=30)
        return (made.cam2world[:, 1, :3, 3].norm(dim=-1) / near).mean().item()

    assert mean_baseline(1.0) > 1.5 * mean_baseline(0.0)


def test_three_views_share_a_world():
    made = worlds(seed=6, batch=2, views=3)
    points = unproject(made.depth[:, 2], made.cam2world[:, 2], made.intrinsics[:, 2])
    in_first = transform_points(points.flatten(1, 2), invert(made.cam2world[:, 0]))
    rays = camera_rays(made.intrinsics[:, 2], SIZE)

    assert made.images.shape[1] == 3
    assert rays.shape == (2, *SIZE, 3)
    assert in_first[..., 2].median() > 0


def test_a_degraded_photo_still_shows_the_same_pixels_in_the_same_places():
    ramp = torch.linspace(0, 1, 40).expand(1, 2, 3, 24, 40).contiguous()
    generator = torch.Generator().manual_seed(0)

    mild = degrade(ramp, generator, strength=0.0)
    rough = degrade(ramp, generator, strength=1.0)

    torch.testing.assert_close(mild, ramp, atol=0.03, rtol=0)
    along = torch.corrcoef(torch.stack([rough[0, 0].mean((0, 1)), ramp[0, 0, 0, 0]]))[0, 1]
    assert along > 0.98
    assert (rough - ramp).abs().mean() > 0.01
    assert not torch.equal(rough[:, 0], rough[:, 1])  # every view has its own


def test_textures_come_from_a_folder(tmp_path: Path):
    generator = torch.Generator().manual_seed(0)
    red = Image.new("RGB", (40, 20), (255, 0, 0))
    red.paste((0, 255, 0), (0, 0, 10, 20))  # outside the central square
    red.save(tmp_path / "red.png")

    textures = load_textures(tmp_path, 5, 16, generator)

    assert textures.shape == (1, 3, 16, 16)
    assert textures[0, 0].min() > 0.95 and textures[0, 1].max() < 0.05


def test_an_empty_folder_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no \.jpg or \.png"):
        load_textures(tmp_path, 5, 16, torch.Generator())
