"""`nps batch`: lists, resuming and failures; the reconstruction itself is a fake."""

import json
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from nps_cli.batch_list import read_scenes
from nps_cli.errors import NpsError


@pytest.fixture
def pairs(photo_pair, tmp_path: Path) -> Path:
    """A list of two pairs: the second is the first, mirrored."""
    for photo in photo_pair:
        with Image.open(photo) as image:
            image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).save(tmp_path / f"low_{photo.name}")
    path = tmp_path / "pairs.csv"
    path.write_text("name,first,second\nhigh,left.jpg,right.jpg\nlow,low_left.jpg,low_right.jpg\n")
    return path


@pytest.fixture
def batch(nps, fake_pipeline, pairs: Path, tmp_path: Path, monkeypatch):
    """Runs the command on a list in this process: `batch("--fov", 60).err`; results are in out."""
    weights = SimpleNamespace(name="tiny", sha256="0" * 64)
    monkeypatch.setattr("nps_cli.weights.networks.open_network", lambda *choice: (None, weights))
    return lambda *options, source=pairs: nps(
        "batch", source, "-o", tmp_path / "out", "--jobs", 1, *options
    )


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_scene_gets_a_folder_and_all_a_table(batch, tmp_path: Path):
    ran = batch()
    assert ran.code == 0, ran.err
    files = ("pose.json", "report.json", "scene.ply")
    assert contents(tmp_path / "out") == [
        "batch.json",
        *(f"{name}/{file}" for name in ("high", "low") for file in files),
    ]
    assert [line.split()[:3] for line in ran.out.splitlines()] == [
        ["scene", "status", "Gaussians"],
        ["high", "done", "384"],
        ["low", "done", "384"],
    ]
    assert "1 of 2: high, 384 Gaussians in" in ran.err and "left)" in ran.err
    assert f"next: nps view {tmp_path}/out/high/scene.ply" in ran.err


def test_results_are_those_of_separate_starts(batch, nps, photo_pair, tmp_path: Path):
    batch()
    nps("reconstruct", *photo_pair, "-o", tmp_path / "alone.ply", "--poses", tmp_path / "pose.json")
    high = tmp_path / "out" / "high"
    assert (high / "scene.ply").read_bytes() == (tmp_path / "alone.ply").read_bytes()
    assert (high / "pose.json").read_bytes() == (tmp_path / "pose.json").read_bytes()


def test_networks_are_loaded_once(batch, monkeypatch):
    from nps_cli.weights import networks

    loads, load = [], networks.load_networks
    monkeypatch.setattr(
        networks, "load_networks", lambda *choice, **parts: loads.append(parts) or load()
    )
    assert batch().code == 0
    assert len(loads) == 1


def test_a_scene_that_fails_does_not_end_the_others(batch, pairs: Path, fake_pipeline, tmp_path):
    lines = pairs.read_text().splitlines()
    pairs.write_text("\n".join([lines[0], "lost,left.jpg,gone.jpg", *lines[1:]]))
    ran = batch("--json")
    assert ran.code == 1
    report = json.loads(ran.out)
    assert report == json.loads((tmp_path / "out" / "batch.json").read_text())
    assert report["counts"] == {"done": 2, "untrusted": 0, "failed": 1}
    lost, high, _ = report["scenes"]
    assert (lost["name"], lost["status"]) == ("lost", "failed")
    assert "gone.jpg: does not exist" in lost["error"] and lost["hint"]
    assert (high["photos"], high["confidence"]) == (["left.jpg", "right.jpg"], 0.95)
    assert len(fake_pipeline.calls) == 2
    assert not (tmp_path / "out" / "lost").exists()


def test_an_unexpected_error_fails_one_scene_and_is_recorded(batch, monkeypatch, tmp_path: Path):
    def crash(*arguments: object) -> None:
        raise RuntimeError("singular matrix")

    monkeypatch.setattr("models.reconstruct.reconstruct", crash)
    ran = batch("--json")
    assert ran.code == 1
    assert [scene["error"] for scene in json.loads(ran.out)["scenes"]] == [
        "RuntimeError: singular matrix"
    ] * 2
    assert contents(tmp_path / "out") == ["batch.json"]


