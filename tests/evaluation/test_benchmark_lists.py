import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from chunk_factory import make_root
from PIL import Image

from models.data.benchmark import load_benchmark, overlap_bin, spread_views
from models.data.chunks import open_chunk
from models.data.report import Report
from models.data.scenes import decode
from models.data.settings import SETTINGS
from models.geometry.rigid import invert

OWN = SETTINGS["own"]


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "set", stage="test")


def listed(root, content, report=None, **more):
    path = root / "index.json"
    path.write_text(json.dumps(content))
    return load_benchmark(root, path, more.pop("settings", OWN), report or Report(), **more)


def entry(**changes):
    return {"context": [2, 6], "target": [3, 4, 5], "overlap": 0.4} | changes


def test_a_pair_has_the_frames_of_the_index_in_the_first_views_frame(root):
    (pair,) = listed(root, {"a": None, "b": entry()})
    scene = open_chunk(root / "test" / "000000.torch").scenes["b"]
    assert [photo.name for photo in pair.views] == ["b/00002", "b/00006"]
    assert [photo.name for photo in pair.targets] == ["b/00003", "b/00004", "b/00005"]
    assert torch.equal(pair.views[0].camera.world2cam, torch.eye(4))
    relative = scene.world2cam[6] @ invert(scene.world2cam[2])
    torch.testing.assert_close(pair.views[1].camera.world2cam, relative)
    assert (pair.views[1].load().image[:, :, 0] == 60 / 255).all()
    assert (pair.scene, pair.difficulty, pair.overlap) == ("b", "medium", 0.4)


def test_a_photo_is_cropped_as_published(root):
    (pair,) = listed(root, {"b": entry()})
    cropped = pair.views[1].load_cropped((24, 24))
    scene = open_chunk(root / "test" / "000000.torch").scenes["b"]
    shrunken = decode(scene.images[6]).resize((43, 24), Image.Resampling.LANCZOS)
    assert torch.equal(
        (cropped.image * 255).byte(), torch.from_numpy(np.array(shrunken))[:, 9:33].permute(2, 0, 1)
    )
    assert cropped.camera.intrinsics[0, 0] == pytest.approx(0.9 * 43 / 24)


def test_a_pair_may_be_handed_to_another_process(root):
    (pair,) = listed(root, {"b": entry()})
    there = pickle.loads(pickle.dumps(pair))
    assert torch.equal(there.views[1].load().image, pair.views[1].load().image)
    assert len(pickle.dumps(pair)) < 10_000  # no image travels along


@pytest.mark.parametrize(
    ("overlap", "group"),
    [
        (0.05, "small"),
        (0.3, "small"),
        (0.3001, "medium"),
        (0.55, "medium"),
        (0.0499, "medium"),
        (-1.0, "medium"),
        (0.5501, "large"),
        (0.8, "large"),
        (0.8001, "ignore"),
    ],
)
def test_overlaps_fall_into_the_published_groups(overlap, group):
    assert overlap_bin(overlap) == group


@pytest.mark.parametrize(
    ("changes", "overlap", "group"),
    [({"overlap": "large"}, 0.75, "large"), ({"overlap": "small"}, 0.25, "small"),
     ({"overlap": None}, 0.25, "small")],
)  # fmt: skip
def test_an_overlap_that_is_no_number_stands_for_one(root, changes, overlap, group):
    (pair,) = listed(root, {"a": entry(**changes)})
    assert (pair.overlap, pair.difficulty) == (overlap, group)
    without = entry()
    del without["overlap"]
    (pair,) = listed(root, {"a": without})
    assert (pair.overlap, pair.difficulty) == (0.25, "small")


def test_further_views_are_spread_evenly_and_truncated(root):
    assert spread_views(3, 8, 3) == (3, 5, 8)
    assert spread_views(10, 3, 4) == (10, 7, 5, 3)
    (pair,) = listed(root, {"a": entry(context=[2, 7])}, views=3)
    assert [photo.name for photo in pair.views] == ["a/00002", "a/00004", "a/00007"]


def test_a_limit_takes_evenly_and_keeps_the_order(root):
    everything = {key: entry() for key in "dcba"}
    assert [pair.id for pair in listed(root, everything)] == ["d", "c", "b", "a"]
    assert [pair.id for pair in listed(root, everything, limit=2)] == ["c", "a"]


def test_pairs_that_cannot_be_used_are_counted_and_named(root):
    path = root / "test" / "000000.torch"
    entries = torch.load(path, weights_only=True)
    entries[0]["cameras"][3, 6:] = torch.nan
    entries[1]["images"][4] = entries[1]["images"][4][:10]
    torch.save(entries, path)
    (root / "test" / "000001.torch").write_bytes(b"")
    report = Report()
    content = {key: entry() for key in ("a", "b", "c", "x")}
    assert listed(root, content, report) == []
    reasons = {skipped.where: skipped.why for skipped in report.skipped}
    assert "frame 3: its pose is not finite" in reasons["a"]
    assert "frame 4: its image cannot be decoded" in reasons["b"]
    assert "cannot be read" in reasons["c"]
    assert "no chunk" in reasons["x"]
    assert sum(skipped.kind == "pair" for skipped in report.skipped) == 4
    assert "truncated" in reasons["test/000001.torch"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"target": [12]}, "names frame 12, but there are 12"),
        ({"context": [-1, 3]}, "names frame -1"),
        ({"context": [2, 2]}, "its baseline is"),
        ({"context": [2]}, "names 1 context frames"),
        ({"context": "no"}, "names frames 'no'"),
        ({"target": [1.5]}, "names frames"),
    ],
)
def test_a_pair_that_makes_no_sense_is_skipped_with_its_reason(root, changes, why):
    report = Report()
    assert len(listed(root, {"a": entry(**changes), "b": entry()}, report)) == 1
    (skipped,) = report.skipped
    assert skipped.where == "a" and why in skipped.why
    assert report.summary() == "1 of 2 pairs"


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (SETTINGS["re10k"], "64x36, not 640x360"),
        (replace(OWN, max_fov_deg=50.0), "58 degrees, more than 50"),
        (replace(OWN, baselines=(0.5, 1.0)), "baseline is 0.4, not between 0.5 and 1"),
    ],
)
def test_the_filters_of_the_data_set_hold(root, settings, why):
    report = Report()
    assert not listed(root, {"a": entry()}, report, settings=settings)
    assert [why in skipped.why for skipped in report.skipped] == [True]


@pytest.mark.parametrize("content", [[], {"a": 3}, {"a": {"context": [0, 1]}}])
def test_what_is_no_index_is_refused(root, content):
    with pytest.raises(ValueError, match="does not map keys"):
        listed(root, content)


def test_a_photo_broken_behind_its_header_says_which_when_it_is_loaded(root):
    path = root / "test" / "000000.torch"
    entries = torch.load(path, weights_only=True)
    entries[0]["images"][3] = entries[0]["images"][3][:200]
    torch.save(entries, path)
    (pair,) = listed(root, {"a": entry()})
    with pytest.raises(ValueError, match=r"000000\.torch: a/00003 cannot be read"):
        pair.targets[0].load()
