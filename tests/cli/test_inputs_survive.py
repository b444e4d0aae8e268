"""No command overwrites what it reads, by any of its names, nor a file that appears meanwhile."""

import json
import os
import shutil
from pathlib import Path

import pytest

from models.files.atomic import atomic_write
from nps_cli.errors import NpsError
from nps_cli.output import check_outputs, naming_finished, whole_file, whole_folder

INTRINSICS = {"intrinsics_px": [[100, 0, 72], [0, 100, 54], [0, 0, 1]], "width": 144, "height": 108}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path, photo_pair, tiny_scene, monkeypatch) -> Path:
    """A folder, the current one, with photos, a scene, a report and links to photos."""
    from nps_cli.formats import save_scene

    monkeypatch.chdir(tmp_path)
    save_scene(tiny_scene, tmp_path / "s.ply")
    (tmp_path / "p.json").write_text(json.dumps(INTRINSICS))
    (tmp_path / "r.json").write_text("{}")
    shutil.copy("s.ply", "w.safetensors")
    for link in ("link.ply", "link.json", "link.png", "link.mp4", "link.html"):
        os.symlink("left.jpg", link)
    for name in ("page.html", "film.mp4", "copy.ply"):
        os.symlink("s.ply", name)
    os.link("right.jpg", "hard.ply")
    (tmp_path / "images").mkdir()
    shutil.copy("left.jpg", "images/a.png")
    (tmp_path / "scenes/one").mkdir(parents=True)
    (tmp_path / "scenes/one/transforms.json").write_text("{}")
    return tmp_path


PHOTOS = ["left.jpg", "right.jpg"]


@pytest.mark.parametrize(
    "command",
    [
        ["pose", *PHOTOS, "-o", "link.json"],
        ["pose", *PHOTOS, "--plot", "link.png"],
        ["pose", *PHOTOS, "--intrinsics", "p.json", "-o", "p.json"],
        ["pose", *PHOTOS, "--format", "colmap", "-o", "."],
        ["reconstruct", *PHOTOS, "-o", "link.ply"],
        ["reconstruct", *PHOTOS, "-o", "hard.ply"],
        ["reconstruct", *PHOTOS, "-o", "new.ply", "-o", "link.ply"],
        ["reconstruct", *PHOTOS, "-o", "new.ply", "--poses", "link.json"],
        ["reconstruct", *PHOTOS, "-o", "new.ply", "--video", "link.mp4"],
        ["reconstruct", *PHOTOS, "-o", "new.ply", "--depth", "."],
        ["reconstruct", *PHOTOS, "-o", "copy.ply", "--weights", "s.ply"],
        ["render", "s.ply", "-o", "film.mp4"],
        ["render", "images/../s.ply", "-o", "film.mp4"],
        ["render", "s.ply", "-o", "."],
        ["view", "s.ply", "-o", "page.html"],
        ["evaluate", "r.json", "-o", "r.json"],
        ["evaluate", "merge", "r.json", "-o", "r.json"],
        ["weights", "convert", "w.safetensors", "-o", "w.safetensors"],
        ["data", "convert", "scenes/one", "-o", "scenes"],
        ["data", "make", ".", "--textures", "images"],
        ["data", "sheet", "-o", "images/a.png", "--textures", "images"],
        ["train", "stereo", "-o", "run", "--export", "w.safetensors", "--meshes", "w.safetensors"],
    ],
    ids=" ".join,
)
def test_an_output_that_is_an_input_is_refused_even_by_force(
    nps, place: Path, fake_pipeline, command: list[str]
):
    if command[:2] == ["data", "convert"]:
        shutil.move("scenes", "train")
        os.mkdir("scenes")
        shutil.move("train", "scenes/train")
        command = ["data", "convert", "scenes/train/one", "-o", "scenes"]
    before = contents(place)
    ran = nps(*command, "--force")
    assert ran.code == 1, ran.err
    assert "is read" in ran.err or "which is read" in ran.err
    assert contents(place) == before
    assert fake_pipeline.calls == []


def test_a_name_that_is_no_file_is_no_input(place: Path):
    check_outputs(Path("new.ply"), inputs=[None, "network", "x" * 300, "-"], force=False)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path):
    target = tmp_path / "scene.ply"
    with pytest.raises(NpsError, match="appeared"), whole_file(target, force=False) as temporary:
        temporary.write_text("new")
        target.write_text("theirs")
    assert target.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["scene.ply"]


