"""Facts about procedural worlds: depth, pose and intrinsics describe the images exactly."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from mesh_factory import write_meshes
from PIL import Image

from models.data.augmentation import degrade
from models.data.overlap import covisible, overlap
from models.data.procedural import FAR, KINDS, Assets, WorldBatch, generate
from models.data.procedural.atlas import build_atlas
from models.data.procedural.furniture import make_shapes, place_meshes
from models.data.procedural.indoors import table_top
from models.data.procedural.meshes import load_meshes
from models.data.procedural.random import Rng
from models.data.procedural.raytracing import trace
from models.data.procedural.shading import Appearance
from models.data.procedural.shapes import BOX, RayPackets, Shapes, intersect_shapes, join
from models.data.sheet import make_sheet
from models.data.textures import load_panoramas, load_textures, noise_textures
from models.geometry.camera import Camera, camera_rays
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import rotation_angle, transform_points
from models.geometry.sampling import sample_bilinear

SIZE = (64, 96)
CPU = torch.device("cpu")


def worlds(seed: int, batch: int = 5, difficulty: float = 0.3, views: int = 2) -> WorldBatch:
    generator = torch.Generator().manual_seed(seed)
    textures = noise_textures(8, 32, generator)
    return generate(batch, views, SIZE, textures, generator, CPU, difficulty)


@dataclass(frozen=True)
class Warp:
    """The first views' pixels in the second views."""

    at: torch.Tensor  # coordinates
    inside: torch.Tensor
    ratio: torch.Tensor  # of depths there and as projected

    @property
    def visible(self) -> torch.Tensor:
        return self.inside & ((self.ratio - 1).abs() < 0.01)

    def difference(self, batch: WorldBatch, shift_px: tuple[float, float] = (0, 0)) -> torch.Tensor:
        """Mean difference of colors, the second views moved by pixels."""
        at = self.at + torch.tensor(shift_px) / torch.tensor([SIZE[1], SIZE[0]])
        there = sample_bilinear(batch.images[:, 1], at)
        return (there - batch.images[:, 0].flatten(2)).abs().mean(1)


def warp_into_second(batch: WorldBatch) -> Warp:
    points = batch.cameras[:, 0].unproject(batch.depth[:, 0])
    at, z = batch.cameras[:, 1].project(points.flatten(1, 2))
    inside = (at > 0.03).all(-1) & (at < 0.97).all(-1) & (z > 0)
    inside &= batch.depth[:, 0].flatten(1) < FAR
    return Warp(at, inside, sample_bilinear(batch.depth[:, 1:2], at)[:, 0] / z)


@pytest.fixture(scope="module")
def batch() -> WorldBatch:
    return worlds(seed=1, batch=12)


@pytest.fixture(scope="module")
def warp(batch: WorldBatch) -> Warp:
    return warp_into_second(batch)


def test_depth_warps_the_second_view_onto_the_first(batch: WorldBatch, warp: Warp):
    assert warp.visible.float().mean() > 0.3
    assert warp.difference(batch)[warp.visible].mean() < 0.03


def test_a_pixel_of_shift_in_the_warp_is_noticed(batch: WorldBatch, warp: Warp):
    exact = warp.difference(batch)[warp.visible].mean()
    for shift_px in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        assert warp.difference(batch, shift_px)[warp.visible].mean() > 1.1 * exact


def test_both_views_measure_the_same_surface(warp: Warp):
    ratio = warp.ratio[warp.inside]

    assert ((ratio - 1).abs() < 0.01).float().mean() > 0.6  # the rest is hidden, or at edges
    assert (ratio > 1.05).float().mean() < 0.04  # nothing is seen through


def test_the_first_camera_is_the_world(batch: WorldBatch):
    torch.testing.assert_close(batch.cameras.world2cam[:, 0], torch.eye(4).expand(12, 4, 4))
    rotations = batch.cameras.world2cam[:, 1, :3, :3]
    torch.testing.assert_close(
        rotations @ rotations.mT, torch.eye(3).expand(12, 3, 3), atol=1e-5, rtol=0
    )


def test_views_overlap_and_turn_within_bounds(batch: WorldBatch, warp: Warp):
    angle = rotation_angle(*batch.cameras.world2cam[..., :3, :3].unbind(1))

    assert warp.inside.float().mean(1).quantile(0.2) > 0.3
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
    focal_px = batch.cameras.intrinsics_px.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(focal_px[..., 0], focal_px[..., 1])


def test_harder_means_wider():
    def mean_baseline(difficulty: float) -> float:
        made = worlds(seed=5, batch=24, difficulty=difficulty)
        near = made.depth[:, 0].flatten(1).median(1).values.clamp(max=30)
        return (made.cameras[:, 1].center.norm(dim=-1) / near).mean().item()

    assert mean_baseline(1.0) > 1.5 * mean_baseline(0.0)


def test_three_views_share_a_world():
    made = worlds(seed=6, batch=2, views=3)
    points = made.cameras[:, 2].unproject(made.depth[:, 2])
    in_first = transform_points(points.flatten(1, 2), made.cameras.world2cam[:, 0])
    rays = camera_rays(made.cameras.intrinsics[:, 2], SIZE)

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


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> Assets:
    folder = tmp_path_factory.mktemp("assets")
    sky = Image.new("RGB", (64, 32), (20, 40, 250))
    sky.save(folder / "sky.png")
    meshes = load_meshes(write_meshes(folder / "meshes.npz"))
    textures = noise_textures(8, 32, torch.Generator().manual_seed(0))
    return Assets(textures, load_panoramas(folder, 16), meshes)


