import json

import pytest
import torch
from chunk_factory import make_root
from folder_factory import write_nerfstudio, write_text_model
from PIL import Image

from models.data.chunks import open_chunk
from models.data.report import Report
from models.data.settings import SETTINGS
from models.data.stream import ExampleStream, open_source

SMALL = ("--scenes", 1, "--frames", 6, "--size", "64x36", "-q")


@pytest.mark.parametrize("layout", ["chunks", "scannet", "pairs"])
def test_what_is_made_passes_the_check(nps, tmp_path, layout):
    out = tmp_path / "made"
    assert nps("data", "make", out, "--layout", layout, *SMALL).code == 0
    ran = nps("data", "check", out)
    assert ran.code == 0
    assert all(count.split()[0] == count.split()[2] for count in ran.out.strip().split(", "))
    if layout == "chunks":
        ran = nps("data", "check", out, "--index", out / "evaluation.json")
        assert ran.out == "1 of 1 pairs, 5 of 5 photos\n"


def test_what_is_there_stays_without_force(nps, tmp_path):
    out = make_root(tmp_path / "set")
    before = (out / "train" / "index.json").read_text()
    ran = nps("data", "make", out, *SMALL)
    assert ran.code == 1 and "exists" in ran.err
    assert (out / "train" / "index.json").read_text() == before
    assert nps("data", "make", out, *SMALL, "--force").code == 0
    assert list(json.loads((out / "train" / "index.json").read_text())) == ["train-000"]


def test_folders_become_chunks_that_training_reads(nps, tmp_path):
    write_nerfstudio(tmp_path / "in" / "desk")
    write_text_model(tmp_path / "in" / "door")
    out = tmp_path / "out"
    ran = nps("data", "convert", tmp_path / "in", "-o", out)
    assert ran.code == 0 and "wrote 2 of 2 scenes" in ran.err
    source = open_source(out, SETTINGS["own"], Report())
    batch, report = ExampleStream(sources=(source,), size=(32, 32), batch=2).sample(0)
    assert sorted(batch.keys) == ["desk", "door"] and not report.skipped
    ran = nps("data", "convert", tmp_path / "in" / "door", "-o", out, "--stage", "test")
    assert ran.code == 0 and (out / "test" / "index.json").exists()
    assert nps("data", "check", out).out == "2 of 2 chunks, 3 of 3 scenes, 33 of 33 frames\n"


def test_converted_tests_come_with_an_index_that_evaluation_reads(nps, tmp_path):
    write_nerfstudio(tmp_path / "in" / "desk")
    out = tmp_path / "out"
    ran = nps("data", "convert", tmp_path / "in", "-o", out, "--stage", "test", "--gap", 4)
    index = json.loads((out / "evaluation.json").read_text())
    frames = len(open_chunk(out / "test" / "000000.torch").scenes["desk"])
    left, right = index["desk"]["context"]

    assert ran.code == 0 and right - left == 4 and left in (frames - 5 - left, frames - 6 - left)
    assert index["desk"]["target"] == [left + 1, left + 2, left + 3]
    ran = nps("data", "check", out, "--index", out / "evaluation.json")
    assert ran.out == "1 of 1 pairs, 5 of 5 photos\n"


def test_a_sheet_of_worlds_is_written_whole_and_told_in_numbers(nps, tmp_path):
    arguments = ("data", "sheet", "-o", tmp_path / "sheet.png", "--count", 1, "--size", "48x32")
    ran = nps(*arguments)
    assert ran.code == 0 and "room" in ran.out and "overlap" in ran.out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (2 * (4 * 48 + 8), 32 + 8)
    assert nps(*arguments).code == 1  # exists
    (tmp_path / "empty").mkdir()
    ran = nps(*arguments, "--force", "--panoramas", tmp_path / "empty")
    assert ran.code == 1 and "no .jpg or .png" in ran.err


