"""`nps pose`: the document on stdout or in a file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from models.data.colmap import read_model
from models.options import PoseMethod
from models.sfm.focal_length import FocalEstimate


def focal_groups(call) -> list[int | None]:
    return [view.camera.focal_group for view in call.views]


def tag(photo: Path, directory: int | None, number: int, value: int) -> None:
    """Write an EXIF tag into a photo."""
    with Image.open(photo) as image:
        exif = image.getexif()
        (exif.get_ifd(directory) if directory else exif)[number] = value
        image.load()
        image.save(photo, exif=exif)


@pytest.fixture
def pose(nps, fake_pipeline, photo_pair):
    """Runs the command on two photos: `pose("--fov", 60).out`."""
    return lambda *options: nps("pose", *photo_pair, *options)


def test_the_document_is_all_that_stdout_gets(pose):
    ran = pose()
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert [view["photo"] for view in document["views"]] == ["left.jpg", "right.jpg"]
    assert "next: nps reconstruct" in ran.err


def test_the_next_command_keeps_what_was_said_about_cameras(pose, photo_pair):
    ran = pose("--fov", 60, "--fov", 70.5)
    photos = " ".join(map(str, photo_pair))
    assert f"next: nps reconstruct {photos} --fov 60.0 --fov 70.5 -o scene.ply" in ran.err


@pytest.mark.parametrize("command", ["pose", "reconstruct"])
def test_people_are_told_how_sure_the_poses_are(
    nps, fake_pipeline, photo_pair, tmp_path: Path, command
):
    pairs = tuple(replace(pair, confidence=0.9) for pair in fake_pipeline.reconstruction.pairs)
    fake_pipeline.reconstruction = replace(fake_pipeline.reconstruction, pairs=pairs)
    ran = nps(command, *photo_pair, "-o", tmp_path / ("p.json" if command == "pose" else "s.ply"))
    assert "poses: sure (confidence 0.90 of 1)" in ran.err


def test_a_file_gets_what_stdout_would(pose, tmp_path: Path):
    out = tmp_path / "pose.json"
    ran = pose("-o", out)
    assert (ran.code, ran.out) == (0, "")
    assert json.loads(out.read_text()) == json.loads(pose().out)


def test_an_existing_file_is_kept_unless_forced(pose, fake_pipeline, tmp_path: Path):
    out = tmp_path / "pose.json"
    out.write_text("precious")
    assert pose("-o", out).code == 1
    assert (out.read_text(), fake_pipeline.calls) == ("precious", [])
    assert pose("-o", out, "--force").code == 0


def test_a_pose_not_to_be_trusted_is_written_but_ends_with_3(pose, fake_pipeline):
    fake_pipeline.reconstruction = replace(fake_pipeline.reconstruction, problems=("No overlap.",))
    ran = pose()
    assert ran.code == 3
    assert json.loads(ran.out)["problems"] == ["No overlap."]
    assert "warning: No overlap." in ran.err


def test_a_colmap_model_is_a_folder(pose, fake_pipeline, tmp_path: Path):
    colmap = "--format", "colmap", "-o", tmp_path / "sparse"
    ran = pose(*colmap)
    assert (ran.code, ran.out) == (0, ""), ran.err
    names = {file.name for file in (tmp_path / "sparse").iterdir()}
    assert names == {"cameras.txt", "images.txt", "points3D.txt"}
    assert pose(*colmap).code == 1
    assert pose(*colmap, "--force").code == 0
    assert len(fake_pipeline.calls) == 2


def test_a_folder_does_not_fit_on_stdout(pose, fake_pipeline):
    ran = pose("--format", "colmap")
    assert (ran.code, ran.out, fake_pipeline.calls) == (2, "", [])
    assert "--out" in ran.err


def test_a_photo_with_a_space_in_its_name_gets_a_binary_colmap_model(
    nps, fake_pipeline, photo_pair, tmp_path: Path
):
    left = photo_pair[0].rename(tmp_path / "the left.jpg")
    ran = nps("pose", left, photo_pair[1], "--format", "colmap", "-o", tmp_path / "sparse")
    assert ran.code == 0, ran.err
    names = [image.name for image in read_model(tmp_path / "sparse")]
    assert names == ["the left.jpg", "right.jpg"]


def test_transforms_go_to_stdout_or_a_file(pose, tmp_path: Path):
    ran = pose("--format", "nerfstudio")
    assert ran.code == 0, ran.err
    assert len(json.loads(ran.out)["frames"]) == 2
    out = tmp_path / "transforms.json"
    assert pose("--format", "nerfstudio", "-o", out).out == ""
    assert json.loads(out.read_text()) == json.loads(ran.out)


def test_a_report_beside_the_file_is_the_pose_document(pose, tmp_path: Path):
    ran = pose("--format", "nerfstudio", "-o", tmp_path / "transforms.json", "--json")
    assert json.loads(ran.out)["format"] == "nps-pose"
    assert pose("--format", "nerfstudio", "--json").code == 2


def test_a_photo_stored_turned_gets_a_word_of_warning(pose, photo_pair):
    tag(photo_pair[0], None, 0x0112, 6)
    assert "left.jpg: stored turned" in pose("--format", "nerfstudio").err
    assert "stored turned" not in pose().err


def test_a_plot_comes_beside_the_document(pose, fake_pipeline, tmp_path: Path):
    plot = tmp_path / "plot.png"
    ran = pose("--plot", plot)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["format"] == "nps-pose"
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert pose("--plot", plot).code == 1
    assert pose("--plot", tmp_path / "plot.jpg").code == 2
    assert len(fake_pipeline.calls) == 1


def test_an_estimated_focal_length_is_reported(pose, fake_pipeline):
    guessed = json.loads(pose().out)["views"]
    assert focal_groups(fake_pipeline.calls[0]) == [0, 0]
    focal = FocalEstimate({0: 1.25, 1: 1.25}, 0.04)
    cameras = focal.applied_to(tuple(view.camera for view in fake_pipeline.calls[0].views))
    fake_pipeline.reconstruction = replace(
        fake_pipeline.reconstruction, cameras=cameras, focal=focal
    )
    ran = pose()

    for view, before in zip(json.loads(ran.out)["views"], guessed, strict=True):
        assert (before["intrinsics_source"], view["intrinsics_source"]) == ("guessed", "estimated")
        ratio = view["intrinsics_px"][0][0] / before["intrinsics_px"][0][0]
        assert ratio == pytest.approx(1.25)
    assert "left.jpg: focal length estimated from matches, 35 mm equivalent" in ran.err


def test_a_focal_length_that_somebody_knows_is_not_estimated(pose, fake_pipeline, photo_pair):
    pose("--fov", 60)
    tag(photo_pair[0], 0x8769, 0xA405, 26)
    pose()
    assert [focal_groups(call) for call in fake_pipeline.calls] == [[None, None], [None, 0]]


def test_photos_of_different_sizes_share_no_focal_length(pose, fake_pipeline, photo_pair):
    with Image.open(photo_pair[0]) as photo:
        photo.crop((0, 0, 100, 100)).save(photo_pair[0])
    pose()
    assert focal_groups(fake_pipeline.calls[0]) == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        ((), "auto"),
        (("--no-refine",), "pnp"),
        (("--method", "matches"), "matches"),
        (("--method", "network"), "pnp+photometric"),
        (("--method", "network", "--no-refine"), "pnp"),
    ],
)
def test_the_method_decides_what_is_asked(pose, fake_pipeline, arguments, method):
    assert pose(*arguments).code == 0
    (call,) = fake_pipeline.calls
    assert call.options.method == method


def test_matches_alone_are_an_error_where_there_are_none(pose, fake_pipeline, tmp_path: Path):
    guess = replace(fake_pipeline.reconstruction.pairs[0], method=PoseMethod.pnp)
    fake_pipeline.reconstruction = replace(fake_pipeline.reconstruction, pairs=(guess,))
    out = tmp_path / "pose.json"
    ran = pose("--method", "matches", "-o", out)
    assert (ran.code, ran.out, out.exists()) == (1, "", False)
    assert "--method network" in ran.err
    assert pose("-o", out).code == 0


def test_matches_alone_cannot_go_without_them(pose, fake_pipeline):
    ran = pose("--method", "matches", "--no-refine")
    assert (ran.code, fake_pipeline.calls) == (2, [])