def test_the_same_command_goes_on_where_it_stopped(batch, fake_pipeline, photo_pair, tmp_path):
    moved = tmp_path / "elsewhere.jpg"
    photo_pair[1].rename(moved)
    assert batch().code == 1
    assert len(fake_pipeline.calls) == 1
    moved.rename(photo_pair[1])
    ran = batch()
    assert ran.code == 0, ran.err
    assert "1 of 2 scenes are finished already" in ran.err
    assert len(fake_pipeline.calls) == 2
    assert ran.out.count("done") == 2
    assert batch().code == 0
    assert len(fake_pipeline.calls) == 2


@pytest.mark.parametrize("change", ["options", "photos", "foreign"])
def test_results_of_other_photos_or_options_are_not_replaced_without_force(
    batch, fake_pipeline, photo_pair, tmp_path: Path, change: str
):
    if change == "foreign":
        (tmp_path / "out" / "high").mkdir(parents=True)
        (tmp_path / "out" / "high" / "precious").touch()
    else:
        assert batch().code == 0
    if change == "photos":
        Image.new("RGB", (144, 108), "red").save(photo_pair[1])
    options = ("--fov", 60) if change == "options" else ()
    runs = len(fake_pipeline.calls)
    ran = batch(*options)
    assert ran.code == 1 and "--force" in ran.err
    assert len(fake_pipeline.calls) == runs
    assert batch(*options, "--force").code == 0
    assert len(fake_pipeline.calls) == runs + 2


def test_results_not_to_be_trusted_end_with_3(batch, fake_pipeline, tmp_path: Path):
    fake_pipeline.reconstruction = replace(fake_pipeline.reconstruction, problems=("No overlap.",))
    ran = batch()
    assert ran.code == 3
    assert "warning: high: No overlap." in ran.err
    assert (tmp_path / "out" / "high" / "scene.ply").is_file()


def test_the_scene_that_kills_its_process_fails_and_no_other_one(batch, monkeypatch):
    from models.workers import map_on_workers

    def dies_at_low(opened, scenes, *arguments):
        if "low" in [scene.name for scene in scenes]:  # while high is still at work
            raise BrokenProcessPool("killed")
        yield from map_on_workers(opened, scenes, *arguments)

    monkeypatch.setattr("models.workers.map_on_workers", dies_at_low)
    ran = batch("--json")
    assert ran.code == 1
    high, low = json.loads(ran.out)["scenes"]
    assert (high["status"], low["status"]) == ("done", "failed")
    assert "memory" in low["error"]


def test_what_was_finished_when_a_process_was_killed_is_kept(batch, fake_pipeline, monkeypatch):
    from models.workers import map_on_workers

    runs = []

    def dies_once(*arguments):
        runs.append(list(map_on_workers(*arguments)))
        if len(runs) == 1:
            raise BrokenProcessPool("killed")
        yield from runs[-1]

    monkeypatch.setattr("models.workers.map_on_workers", dies_once)
    ran = batch()
    assert ran.code == 0, ran.err
    assert len(fake_pipeline.calls) == 2


def test_an_interrupted_run_says_that_it_goes_on(batch, fake_pipeline, monkeypatch, tmp_path):
    from models import reconstruct

    usual = reconstruct.reconstruct

    def interrupted(*arguments):
        if fake_pipeline.calls:
            raise SystemExit(143)
        return usual(*arguments)

    monkeypatch.setattr(reconstruct, "reconstruct", interrupted)
    ran = batch()
    assert ran.code == 143
    assert "interrupted after 1 of 2: the same command goes on from there" in ran.err
    assert contents(tmp_path / "out") == [
        f"high/{n}" for n in ("pose.json", "report.json", "scene.ply")
    ]


