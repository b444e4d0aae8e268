"""`nps pick`, and folders, patterns and videos in place of photos."""

import json
from pathlib import Path

import pytest
import torch
from moving_camera import image_at, noise, write_photos
from PIL import Image

from nps_cli.formats.video import write_mp4
from nps_cli.photos.find import find_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three photos that nearly stand still, a step to the right, and things that are no photos."""
    folder = tmp_path_factory.mktemp("shots") / "place"
    write_photos(folder, [image_at(0.0), image_at(0.01), image_at(0.02), image_at(0.32)])
    (folder / "notes.txt").write_text("no photo")
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "older").mkdir()
    return folder


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    path = folder.parent / "clip.mp4"
    write_mp4((image_at(x) for x in (0.0, 0.01, 0.02, 0.32)), path, fps=10)
    return path


def test_a_folder_is_picked_from_and_the_reasons_are_shown(nps, folder: Path):
    ran = nps("pick", folder)
    assert ran.code == 0, ran.err
    assert "photo_4.png" in ran.out and "parallax" in ran.out and "overlap" in ran.out
    assert f"next: nps reconstruct {folder}/photo_" in ran.err


def test_the_report_has_all_photos_and_the_pairs_best_first(nps, folder: Path):
    report = json.loads(nps("pick", folder, "--json").out)
    assert [photo["name"] for photo in report["photos"]] == [f"photo_{n}.png" for n in (1, 2, 3, 4)]
    assert len(report["chosen"]) == 2 and report["chosen"][1] == "photo_4.png"
    assert set(report["pairs"][0]["photos"]) == set(report["chosen"])
    assert 4 < report["pairs"][0]["parallax_deg"] < 9
    scores = [pair["score"] for pair in report["pairs"]]
    assert scores == sorted(scores, reverse=True)
    assert report["problems"] == []


def test_chosen_photos_are_copied_and_frames_are_written(nps, folder: Path, video: Path, tmp_path):
    assert nps("pick", folder, "-o", tmp_path / "photos").code == 0
    copied = sorted((tmp_path / "photos").iterdir())
    assert len(copied) == 2
    assert copied[1].read_bytes() == (folder / "photo_4.png").read_bytes()
    ran = nps("pick", video, "-o", tmp_path / "frames")
    assert ran.code == 0, ran.err
    frames = sorted((tmp_path / "frames").iterdir())
    assert frames[1].name == "clip_00003.png"
    assert Image.open(frames[1]).size == (256, 192)
    assert str(frames[1]) in ran.err  # of what is to be run next
    assert nps("pick", video, "-o", tmp_path / "frames").code == 1  # never over others


@pytest.mark.parametrize("command", ["reconstruct", "pose"])
@pytest.mark.parametrize("kind", ["folder", "pattern", "video"])
def test_a_source_stands_for_the_photos_that_are_chosen_from_it(
    nps, fake_pipeline, folder: Path, video: Path, tmp_path: Path, command: str, kind: str
):
    source = {"folder": folder, "pattern": folder / "*.png", "video": video}[kind]
    out = tmp_path / ("scene.ply" if command == "reconstruct" else "pose.json")
    ran = nps(command, source, "-o", out)
    assert ran.code == 0, ran.err
    assert f"{source}: " in ran.err and "of 4" in ran.err and "chosen" in ran.err
    (call,) = fake_pipeline.calls
    assert [view.image.shape for view in call.views] == [(3, 192, 256)] * 2
    assert not call.views[0].image.allclose(call.views[1].image, atol=0.05)
    assert out.is_file()


@pytest.mark.parametrize("format", ["colmap", "nerfstudio"])
def test_a_model_that_names_its_photos_needs_frames_as_files(
    nps, fake_pipeline, video: Path, tmp_path: Path, format: str
):
    ran = nps("pose", video, "-o", tmp_path / "model", "--format", format)
    assert ran.code == 1 and fake_pipeline.calls == []
    assert f"nps pick {video} -o frames" in ran.err


def test_photos_that_cannot_be_read_are_left_out(nps, tmp_path: Path):
    paths = write_photos(tmp_path / "place", [image_at(0.0), noise(0), image_at(0.3)])
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    ran = nps("pick", tmp_path / "place", "--json")
    assert ran.code == 0, ran.err
    assert "warning: left out: " in ran.err and "photo_2.png" in ran.err
    assert json.loads(ran.out)["chosen"] == ["photo_1.png", "photo_3.png"]


def test_photos_without_anything_in_common_are_chosen_with_a_doubt(nps, tmp_path: Path):
    write_photos(tmp_path / "place", [noise(0), noise(1), torch.zeros(3, 192, 256)])
    ran = nps("pick", tmp_path / "place", "--json")
    assert ran.code == 3
    assert "No two of 3 photos" in ran.err
    assert json.loads(ran.out)["chosen"] == ["photo_1.png", "photo_2.png"]


def test_a_camera_that_stands_still_is_a_doubt(nps, tmp_path: Path):
    write_photos(tmp_path / "place", [image_at(0.0), image_at(0.005), image_at(0.01)])
    ran = nps("pick", tmp_path / "place")
    assert ran.code == 3 and "hardly moves" in ran.err


@pytest.mark.parametrize("command", ["pick", "reconstruct", "pose"])
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("empty", "holds no photos"),
        ("single", "holds 1 photo"),
        ("nested", "It has folders (single)"),
        ("gone/*.jpg", "holds no photos"),
        ("gone.mp4", "does not exist"),
    ],
)
def test_a_source_without_two_photos_is_an_error_with_a_next_step(
    nps, fake_pipeline, tmp_path: Path, command: str, source: str, message: str
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "nested" / "single").mkdir(parents=True)
    write_photos(tmp_path / "single", [noise(0)])
    out = {"pick": (), "pose": ("-o", tmp_path / "o.json")}.get(command, ("-o", tmp_path / "o.ply"))
    ran = nps(command, tmp_path / source, *out)
    assert ran.code == 1
    assert message in ran.err and "hint:" in ran.err
    assert not list(tmp_path.glob("o.*"))


def test_one_photo_is_wrong_usage(nps, folder: Path):
    assert nps("pick", folder / "photo_1.png").code == 2
    ran = nps("reconstruct", folder / "photo_1.png", "-o", "scene.ply")
    assert ran.code == 2 and "a folder, a video, or a pattern in quotes" in ran.err


def test_numbers_in_names_count_as_numbers(tmp_path: Path):
    for number in (10, 9, 100):
        (tmp_path / f"frame_{number}.jpg").touch()
    names = [path.name for path in find_photos(tmp_path)]
    assert names == ["frame_9.jpg", "frame_10.jpg", "frame_100.jpg"]
