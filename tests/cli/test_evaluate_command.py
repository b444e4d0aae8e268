import json
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from chunk_factory import make_root
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file

from models.geometry.rigid import se3_exponential
from models.metrics.lpips import Lpips
from models.reconstruction import Reconstruction
from models.weights import WeightsInfo
from nps_cli.commands import evaluate as command
from nps_cli.weights.lpips import default_path

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


def broken(views):
    raise RuntimeError("nothing matches")


@pytest.fixture(autouse=True)
def oracle(monkeypatch, tiny_scene):
    """Reconstruction is instant and right about the cameras; no weights are needed."""

    def reconstruct(views):
        nothing = torch.zeros(0, 3), torch.zeros(len(views), 0, 2)
        cameras = tuple(
            replace(view.camera, world2cam=pose)
            for view, pose in zip(views, WORLD2CAM, strict=False)
        )
        return Reconstruction(tiny_scene, cameras, (), *nothing, (), ())

    info = WeightsInfo("tiny", "0" * 64, "MIT", "", {})
    monkeypatch.setattr(command, "_open_reconstruct", lambda *options: reconstruct)
    monkeypatch.setattr("nps_cli.weights.networks.open_network", lambda *arguments: (None, info))


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


def test_lpips_is_in_the_table_where_its_weights_are_and_is_said_to_be_left_out_elsewhere(
    nps, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    asked = "evaluate", data, "--views", "--no-align", "--jobs", 1, "--limit", 1, "--size", 32
    without = nps(*asked)
    path = default_path()
    path.parent.mkdir(parents=True)
    save_file({name: value.contiguous() for name, value in Lpips().state_dict().items()}, path)
    there = nps(*asked)

    assert f"LPIPS is left out (-): there is no {path}" in without.err
    assert "weights fetch lpips-vgg" in without.err and " / - " in without.out
    assert "LPIPS" not in there.err and " / 0.000 " in there.out  # its heads are zero


def test_a_limit_takes_so_many_pairs(nps, data):
    ran = nps("evaluate", data, "--pose", "--jobs", 1, "--limit", 1)
    assert ran.out.splitlines()[1].split()[:2] == ["all", "1"]


def test_failures_are_named_and_counted_and_only_failures_are_not_to_be_trusted(
    nps, data, monkeypatch
):
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


def test_a_process_that_is_killed_ends_an_evaluation_with_a_sentence(nps, data, monkeypatch):
    def killed(*arguments, **options):
        raise BrokenProcessPool("killed")
        yield

    monkeypatch.setattr("models.evaluation.evaluate.evaluate_pairs", killed)
    ran = nps("evaluate", data, "--pose", "--jobs", 2)
    assert ran.code == 1
    assert "error: A process of the evaluation was killed" in ran.err


class Counting:
    """Reconstructs as usual, counts, and is interrupted where asked."""

    def __init__(self, reconstruct, interrupted_at: int | None = None):
        self.reconstruct, self.interrupted_at, self.calls = reconstruct, interrupted_at, 0

    def __call__(self, views):
        if self.calls == self.interrupted_at:
            raise KeyboardInterrupt
        self.calls += 1
        return self.reconstruct(views)


@pytest.fixture
def counting_reconstruct(monkeypatch):
    """Sets a counting reconstruction, and gives it."""
    usual = command._open_reconstruct()

    def count(interrupted_at: int | None = None) -> Counting:
        counting = Counting(usual, interrupted_at)
        monkeypatch.setattr(command, "_open_reconstruct", lambda *options: counting)
        return counting

    return count


def numbers_in(report: Path) -> dict:
    """A report without what may differ between two runs: times."""
    document = json.loads(report.read_text())
    return timeless({key: value for key, value in document.items() if key != "jobs"})


def timeless(value):
    if isinstance(value, dict):
        times = ("seconds", "median_seconds", "parts", "median_parts")
        return {key: timeless(each) for key, each in value.items() if key not in times}
    return [timeless(each) for each in value] if isinstance(value, list) else value


QUICK = ("--no-align", "--jobs", 1, "--size", 16)


def test_an_interrupted_run_goes_on_where_it_stopped(nps, data, tmp_path, counting_reconstruct):
    whole, report, pictures = (tmp_path / name for name in ("whole.json", "r.json", "look"))
    assert nps("evaluate", data, *QUICK, "-o", whole).code == 0
    arguments = ("evaluate", data, *QUICK, "-o", report, "--save", pictures)

    counting_reconstruct(interrupted_at=1)
    ran = nps(*arguments)
    assert ran.code == 130
    assert "1 results are kept" in ran.err
    assert not report.exists() and not pictures.exists()
    second = counting_reconstruct()
    ran = nps(*arguments)

    assert ran.code == 0
    assert second.calls == 1
    assert "1 results of an interrupted run are used" in ran.err
    assert numbers_in(report) == numbers_in(whole)
    assert len(list(pictures.iterdir())) == 2
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


@pytest.mark.parametrize("change", ["options", "photo"])
def test_what_is_kept_is_not_used_for_anything_else(
    nps, data, tmp_path, counting_reconstruct, change
):
    report = tmp_path / "r.json"
    counting_reconstruct(interrupted_at=1)
    nps("evaluate", data, *QUICK, "-o", report)
    if change == "photo":
        Image.open(tmp_path / "b.png").transpose(Image.Transpose.ROTATE_180).save(
            tmp_path / "b.png"
        )
    again = counting_reconstruct()
    size = 32 if change == "options" else 16
    ran = nps("evaluate", data, *QUICK, "--size", size, "-o", report)
    assert ran.code == 0
    assert again.calls == 2
    if change == "options":
        assert "are not used: options changed since" in ran.err


def test_shards_merge_to_the_report_of_one_run(nps, data, tmp_path):
    whole, merged, *parts = (tmp_path / f"{name}.json" for name in ("whole", "merged", "1", "2"))
    assert nps("evaluate", data, *QUICK, "--triples", "-o", whole).code == 0
    for part in parts:
        shard = f"{part.stem}/2"
        ran = nps("evaluate", data, *QUICK, "--triples", "--shard", shard, "-o", part)
        assert ran.code == 0
    ran = nps("evaluate", "merge", *parts, "-o", merged)
    assert ran.code == 0
    assert ran.out.splitlines()[1].split()[:2] == ["all", "2"]
    assert numbers_in(merged) == numbers_in(whole)
    ran = nps("evaluate", "merge", parts[0], parts[0])
    assert ran.code == 1
    assert "2/2 missing" in ran.err


@pytest.mark.parametrize("option", [("--shard", "3/2"), ("-o", "report.txt")])
def test_no_shard_and_no_kind_of_report_are_a_wrong_usage(nps, data, option):
    assert nps("evaluate", data, *option).code == 2


def test_bad_entries_and_lost_photos_are_counted_named_and_harmless(nps, data, tmp_path):
    entries = json.loads(data.read_text())
    entries[1]["images"] = ["a.png", "lost.png"]
    entries.insert(0, {**entries[0], "id": "still", "w2c": [entries[0]["w2c"][0]] * 2})
    entries.insert(0, {**entries[0], "id": "far", "w2c": [[[1e30] * 4] * 4] * 2})
    data.write_text(json.dumps(entries))
    report = tmp_path / "report.json"

    ran = nps("evaluate", data, *QUICK, "-o", report)

    assert ran.code == 0
    document = json.loads(report.read_text())
    assert [pair["id"] for pair in document["pairs"]] == ["desk/1"]
    assert (document["used"], document["of"]) == (1, 4)
    reasons = {each["id"]: each["reason"] for each in document["left_out"]}
    assert list(reasons) == ["entry 0 (far)", "entry 1 (still)", "door_1"]
    assert "not a rigid" in reasons["entry 0 (far)"]
    assert "stand on one point" in reasons["entry 1 (still)"]
    assert "lost.png cannot be read" in reasons["door_1"]
    assert "1 of 4 pairs used" in ran.err
    for name in ("far", "still", "door_1"):
        assert name in ran.err


@pytest.mark.parametrize("suffix", ["csv", "md"])
def test_a_report_is_written_by_its_suffix(nps, data, tmp_path, suffix):
    path = tmp_path / f"report.{suffix}"
    assert nps("evaluate", data, *QUICK, "-o", path).code == 0
    assert path.read_text().startswith({"csv": "pair,scene", "md": "# Evaluation"}[suffix])


def test_with_and_without_refinement_are_compared(nps, data, monkeypatch, tmp_path):
    usual = command._open_reconstruct()

    monkeypatch.setattr(
        command, "_open_reconstruct", lambda *options: usual if options[-1] else broken
    )
    report = tmp_path / "report.md"
    ran = nps("evaluate", data, *QUICK, "--compare", "--json", "-o", report)
    assert ran.code == 0
    document = json.loads(ran.out)
    assert [pair["failure"] is None for pair in document["network_alone"]] == [False, False]
    assert (document["comparison"]["poses_better"], document["comparison"]["targets"]) == (2, 2)
    assert "Refinement against the network alone" in report.read_text()


def test_a_data_set_is_scored_by_overlap(nps, tmp_path, monkeypatch):
    make_root(tmp_path, scenes=4, stage="test")
    index = {name: {"context": [0, 8], "target": [2, 4, 6]} for name in "abcdef"}
    overlaps = {"a": 0.1, "b": 0.4, "c": 0.7, "d": 0.9}
    index = {name: {**entry, "overlap": overlaps.get(name, 0.1)} for name, entry in index.items()}
    (tmp_path / "evaluation.json").write_text(json.dumps({**index, "e": None}))

    report = tmp_path / "report.md"
    ran = nps("evaluate", tmp_path, *QUICK, "--json", "-o", report)

    assert ran.code == 0
    document = json.loads(ran.out)
    assert [summary["group"] for summary in document["summary"]] == [
        *("all", "small", "medium", "large")
    ]
    assert [pair["overlap"] for pair in document["pairs"]] == [0.1, 0.4, 0.7]
    assert {each["id"]: each["reason"] for each in document["left_out"]}.keys() == {"d", "f"}
    assert document["summary"][0]["views"]["targets"] == 9
    assert "View synthesis by overlap, at the true poses" in report.read_text()


def test_a_data_set_can_show_three_views(nps, tmp_path):
    make_root(tmp_path, scenes=1, stage="test")
    entry = {"context": [0, 8], "target": [2], "overlap": 0.1}
    (tmp_path / "evaluation.json").write_text(json.dumps({"a": entry}))
    ran = nps("evaluate", tmp_path, *QUICK, "--context", 3, "--json")
    groups = [each["group"] for each in json.loads(ran.out)["summary"]]
    assert groups == ["three views", "three views, small"]


def test_a_folder_without_a_list_is_one_sentence(nps, tmp_path):
    (tmp_path / "empty").mkdir()
    ran = nps("evaluate", tmp_path / "empty")
    assert ran.code == 1
    assert "no list of what to evaluate" in ran.err


def test_merge_takes_reports_only(nps, data):
    ran = nps("evaluate", "merge", data)
    assert ran.code == 1
    assert "pairs.json is no report" in ran.err


def test_a_report_is_merged_not_evaluated(nps, data, tmp_path):
    report = tmp_path / "report.json"
    assert nps("evaluate", data, *QUICK, "-o", report).code == 0
    ran = nps("evaluate", report)
    assert ran.code == 1
    assert "nps evaluate merge" in ran.err


def test_options_may_come_before_the_data(nps, data):
    assert nps("evaluate", "--pose", "--jobs", 1, data).code == 0


def test_help_explains_both_commands(nps):
    ran = nps("evaluate", "--help")
    assert "nps evaluate [OPTIONS]" in ran.out and "nps evaluate merge" in ran.out
    assert "nps evaluate merge [OPTIONS]" in nps("evaluate", "merge", "--help").out


def test_photos_on_the_list_are_never_overwritten(nps, data, tmp_path):
    before = (tmp_path / "a.png").read_bytes()
    (tmp_path / "report.json").symlink_to(tmp_path / "a.png")
    ran = nps("evaluate", data, *QUICK, "-o", tmp_path / "report.json", "--force")
    assert ran.code == 1 and "is read" in ran.err
    ran = nps("evaluate", data, *QUICK, "--save", tmp_path, "--force")
    assert ran.code == 1 and "which is read" in ran.err
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_report_is_written_in_every_format_that_is_named(nps, data, tmp_path):
    outs = ["-o", tmp_path / "r.json", "--output", tmp_path / "r.md"]
    assert nps("evaluate", data, *QUICK, *outs).code == 0
    assert json.loads((tmp_path / "r.json").read_text())["used"] == 2
    assert (tmp_path / "r.md").read_text().count("|") > 5