@pytest.mark.parametrize("hindrance", ["photos", "summary", "file"])
def test_what_would_be_lost_is_refused_before_any_work(
    nps, batch, fake_pipeline, photo_pair, tmp_path: Path, hindrance: str
):
    out = tmp_path / "out"
    out.mkdir()
    if hindrance == "photos":
        (tmp_path / "high").mkdir()
        for photo in photo_pair:
            photo.rename(tmp_path / "high" / photo.name)
        ran = nps("batch", tmp_path / "high", "-o", tmp_path, "--force")
    elif hindrance == "summary":
        (out / "batch.json").write_text('{"precious": 1}')
        ran = batch()
        assert json.loads((out / "batch.json").read_text()) == {"precious": 1}
    else:
        (out / "high").touch()
        ran = batch("--force")
    assert ran.code == 1 and "hint:" in ran.err
    assert fake_pipeline.calls == []


def test_a_scene_of_which_a_later_output_fails_leaves_nothing(batch, monkeypatch, tmp_path: Path):
    from nps_cli.formats import save_scene

    def fails_once(*arguments):
        monkeypatch.setattr("nps_cli.formats.save_scene", save_scene)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nps_cli.formats.save_scene", fails_once)
    ran = batch("--json")
    assert ran.code == 1
    assert "No space left" in json.loads(ran.out)["scenes"][0]["error"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["batch.json", "low"]


def test_other_formats_of_scenes_may_be_chosen(batch, tmp_path: Path):
    assert batch("--format", "spz").code == 0
    assert (tmp_path / "out" / "low" / "scene.spz").is_file()
    assert batch("--format", "obj").code == 2


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "first{0}second\n", "\ufeffname{0}a{0}b\n"])
def test_lists_may_have_any_separator_and_a_header(tmp_path: Path, separator: str, header: str):
    named = "x" + separator if "name" in header else ""
    text = header.format(separator) + f"# remark\n{named}a.jpg{separator}b.jpg\n\n"
    (tmp_path / "pairs.csv").write_text(text, encoding="utf-8")
    (scene,) = read_scenes([tmp_path / "pairs.csv"])
    assert scene.name == ("x" if named else "a-b")
    assert scene.photos == (tmp_path / "a.jpg", tmp_path / "b.jpg")


def test_folders_videos_and_folders_of_folders_are_scenes(tmp_path: Path):
    for name in ("all/red/1.jpg", "all/blue 2/1.jpg", "more/red/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "all" / "clip.mp4").touch()
    scenes = read_scenes([tmp_path / "all", tmp_path / "more" / "red"])
    assert [scene.name for scene in scenes] == ["blue_2", "clip", "red", "red_2"]
    assert scenes[3].photos == (tmp_path / "more" / "red",)
    assert [scene.name for scene in read_scenes([tmp_path / "*" / "red"])] == ["red", "red_2"]


def test_long_names_and_that_of_the_summary_are_no_trouble(tmp_path: Path):
    path = tmp_path / "pairs.csv"
    path.write_text(f"name,a,b\nbatch.json,a.jpg,b.jpg\n{'写' * 99},a.jpg,b.jpg\n", "utf-8")
    assert [scene.name for scene in read_scenes([path])] == ["batch.json_2", "写" * 66]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.jpg,b.jpg,c.jpg,d.jpg\n", "4 photos in the line"),
        (b"", "lists nothing"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'a.jpg,"b.jpg\n', "cannot be read"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(NpsError, match=message):
        read_scenes([tmp_path / "pairs.csv"])


@pytest.mark.parametrize("source", ["gone", "gone.csv", "photo.jpg", "gone/*"])
def test_what_names_no_scene_is_refused(batch, tmp_path: Path, source: str):
    (tmp_path / "photo.jpg").touch()
    ran = batch(source=tmp_path / source)
    assert ran.code == 1 and "hint:" in ran.err
    assert not (tmp_path / "out").exists()
