"""`nps reconstruct`: outputs, streams and exit codes; the reconstruction itself is a fake."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nps_cli.formats import load_scene, read_cameras
from nps_cli.formats.poses import read_poses


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".jpg")


def test_a_scene_is_written_with_its_cameras_and_what_to_do_next_is_said(
    nps, fake_pipeline, photo_pair, tmp_path: Path
):
    ran = nps("reconstruct", *photo_pair, "-o", tmp_path / "scene.ply")
    assert ran.code == 0, ran.err
    assert ran.out == ""
    assert f"wrote {tmp_path / 'scene.ply'} (384 Gaussians)" in ran.err
    assert f"next: nps render {tmp_path / 'scene.ply'}" in ran.err
    gaussians, comments = load_scene(tmp_path / "scene.ply")
    assert len(gaussians) == 384
    assert [photo.name for photo in read_cameras(comments)] == ["left.jpg", "right.jpg"]


def test_one_run_writes_everything_that_was_asked_for(
    nps, fake_pipeline, photo_pair, tmp_path: Path
):
    ran = nps(
        *("reconstruct", *photo_pair, "-o", tmp_path / "scene.ply", "--json"),
        *("--video", tmp_path / "orbit.gif", "--poses", tmp_path / "pose.json"),
        *("--depth", tmp_path / "depth"),
    )
    assert ran.code == 0, ran.err
    assert files(tmp_path) == ["depth", "orbit.gif", "pose.json", "scene.ply"]
    assert files(tmp_path / "depth") == ["00000.npy", "00000.png", "00001.npy", "00001.png"]
    assert np.load(tmp_path / "depth" / "00001.npy").shape == (16, 24)
    assert len(read_poses(tmp_path / "pose.json")) == 2
    report = json.loads(ran.out)
    assert report["gaussians"] == 384
    assert report["outputs"]["video"] == str(tmp_path / "orbit.gif")
    assert report["weights"]["name"] == "tiny"
    assert report["problems"] == []


def test_a_scene_can_go_to_stdout_and_nothing_else_does(
    nps, fake_pipeline, photo_pair, tmp_path: Path
):
    ran = nps("reconstruct", *photo_pair, "-o", "-")
    assert ran.code == 0, ran.err
    assert ran.out_bytes.startswith(b"ply\n")
    assert len(ran.out_bytes.split(b"end_header\n", 1)[1]) == 384 * 17 * 4


def test_where_each_focal_length_came_from_is_said(nps, fake_pipeline, photo_pair, tmp_path: Path):
    run = ["reconstruct", *photo_pair, "-o", tmp_path / "scene.ply", "--force"]
    guessed = nps(*run).err
    assert "left.jpg: 144 x 108, focal length guessed" in guessed
    assert "--focal-35mm" in guessed
    given = nps(*run, "--fov", "60", "--fov", "50").err
    assert "left.jpg: 144 x 108, focal length as given" in given
    widths = [float(view.camera.intrinsics[0, 0]) for view in fake_pipeline.calls[1].views]
    assert widths == pytest.approx([0.866, 1.072], abs=1e-3)


def test_no_refine_means_no_stereo_part(nps, fake_pipeline, photo_pair, tmp_path: Path):
    run = ["reconstruct", *photo_pair, "-o", tmp_path / "scene.ply", "--force"]
    nps(*run)
    nps(*run, "--no-refine")
    assert [call.options.method for call in fake_pipeline.calls] == ["matches", "pnp"]


def test_a_result_not_to_be_trusted_is_written_but_ends_with_3(
    nps, fake_pipeline, photo_pair, tmp_path: Path
):
    fake_pipeline.reconstruction = replace(fake_pipeline.reconstruction, problems=("No overlap.",))
    ran = nps(
        *("reconstruct", *photo_pair, "-o", tmp_path / "scene.ply"),
        *("--poses", tmp_path / "pose.json"),
    )
    assert ran.code == 3
    assert "warning: No overlap." in ran.err and "wrote" in ran.err
    assert files(tmp_path) == ["pose.json", "scene.ply"]
    assert json.loads((tmp_path / "pose.json").read_text())["problems"] == ["No overlap."]


@pytest.mark.parametrize("taken", ["scene.ply", "pose.json", "orbit.gif", "depth"])
def test_an_output_that_exists_is_refused_before_any_work(
    nps, fake_pipeline, photo_pair, tmp_path: Path, taken: str
):
    if taken == "depth":
        (tmp_path / taken).mkdir()
        (tmp_path / taken / "precious").write_text("precious")
    else:
        (tmp_path / taken).write_text("precious")
    ran = nps(
        *("reconstruct", *photo_pair, "-o", tmp_path / "scene.ply"),
        *("--video", tmp_path / "orbit.gif", "--poses", tmp_path / "pose.json"),
        *("--depth", tmp_path / "depth"),
    )
    assert ran.code == 1
    assert taken in ran.err and "--force" in ran.err
    assert files(tmp_path) == [taken]
    assert fake_pipeline.calls == []


def test_one_place_cannot_take_two_outputs(nps, fake_pipeline, photo_pair, tmp_path: Path):
    out = tmp_path / "scene.ply"
    ran = nps("reconstruct", *photo_pair, "-o", out, "--poses", tmp_path / "." / "scene.ply")
    assert ran.code == 1
    assert "two outputs" in ran.err
    assert fake_pipeline.calls == []


def test_the_same_picture_twice_is_refused(nps, fake_pipeline, photo_pair, tmp_path: Path):
    ran = nps("reconstruct", photo_pair[0], photo_pair[0], "-o", tmp_path / "scene.ply")
    assert ran.code == 1
    assert "same picture" in ran.err
    assert files(tmp_path) == []


def test_a_missing_photo_is_an_error_with_a_hint(nps, fake_pipeline, photo_pair, tmp_path: Path):
    ran = nps("reconstruct", photo_pair[0], tmp_path / "none.jpg", "-o", tmp_path / "scene.ply")
    assert ran.code == 1
    assert "none.jpg" in ran.err and "hint:" in ran.err and "Traceback" not in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fov", "60", "--focal-35mm", "26"],
        ["--fov", "0"],
        ["--focal-35mm", "-26"],
        ["--device", "gpu"],
        ["--resolution", "0"],
        ["--video", "orbit.avi"],
        ["-o", "-", "--json"],
    ],
)
def test_wrong_usage_ends_with_2(
    nps, fake_pipeline, photo_pair, tmp_path: Path, arguments: list[str]
):
    ran = nps("reconstruct", *photo_pair, "-o", tmp_path / "scene.ply", *arguments)
    assert ran.code == 2
    assert files(tmp_path) == []


def test_unknown_weights_are_refused_by_name(nps, photo_pair, tmp_path: Path):
    out = tmp_path / "scene.ply"
    ran = nps("reconstruct", *photo_pair, "-o", out, "--weights", "nothing")
    assert ran.code == 1
    assert "nothing" in ran.err and "nps weights list" in ran.err


def test_cuda_that_is_not_there_is_an_error(nps, photo_pair, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    out = tmp_path / "scene.ply"
    ran = nps("reconstruct", *photo_pair, "-o", out, "--device", "cuda")
    assert ran.code == 1
    assert "nps doctor" in ran.err


def test_quiet_says_nothing(nps, fake_pipeline, photo_pair, tmp_path: Path):
    ran = nps("reconstruct", *photo_pair, "-o", tmp_path / "scene.ply", "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