def test_converting_again_replaces_all_that_was_there(nps, tmp_path):
    out = make_root(tmp_path / "set", scenes=5)
    write_nerfstudio(tmp_path / "in" / "desk")
    arguments = ("data", "convert", tmp_path / "in", "-o", out)
    assert nps(*arguments).code == 1
    assert nps(*arguments, "--force").code == 0
    assert [path.name for path in (out / "train").glob("*.torch")] == ["000000.torch"]
    assert list(open_chunk(out / "train" / "000000.torch").scenes) == ["desk"]


def test_scenes_are_left_out_by_name_and_bad_ones_by_their_fault(nps, tmp_path):
    for name in ("f00", "f01", "f02"):
        write_nerfstudio(tmp_path / "in" / "1K" / name)
    (tmp_path / "in" / "1K" / "f02" / "transforms.json").write_text("{")
    (tmp_path / "benchmark.txt").write_text("f00\n")
    ran = nps(
        *("data", "convert", tmp_path / "in", "-o", tmp_path / "out"),
        *("--exclude", tmp_path / "benchmark.txt"),
    )
    assert ran.code == 0 and "wrote 1 of 2 scenes" in ran.err
    assert "scene 1K/f02" in ran.err and "is not JSON" in ran.err
    assert list(json.loads((tmp_path / "out/train/index.json").read_text())) == ["1K/f01"]


def test_nothing_is_written_when_no_scene_can_be_used(nps, tmp_path):
    write_nerfstudio(tmp_path / "in" / "desk", camera_model="OPENCV_FISHEYE")
    ran = nps("data", "convert", tmp_path / "in", "-o", tmp_path / "out")
    assert ran.code == 1 and "only pinhole" in ran.err
    assert not (tmp_path / "out").exists()
    (tmp_path / "empty").mkdir()
    ran = nps("data", "convert", tmp_path / "empty", "-o", tmp_path / "out")
    assert ran.code == 1 and "transforms.json" in ran.err


def test_the_check_counts_and_names_what_is_bad(nps, tmp_path):
    root = make_root(tmp_path / "set", scenes=6)
    path = root / "train" / "000000.torch"
    entries = torch.load(path, weights_only=True)
    entries[0]["cameras"][2, 7] = torch.nan
    entries[0]["images"][4] = entries[0]["images"][4][:9]
    entries[0]["images"][5] = entries[0]["images"][5][:-200]
    entries[1]["key"] = "z"
    torch.save(entries, path)
    (root / "train" / "000001.torch").write_bytes(b"PK")
    ran = nps("data", "check", root)
    assert ran.code == 3
    assert ran.out.startswith("2 of 3 chunks, 3 of 7 scenes, 34 of 36 frames\n")
    for line in (
        "chunk train/000001.torch: it is truncated",
        "scene train/000001.torch:c: index.json says it is here",
        "scene train/000000.torch:b: index.json says it is here",
        "scene train/000000.torch:z: not here by index.json",
        "frame train/000000.torch:a:2: its pose is not finite",
        "frame train/000000.torch:a:4: its image cannot be decoded",
    ):
        assert line in ran.out
    ran = nps("data", "check", root, "--whole", "--json")
    document = json.loads(ran.out)
    assert document["used"]["frame"] == 33
    assert {"kind", "where", "why", "times"} == set(document["skipped"][0])


def test_what_is_no_data_set_is_refused_with_a_hint(nps, tmp_path):
    ran = nps("data", "check", tmp_path)
    assert ran.code == 1 and "no chunks" in ran.err and "hint" in ran.err
    root = make_root(tmp_path / "set", stage="test")
    (tmp_path / "list.json").write_text("{}")
    ran = nps("data", "check", root, "--index", tmp_path / "list.json", "--dataset", "re11k")
    assert ran.code == 1 and "re10k, acid" in ran.err
    ran = nps("data", "make", tmp_path / "made", "--size", "16x16")
    assert ran.code == 2 and "--size" in ran.err
