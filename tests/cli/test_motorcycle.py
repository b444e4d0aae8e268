"""Whole runs of the command line, from photo files to files, with the weights in the package."""

import json
from pathlib import Path

import pytest
import torch
from motorcycle import write_small_pair

from models.metrics.errors import psnr
from models.render import render
from nps_cli.formats import load_scene, read_cameras
from nps_cli.photos.load import load_photo

QUICK = ("--resolution", "192", "--device", "cpu")


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    return write_small_pair(tmp_path)


def check_poses(document: dict) -> None:
    """The pair is rectified: the second camera stands to the right and looks the same way."""
    (relative,) = document["pairs"]
    assert relative["rotation_deg"] < 0.5
    assert relative["baseline_direction"] == pytest.approx([1, 0, 0], abs=0.05)
    assert relative["method"] == "matches" and relative["confidence"] > 0.9
    assert document["problems"] == []
    first, second = (view["intrinsics_px"] for view in document["views"])
    assert first[0][0] == pytest.approx(994.978 * 370 / 741, abs=0.01)
    assert second[0][2] > first[0][2]


def test_reconstruct_writes_a_scene_that_looks_like_the_photos(nps, pair, tmp_path: Path):
    scene, poses = tmp_path / "scene.ply", tmp_path / "pose.json"
    ran = nps("reconstruct", *pair, *QUICK, "-o", scene, "--poses", poses, "--json")
    assert ran.code == 0, ran.err
    check_poses(json.loads(poses.read_text()))
    gaussians, comments = load_scene(scene)
    assert len(gaussians) == json.loads(ran.out)["gaussians"] > 20_000
    for photo, found in zip(pair, read_cameras(comments), strict=False):
        with torch.no_grad():
            rendering = render(gaussians, found.camera)
        assert psnr(rendering.color, load_photo(Path(photo)).image) > 19


def test_pose_writes_where_the_second_camera_stands(nps, pair):
    ran = nps("pose", *pair, *QUICK)
    assert ran.code == 0, ran.err
    check_poses(json.loads(ran.out))