def test_a_file_system_without_hard_links_is_no_excuse(tmp_path: Path, monkeypatch):
    def refuse(*names: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "scene.ply"
    with atomic_write(target, replace=False) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    with pytest.raises(FileExistsError), atomic_write(target, replace=False) as temporary:
        temporary.write_text("newer")
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["scene.ply"]


def test_a_folder_that_fills_meanwhile_is_not_touched(tmp_path: Path):
    target = tmp_path / "frames"
    with pytest.raises(NpsError, match="appeared"), whole_folder(target, force=False) as temporary:
        (temporary / "0.png").write_text("new")
        target.mkdir()
        (target / "0.png").write_text("theirs")
    assert (target / "0.png").read_text() == "theirs"
    assert os.listdir(tmp_path) == ["frames"]


def test_a_circle_of_links_is_refused_in_one_sentence(nps, place: Path, fake_pipeline):
    os.symlink("loop.ply", "loop.ply")
    ran = nps("reconstruct", *PHOTOS, "-o", "loop.ply", "--force")
    assert ran.code == 1 and "cannot be written" in ran.err
    assert fake_pipeline.calls == []


def test_a_dangling_link_is_written_through(tmp_path: Path):
    link = tmp_path / "link.ply"
    link.symlink_to(tmp_path / "real.ply")
    with whole_file(link, force=False) as temporary:
        temporary.write_text("new")
    assert link.is_symlink() and (tmp_path / "real.ply").read_text() == "new"


def test_a_long_name_of_letters_with_many_bytes_can_be_written(tmp_path: Path):
    target = tmp_path / ("\N{GREEK SMALL LETTER ALPHA}" * 125 + ".ply")  # 254 bytes
    with whole_file(target, force=False) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_a_full_device_is_a_full_disk(nps, place: Path, fake_pipeline):
    os.symlink("/dev/full", "full.ply")
    ran = nps("reconstruct", *PHOTOS, "-o", "full.ply")
    assert ran.code == 1 and "No space left" in ran.err


def test_a_run_that_fails_on_a_later_output_names_those_that_exist(
    nps, place: Path, fake_pipeline, monkeypatch
):
    os.symlink("/dev/full", "full.spz")
    command = ["reconstruct", *PHOTOS, "--poses", "pose.json", "-o", "new.ply", "-o", "full.spz"]
    ran = nps(*command, "--quiet")
    assert ran.code == 1
    assert "full.spz cannot be written" in ran.err
    assert "Written before, and whole: pose.json, new.ply." in ran.err
    assert Path("pose.json").exists() and Path("new.ply").exists()


def _run_out_of_memory(*arguments: object, **options: object) -> None:
    raise MemoryError


LATER = "nps_cli.formats.report.encode_report", "nps_cli.formats.plot.encode_plot"


@pytest.mark.parametrize(
    ("command", "later", "finished"),
    [
        (["pose", *PHOTOS, "-o", "p2.json", "--plot", "p.png", "--report", "p.html"], 0, 2),
        (["pose", *PHOTOS, "-o", "p2.json", "--plot", "p.png"], 1, 1),
        (["reconstruct", *PHOTOS, "-o", "n.ply", "--poses", "p2.json", "--report", "p.html"], 0, 1),
    ],
)
def test_what_exists_is_named_where_memory_ends(
    nps, place: Path, fake_pipeline, monkeypatch, command: list[str], later: int, finished: int
):
    before = contents(place).keys()
    monkeypatch.setattr(LATER[later], _run_out_of_memory)
    ran = nps(*command)
    assert ran.code == 1 and "not enough memory" in ran.err
    written = ["p2.json", "p.png"][:finished]
    assert f"Written before, and whole: {', '.join(written)}." in ran.err
    assert {Path(path).name for path in contents(place).keys() - before} == set(written)


@pytest.mark.parametrize(
    ("command", "last"),
    [
        (
            ["render", "s.ply", "--frames", "2", "--size", "32x32", "-o", "v"],
            "nps_cli.video.write_pngs",
        ),
        (["convert", "s.ply", "v.spz"], "nps_cli.formats._encode"),
    ],
)
def test_an_only_output_that_fails_leaves_nothing(
    nps, place: Path, monkeypatch, command, last: str
):
    before = sorted(os.listdir())
    monkeypatch.setattr(last, _run_out_of_memory)
    ran = nps(*command)
    assert ran.code == 1 and "not enough memory" in ran.err
    assert sorted(os.listdir()) == before


def test_an_error_before_any_output_names_none():
    with pytest.raises(NpsError, match=r"^no$"), naming_finished([]):
        raise NpsError("no", hint="none")
