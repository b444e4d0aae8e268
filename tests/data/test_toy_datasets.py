import shutil

import numpy as np
import pytest
import torch

from models.data import toy_datasets
from models.data.benchmark import load_benchmark, overlap_bin
from models.data.chunks import open_chunk
from models.data.overlap import overlap
from models.data.pairs import load_pairs
from models.data.report import Report
from models.data.scannet import load_scannet
from models.data.settings import SETTINGS
from models.data.stream import ExampleStream, open_source
from models.data.textures import load_assets
from models.geometry.camera import Camera, project, to_pixels
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import invert

OPTIONS = toy_datasets.ToyOptions(scenes=2, frames=6, size=(36, 64), targets=2)


@pytest.fixture(scope="module")
def textures():
    return load_assets(None, None, None, 20, 64, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def chunks(tmp_path_factory, textures):
    root = tmp_path_factory.mktemp("chunks")
    toy_datasets.make_chunks(root, OPTIONS, textures)
    return root


@pytest.fixture(scope="module")
def made_scannet(tmp_path_factory, textures):
    root = tmp_path_factory.mktemp("scannet")
    toy_datasets.make_scannet(root, OPTIONS, textures)
    return root


@pytest.fixture
def scannet(tmp_path, made_scannet):
    """One that a test may harm."""
    return shutil.copytree(made_scannet, tmp_path / "scannet")


def test_chunk_factory_are_trained_on_without_anything_being_skipped(chunks):
    report = Report()
    source = open_source(chunks, SETTINGS["own"], report)
    batch, skipped = ExampleStream(sources=(source,), size=(32, 32), batch=4).sample(0)
    assert set(batch.keys) == {"train-000", "train-001"}
    assert not report.skipped and not skipped.skipped
    assert batch.images.std() > 0.05


def test_made_pairs_are_evaluated_on_with_overlaps_that_were_measured(chunks):
    report = Report()
    pairs = load_benchmark(chunks, chunks / toy_datasets.INDEX, SETTINGS["own"], report)
    assert report.summary() == "2 of 2 pairs"
    for pair in pairs:
        assert len(pair.targets) == 2 and 0 <= pair.overlap <= 1
        assert pair.difficulty == overlap_bin(pair.overlap)


def test_the_same_seed_makes_the_same_and_stages_differ(chunks, tmp_path, textures):
    toy_datasets.make_chunks(tmp_path, OPTIONS, textures)
    again, first = (open_chunk(root / "train" / "000000.torch") for root in (tmp_path, chunks))
    other = open_chunk(chunks / "test" / "000000.torch")
    assert torch.equal(again.scenes["train-001"].images[3], first.scenes["train-001"].images[3])
    assert not torch.equal(first.scenes["train-001"].world2cam, other.scenes["test-001"].world2cam)


def test_frames_lie_along_a_path(chunks):
    scene = open_chunk(chunks / "train" / "000000.torch").scenes["train-000"]
    centers = invert(scene.world2cam)[:, :3, 3]
    along = centers @ (centers[-1] - centers[0])
    assert along[0] == along.min() and along[-1] == along.max()
    assert (along[1:] - along[:-1]).median() > 0


def facing_a_wall(shift: float, turn_away: bool = False, depth: float = 1.0) -> DepthMap:
    """A camera one unit in front of a wall that shows one unit of it."""
    world2cam = torch.eye(4)
    world2cam[0, 3] = -shift
    if turn_away:
        world2cam[0, 0] = world2cam[2, 2] = -1
    intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    camera, certain = Camera(intrinsics, world2cam, (40, 40)), torch.ones(40, 40)
    return DepthMap(torch.zeros(3, 40, 40), torch.full((40, 40), depth), certain, camera)


@pytest.mark.parametrize(("shift", "share"), [(0.0, 1.0), (0.25, 0.75), (0.9, 0.1), (2.0, 0.0)])
def test_overlap_is_the_share_that_both_frames_show(shift, share):
    assert overlap(facing_a_wall(0), facing_a_wall(shift)) == pytest.approx(share, abs=0.01)


def test_nothing_overlaps_with_a_camera_that_looks_away_or_is_covered():
    first = facing_a_wall(0.0)
    assert overlap(first, facing_a_wall(0.0, turn_away=True)) == 0
    assert overlap(first, facing_a_wall(0.0, depth=0.5)) == 0  # a thing before the second camera


def test_made_photos_like_scannets_have_poses_and_an_off_center_principal_point(scannet):
    report = Report()
    pairs = load_scannet(scannet, report)
    assert report.summary() == "2 of 2 pairs"
    for pair in pairs:
        assert pair.id.startswith(f"{pair.scene}/") and not pair.targets
        assert torch.equal(pair.views[0].camera.world2cam, torch.eye(4))
        assert pair.views[1].camera.world2cam[:3, 3].norm() > 0
        assert pair.views[0].load().image.shape == (3, 36, 64)
        center = pair.views[0].camera.intrinsics[:2, 2] * torch.tensor([64, 36])
        torch.testing.assert_close(center, torch.tensor([34.0, 20.0]))


def test_a_scannet_crop_has_its_principal_point_in_the_middle_and_shows_what_it_says(scannet):
    photo = load_scannet(scannet, Report())[0].views[0]
    assert photo.shift == (-2, -2)
    cropped = photo.load_cropped((36, 36))
    torch.testing.assert_close(cropped.camera.intrinsics[:2, 2], torch.tensor([0.5, 0.5]))
    whole = photo.load().image
    pixel = torch.tensor([32.5 / 64, 18.5 / 36, 1])
    point = (torch.linalg.inv(photo.camera.intrinsics) @ pixel)[None]
    after, _ = project(point, torch.eye(4), cropped.camera.intrinsics)
    column, row = (after[0] * 36).long().tolist()
    torch.testing.assert_close(cropped.image[:, row, column], whole[:, 18, 32])
    assert (cropped.image[:, -2:] == 0).all()  # nothing is left there


def change_list(root, change):
    with np.load(root / "test.npz") as arrays:
        content = {name: arrays[name] for name in arrays.files}
    change(content)
    np.savez(root / "test.npz", **content)


def test_bad_pairs_of_scannet_are_counted_and_named(scannet):
    def harm(content):
        content["rel_pose"] = np.concatenate([content["rel_pose"]] * 3)
        content["name"] = np.concatenate([content["name"]] * 3)
        content["rel_pose"][0, 3] = np.nan
        content["rel_pose"][1, [3, 7, 11]] = 0
        content["name"][2, 0] = 1
        content["name"][3, 3] = 99

    change_list(scannet, harm)
    report = Report()
    assert len(load_scannet(scannet, report)) == 2
    reasons = " ".join(sorted(skipped.why for skipped in report.skipped))
    for why in ("not finite", "stand on one point", "intrinsic_color.txt", "99.jpg cannot be read"):
        assert why in reasons
    assert len(load_scannet(scannet, Report(), limit=1)) in (0, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("rel_pose"),
        lambda content: content.update(rel_pose=content["rel_pose"][:1]),
        lambda content: content.update(name=np.array([{"code": 1}])),
    ],
)
def test_a_list_that_is_not_scannets_is_refused(scannet, change):
    change_list(scannet, change)
    with pytest.raises(ValueError, match=r"test\.npz"):
        load_scannet(scannet, Report())


def test_made_pairs_json_is_read_as_any_other(tmp_path, textures):
    toy_datasets.make_pairs(tmp_path, OPTIONS, textures)
    pairs = load_pairs(tmp_path / "pairs.json")
    assert len(pairs) == 2
    for pair in pairs:
        assert len(pair.targets) == 2
        assert pair.views[0].load().image.shape == (3, 36, 64)
        focal = to_pixels(pair.views[0].camera.intrinsics, (36, 64))
        assert focal[0, 0] == pytest.approx(float(focal[1, 1]), rel=1e-4)
