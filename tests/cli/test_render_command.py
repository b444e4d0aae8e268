"""`nps render`: which pictures come out, and what is refused before any work."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from models.geometry.camera import Camera
from models.geometry.rigid import se3_exponential
from nps_cli.formats import SceneCamera, save_scene

SMALL = ["--size", "48x32"]


@pytest.fixture
def scene(tmp_path: Path, tiny_scene) -> Path:
    """The tiny scene with two cameras, 1200 x 800, the second to the right."""
    path = tmp_path / "scene.ply"
    intrinsics = torch.tensor([[0.83, 0.0, 0.5], [0.0, 1.245, 0.5], [0.0, 0.0, 1.0]])
    second = se3_exponential(torch.tensor([-0.3, 0.0, 0.0, 0.0, -0.15, 0.0]))
    cameras = [
        SceneCamera(name, Camera(intrinsics, pose, (800, 1200)))
        for name, pose in (("a.jpg", torch.eye(4)), ("b.jpg", second))
    ]
    save_scene(tiny_scene, path, cameras)
    return path


@pytest.fixture
def foreign_scene(tmp_path: Path, tiny_scene) -> Path:
    path = tmp_path / "foreign.ply"
    save_scene(tiny_scene, path)
    return path


def picture(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_an_orbit_becomes_a_video_with_the_photos_shape(nps, scene: Path, tmp_path: Path):
    ran = nps("render", scene, "-o", tmp_path / "orbit.mp4", "--frames", "4", "--fps", "10")
    assert ran.code == 0, ran.err
    assert ran.out == ""
    assert "wrote" in ran.err and "4 frames, 768 x 512" in ran.err
    with av.open(str(tmp_path / "orbit.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert [frame.shape for frame in frames] == [(512, 768, 3)] * 4
    assert frames[0][256, 384].max() > 60  # the wall is in the middle
    assert np.abs(frames[1].astype(int) - frames[3]).mean() > 2  # and the camera moves


def test_the_first_photos_view_shows_red_growing_rightwards_and_green_downwards(
    nps, scene: Path, tmp_path: Path
):
    (tmp_path / "pose.json").write_text(
        json.dumps(
            {
                "views": [
                    {
                        "width": 1200,
                        "height": 800,
                        "intrinsics_px": [[996, 0, 600], [0, 996, 400], [0, 0, 1]],
                        "world2cam": torch.eye(4).tolist(),
                    }
                ]
            }
        )
    )
    out = tmp_path / "view.png"
    ran = nps("render", scene, "--path", tmp_path / "pose.json", "-o", out, *SMALL)
    assert ran.code == 0, ran.err
    seen = picture(out)
    assert seen.shape == (32, 48, 3)
    assert seen[16, 40, 0] > seen[16, 8, 0] + 100
    assert seen[26, 24, 1] > seen[6, 24, 1] + 100


def test_a_folder_gets_numbered_pictures_and_keeps_what_was_there(nps, scene, tmp_path: Path):
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    run = ["render", scene, "--path", "interpolate", "--frames", "3", "-o", folder, *SMALL]
    assert nps(*run).code == 1
    assert nps(*run, "--force").code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        *("00000.png", "00001.png", "00002.png", "notes.txt"),
    ]


@pytest.mark.parametrize("path", ["orbit", "wiggle", "interpolate"])
def test_every_path_becomes_a_gif(nps, scene: Path, tmp_path: Path, path: str):
    out = tmp_path / "motion.gif"
    ran = nps("render", scene, "--path", path, "--frames", "4", "-o", out, *SMALL)
    assert ran.code == 0, ran.err
    with Image.open(out) as gif:
        assert (gif.n_frames, gif.size) == (4, (48, 32))


def test_depth_shows_a_wall_across_the_view_in_one_color(nps, foreign_scene, tmp_path: Path):
    out = tmp_path / "depth.png"
    assert nps("render", foreign_scene, "-o", out, "--depth", *SMALL).code == 0
    seen = picture(out)[8:24, 12:36].reshape(-1, 3)
    assert seen.max() > 60
    assert np.ptp(seen, axis=0).max() < 10


def test_a_foreign_scene_is_seen_from_the_origin(nps, foreign_scene: Path, tmp_path: Path):
    out = tmp_path / "view.png"
    ran = nps("render", foreign_scene, "-o", out, *SMALL)
    assert ran.code == 0, ran.err
    assert "guess" in ran.err
    assert picture(out)[16, 24].max() > 60


def test_a_foreign_scene_has_no_photos_to_move_between(nps, foreign_scene, tmp_path: Path):
    ran = nps("render", foreign_scene, "--path", "interpolate", "-o", tmp_path / "a.mp4")
    assert ran.code == 1
    assert "orbit" in ran.err


def test_a_scene_comes_through_stdin_and_the_report_goes_to_stdout(nps, scene, tmp_path: Path):
    out = tmp_path / "view.png"
    ran = nps("render", "-", "-o", out, "--json", *SMALL, stdin=scene.read_bytes())
    assert ran.code == 0, ran.err
    assert json.loads(ran.out) == {
        **{"out": str(out), "frames": 1, "width": 48, "height": 32, "fps": 24.0},
    }


@pytest.mark.parametrize("arguments", [["--size", "640"], ["--size", "2x2"], ["--path", "spin"]])
def test_a_wrong_size_or_path_is_wrong_usage(nps, tmp_path: Path, arguments: list[str]):
    ran = nps("render", tmp_path / "scene.ply", "-o", tmp_path / "a.mp4", *arguments)
    assert ran.code == 2
    assert arguments[1] in ran.err


@pytest.mark.parametrize(
    ("out", "arguments", "complaint"),
    [
        ("a.avi", [], ".avi"),
        ("a.png", ["--frames", "2"], "2 frames"),
        ("a.mp4", ["--size", "49x32"], "49 x 32"),
        ("nowhere/a.mp4", [], "nowhere"),
        ("scene.ply/a.mp4", [], "scene.ply"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(
    nps, scene: Path, tmp_path: Path, out: str, arguments: list[str], complaint: str
):
    ran = nps("render", scene, "-o", tmp_path / out, *arguments)
    assert ran.code == (2 if complaint == ".avi" else 1)
    assert complaint in ran.err and "hint:" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["scene.ply"]


def test_an_existing_video_is_kept_unless_forced(nps, scene: Path, tmp_path: Path):
    out = tmp_path / "orbit.mp4"
    out.write_text("precious")
    run = ["render", scene, "-o", out, "--frames", "2", *SMALL]
    assert nps(*run).code == 1
    assert out.read_text() == "precious"
    assert nps(*run, "--force").code == 0
    assert out.stat().st_size > 500


def test_a_run_that_breaks_leaves_nothing_behind(nps, scene, tmp_path: Path, monkeypatch):
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("models.render.supersampling.render", interrupt)
    ran = nps("render", scene, "-o", tmp_path / "a.mp4", *SMALL)
    assert ran.code == 130
    assert [path.name for path in tmp_path.iterdir()] == ["scene.ply"]


def test_guesses_are_left_out_on_demand(nps, tmp_path: Path, tiny_scene):
    marked, seen, out = tmp_path / "marked.ply", tmp_path / "seen.ply", tmp_path / "view.png"
    guessed = torch.ones(len(tiny_scene), dtype=torch.bool)
    guessed[0] = False
    save_scene(replace(tiny_scene, guessed=guessed), marked)
    assert json.loads(nps("inspect", "--json", marked).out)[0]["guesses"] == guessed.sum()
    assert nps("convert", marked, seen, "--no-guesses").code == 0
    ran = nps("render", marked, "--no-guesses", "-o", out, *SMALL)
    assert ran.code == 0, ran.err
    again = nps("render", seen, "-o", tmp_path / "again.png", *SMALL)
    assert again.code == 0 and (picture(out) == picture(tmp_path / "again.png")).all()
    refused = nps("render", seen, "--no-guesses", "-o", tmp_path / "no.png", *SMALL)
    assert refused.code == 1 and "does not say which" in refused.err
