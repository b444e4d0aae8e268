import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.camera import se3_exponential
from models.reconstruct import Reconstruction
from models.weights import WeightsInfo
from nps_cli.commands import evaluate as command

SIZE = (24, 32)
TWISTS = [[0.0] * 6, [-0.2, 0, 0, 0, 0.05, 0], [0.1, -0.2, 0, 0, 0, 0]]
WORLD2CAM = torch.stack([se3_exponential(torch.tensor(twist)) for twist in TWISTS])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two pairs of two scenes, with a target each, and a triple; the photos are random."""
    names = ["a.png", "b.png", "c.png"]
    for name in names:
        pixels = (torch.rand(*SIZE, 3) * 255).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / name)
    size, intrinsics = [SIZE[1], SIZE[0]], [[30.0, 0, 16], [0, 30, 12], [0, 0, 1]]
    entries = []
    for name, count in (("desk/1", 2), ("door_1", 2), ("three", 3)):
        entry = {"id": name, "scene": name[:4], "difficulty": "hard", "images": names[:count]}
        entry |= {"size": [size] * count, "K": [intrinsics] * count}
        entry["w2c"] = WORLD2CAM[:count].tolist()
        target = {"image": "c.png", "size": size, "K": intrinsics, "w2c": WORLD2CAM[2].tolist()}
        entries.append(entry | {"targets": [target]})
    (tmp_path / "pairs.json").write_text(json.dumps(entries))
    return tmp_path / "pairs.json"


@pytest.fixture(autouse=True)
def oracle(monkeypatch, tiny_scene):
    """Reconstruction is instant and right about the cameras; no weights are needed."""

    def reconstruct(photos, intrinsics):
        nothing = torch.zeros(0, 3), torch.zeros(len(photos), 0, 2)
        return Reconstruction(tiny_scene, WORLD2CAM[: len(photos)], (), *nothing, (), ())

    info = WeightsInfo("tiny", "0" * 64, "MIT", "", {})
    monkeypatch.setattr(command, "_open_reconstruct", lambda *options: reconstruct)
    monkeypatch.setattr("nps_cli.loading.open_network", lambda *asked: (None, info))


def test_poses_alone_need_no_pictures_and_make_a_table(nps, data):
    ran = nps("evaluate", data, "--pose", "--jobs", 1)
    assert ran.code == 0
    header, everything, *_ = ran.out.splitlines()
    assert "AUC@5/10/20" in header
    assert "true pose" not in header
    assert everything.split()[:4] == ["all", "2", "0", "100/100/100"]
    assert "three views" not in ran.out


def test_the_report_holds_the_summary_and_every_pair(nps, data, tmp_path):
    report = tmp_path / "report.json"
    ran = nps("evaluate", data, "--no-align", "--triples", "--jobs", 1, "-o", report)
    assert ran.code == 0
    document = json.loads(report.read_text())
    assert document["format"] == "nps-evaluation"
    assert document["weights"]["name"] == "tiny"
    groups = [summary["group"] for summary in document["summary"]]
    assert groups == ["all", "hard", "scene desk", "scene door", "three views"]
    assert [pair["id"] for pair in document["pairs"]] == ["desk/1", "door_1", "three"]
    assert document["summary"][0]["views"]["targets"] == 2
    assert document["pairs"][0]["targets"][0]["aligned"] is None
    assert str(report) in ran.err


def test_json_on_stdout_is_the_report_and_nothing_else(nps, data):
    ran = nps("evaluate", data, "--pose", "--jobs", 1, "--json")
    assert json.loads(ran.out)["summary"][0]["pose"]["auc5"] == 1


def test_pictures_are_saved_under_tame_names(nps, data, tmp_path):
    ran = nps("evaluate", data, "--views", "--no-align", "--jobs", 1, "--save", tmp_path / "look")
    assert ran.code == 0
    assert sorted(file.name for file in (tmp_path / "look").iterdir()) == [
        "desk_1.png",
        "door_1.png",
    ]
    with Image.open(tmp_path / "look" / "desk_1.png") as picture:
        assert picture.size == (2 * 256, 2 * 256)


def test_a_limit_takes_so_many_pairs(nps, data):
    ran = nps("evaluate", data, "--pose", "--jobs", 1, "--limit", 1)
    assert ran.out.splitlines()[1].split()[:2] == ["all", "1"]


def test_failures_are_named_and_counted_and_nothing_but_failures_is_not_to_be_trusted(
    nps, data, monkeypatch
):
    def broken(photos, intrinsics):
        raise RuntimeError("nothing matches")

    monkeypatch.setattr(command, "_open_reconstruct", lambda *options: broken)
    ran = nps("evaluate", data, "--pose", "--jobs", 1)
    assert ran.code == 3
    assert "desk/1 failed: RuntimeError: nothing matches" in ran.err
    assert ran.out.splitlines()[1].split()[:4] == ["all", "2", "2", "0/0/0"]


def test_a_list_that_is_none_is_one_sentence(nps, data):
    data.write_text("[3]")
    ran = nps("evaluate", data)
    assert ran.code == 1
    assert "entry 0" in ran.err
    assert "Traceback" not in ran.err


def test_a_missing_photo_is_one_sentence_and_no_report_is_written(nps, data, tmp_path):
    (tmp_path / "b.png").unlink()
    ran = nps("evaluate", data, "--pose", "--jobs", 1, "-o", tmp_path / "report.json")
    assert ran.code == 1
    assert "b.png cannot be read" in ran.err
    assert not (tmp_path / "report.json").exists()