def rays_around(count: int) -> RayPackets:
    """Bundles of rays from random places towards the middle of the world."""
    rng = Rng(torch.Generator().manual_seed(3), CPU)
    origins = torch.nn.functional.normalize(rng.normal(count, 3), dim=-1) * 2
    directions = (-origins[..., None] + rng.normal(count, 3, 16) * 0.25).contiguous()
    return RayPackets(torch.zeros(count, dtype=torch.long), origins, directions)


def one_box(assets: Assets) -> tuple[Shapes, Shapes]:
    """The box of the meshes as a mesh, and as a shape of its own, in the same place."""
    rng = Rng(torch.Generator().manual_seed(1), CPU)
    floor, scale = torch.tensor([[[0.1, 0.2, -0.1]]]), torch.ones(1, 1)
    solid = place_meshes(rng, assets.meshes, torch.tensor([0]), floor, scale)
    return solid, replace(solid, kind=torch.full_like(solid.kind, BOX))


def test_rays_meet_a_mesh_of_a_box_where_they_meet_the_box(assets: Assets):
    solid, box = one_box(assets)
    heights, packets = torch.zeros(1, 4, 4), rays_around(60)
    t, shape, triangle = intersect_shapes(solid, heights, packets, meshes=assets.meshes)
    expected, expected_shape, _ = intersect_shapes(box, heights, packets)

    assert 0.1 < (shape == 0).float().mean() < 0.9
    assert (shape != expected_shape).float().mean() < 0.005  # edges
    both = (shape == 0) & (expected_shape == 0)
    torch.testing.assert_close(t[both], expected[both], atol=1e-3, rtol=1e-3)
    assert len(triangle[both].unique()) > 6 and triangle[both].max() < 32


def test_meshes_stand_on_the_floor_in_meters_and_right_side_up(assets: Assets):
    solid, _ = one_box(assets)
    low, high = (solid.center + sign * solid.half for sign in (-1, 1))
    torch.testing.assert_close(high[0, 0, 1], torch.tensor(0.2))  # y points down
    assert (assets.meshes.half[0] - torch.tensor([0.3, 0.2, 0.1])).abs().max() < 1e-3
    assert (low < high).all()
    found = [assets.meshes.find(*bounds).tolist() for bounds in ((0.5, 0.7), (0.8, 1), (3, 4))]
    assert found == [[0], [1], [0, 1]]  # all, where none is of such a size


def test_worlds_with_meshes_and_panoramas_are_as_exact_as_others(assets: Assets):
    generator = torch.Generator().manual_seed(4)
    made = generate(6, 2, SIZE, assets, generator, CPU, 0.3, [2, 1, 1, 1, 0, 1])
    warp = warp_into_second(made)
    ratio = warp.ratio[warp.inside]

    assert ((ratio - 1).abs() < 0.01).float().mean() > 0.5
    assert (ratio[ratio < FAR / 30] > 1.05).float().mean() < 0.06
    assert warp.difference(made)[warp.visible].mean() < 0.04
    sky = made.images[:, 0].movedim(1, -1)[made.depth[:, 0] == FAR]
    assert (sky[:, 2] > sky[:, 0] + 0.2).float().mean() > 0.5  # most skies are the blue panorama


def test_through_an_opening_one_sees_the_sky(assets: Assets):
    pane = make_shapes(
        Rng(torch.Generator().manual_seed(0), CPU), BOX,
        torch.tensor([[[0.0, 0.0, 2.0]]]), torch.tensor([[[1.0, 1.0, 0.1]]]),
    )  # fmt: skip
    shapes = join([replace(pane, opening=~pane.opening), replace(pane, center=pane.center * 2)])
    scenes = replace(table_top(Rng(torch.Generator(), CPU), 1), shapes=shapes)
    appearance = Appearance(build_atlas(assets.textures), torch.zeros(1, 20).long(), torch.ones(1))
    directions = torch.tensor([[[0.0, 5.0], [0.0, 0.0], [1.0, 1.0]]])
    packets = RayPackets(torch.zeros(1).long(), torch.zeros(1, 3), directions)
    t, shape, _ = trace(scenes, appearance, packets)
    assert t.tolist() == [[FAR, FAR]] and shape.tolist() == [[-1, -1]]


def test_overlap_is_what_both_see_and_none_of_it_is_sky():
    depth = torch.full((8, 8), 2.0)
    depth[:2] = FAR
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    world2cam = torch.eye(4)
    world2cam[0, 3] = -1.0  # half of the width of what is seen

    def view(pose: torch.Tensor, depth: torch.Tensor) -> DepthMap:
        camera = Camera(intrinsics, pose, (8, 8))
        return DepthMap(torch.zeros(3, 8, 8), depth, torch.ones(8, 8), camera)

    first = view(torch.eye(4), depth)
    assert overlap(first, first) == 1
    seen = covisible(first, view(world2cam, depth))
    assert seen[2:, 4:].all() and not seen[:, :4].any() and not seen[:2].any()
    assert not covisible(first, view(torch.eye(4), torch.ones(8, 8))).any()  # hidden


def test_a_sheet_shows_every_kind_and_says_what_it_shows(assets: Assets):
    generator = torch.Generator().manual_seed(0)
    sheet, shown = make_sheet(assets, 6, (32, 48), 0.4, 0.5, generator)
    assert [each.kind for each in shown] == list(KINDS)
    assert sheet.shape == (3, 3 * (32 + 8), 2 * (4 * 48 + 8))
    assert all(0 <= each.overlap <= 1 and each.turn_deg < 46 for each in shown)
