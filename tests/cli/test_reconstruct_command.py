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


@pytest.fixture
def reconstruct(nps, fake_pipeline, photo_pair, tmp_path: Path):
    """Runs the command on two photos: `reconstruct("--fov", 60).err`; the scene is scene.ply."""
    return lambda *options: nps("reconstruct", *photo_pair, "-o", tmp_path / "scene.ply", *options)


@pytest.fixture
def all_outputs(tmp_path: Path):
    """Options that ask for everything beside the scene."""
    names = {"--video": "orbit.gif", "--poses": "pose.json", "--depth": "depth"}
    return [part for option, name in names.items() for part in (option, tmp_path / name)]


def test_a_scene_is_written_with_its_cameras_and_what_to_do_next_is_said(
    reconstruct, tmp_path: Path
):
    ran = reconstruct()
    assert ran.code == 0, ran.err
    assert ran.out == ""
    assert f"wrote {tmp_path / 'scene.ply'} (384 Gaussians)" in ran.err
    assert f"next: nps render {tmp_path / 'scene.ply'}" in ran.err
    gaussians, comments = load_scene(tmp_path / "scene.ply")
    assert len(gaussians) == 384
    assert [photo.name for photo in read_cameras(comments)] == ["left.jpg", "right.jpg"]


def test_one_run_writes_everything_that_was_asked_for(reconstruct, all_outputs, tmp_path: Path):
    ran = reconstruct("--json", *all_outputs)
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


def test_a_scene_can_go_to_stdout_and_nothing_else_does(reconstruct):
    ran = reconstruct("-o", "-")
    assert ran.code == 0, ran.err
    assert ran.out_bytes.startswith(b"ply\n")
    assert len(ran.out_bytes.split(b"end_header\n", 1)[1]) == 384 * 17 * 4


def test_where_each_focal_length_came_from_is_said(reconstruct, fake_pipeline):
    guessed = reconstruct().err
    assert "left.jpg: 144 x 108, focal length guessed" in guessed
    assert "--focal-35mm" in guessed
    given = reconstruct("--force", "--fov", "60", "--fov", "50").err
    assert "left.jpg: 144 x 108, focal length as given" in given
    widths = [float(view.camera.intrinsics[0, 0]) for view in fake_pipeline.calls[1].views]
    assert widths == pytest.approx([0.866, 1.072], abs=1e-3)


def test_no_refine_means_no_stereo_part(reconstruct, fake_pipeline):
    reconstruct()
    reconstruct("--force", "--no-refine")
    assert [call.options.method for call in fake_pipeline.calls] == ["matches", "pnp"]


def test_a_result_not_to_be_trusted_is_written_but_ends_with_3(
    reconstruct, fake_pipeline, tmp_path: Path
):
    fake_pipeline.reconstruction = replace(fake_pipeline.reconstruction, problems=("No overlap.",))
    ran = reconstruct("--poses", tmp_path / "pose.json")
    assert ran.code == 3
    assert "warning: No overlap." in ran.err and "wrote" in ran.err
    assert files(tmp_path) == ["pose.json", "scene.ply"]
    assert json.loads((tmp_path / "pose.json").read_text())["problems"] == ["No overlap."]


@pytest.mark.parametrize("taken", ["scene.ply", "pose.json", "orbit.gif", "depth"])
def test_an_output_that_exists_is_refused_before_any_work(
    reconstruct, all_outputs, fake_pipeline, tmp_path: Path, taken: str
):
    if taken == "depth":
        (tmp_path / taken).mkdir()
        (tmp_path / taken / "precious").write_text("precious")
    else:
        (tmp_path / taken).write_text("precious")
    ran = reconstruct(*all_outputs)
    assert ran.code == 1
    assert taken in ran.err and "--force" in ran.err
    assert files(tmp_path) == [taken]
    assert fake_pipeline.calls == []


def test_one_place_cannot_take_two_outputs(reconstruct, fake_pipeline, tmp_path: Path):
    ran = reconstruct("--depth", tmp_path / "." / "scene.ply")
    assert ran.code == 1
    assert "two outputs" in ran.err
    assert fake_pipeline.calls == []


@pytest.mark.parametrize(
    ("second", "message"), [("left.jpg", "same picture"), ("none.jpg", "none.jpg")]
)
def test_a_photo_that_cannot_be_used_is_an_error_with_a_hint(
    nps, fake_pipeline, photo_pair, tmp_path: Path, second: str, message: str
):
    ran = nps("reconstruct", photo_pair[0], tmp_path / second, "-o", tmp_path / "scene.ply")
    assert ran.code == 1
    assert message in ran.err and "hint:" in ran.err and "Traceback" not in ran.err
    assert files(tmp_path) == []


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
def test_wrong_usage_ends_with_2(reconstruct, tmp_path: Path, arguments: list[str]):
    assert reconstruct(*arguments).code == 2
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("option", "value", "hint"),
    [("--weights", "nothing", "nps weights list"), ("--device", "cuda", "nps doctor")],
)
def test_weights_or_a_device_that_are_not_there_are_an_error_with_a_hint(
    nps, photo_pair, tmp_path: Path, monkeypatch, option: str, value: str, hint: str
):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    ran = nps("reconstruct", *photo_pair, "-o", tmp_path / "scene.ply", option, value)
    assert ran.code == 1
    assert value in ran.err.lower() and hint in ran.err


def test_quiet_says_nothing(reconstruct):
    ran = reconstruct("--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


@pytest.mark.parametrize(("command", "out"), [("reconstruct", "scene.ply"), ("pose", "pose.json")])
def test_a_result_that_is_not_finite_is_no_result(
    nps, fake_pipeline, photo_pair, tmp_path: Path, command: str, out: str
):
    scene = fake_pipeline.reconstruction.gaussians
    means = scene.means.clone()
    means[7, 1] = float("nan")
    broken = replace(fake_pipeline.reconstruction, gaussians=replace(scene, means=means))
    fake_pipeline.reconstruction = broken
    ran = nps(command, *photo_pair, "-o", tmp_path / out)
    assert ran.code == 1 and "not finite" in ran.err and "--precision float32" in ran.err
    assert files(tmp_path) == []
