"""transforms.json: axes and pixels by hand, and known points through OpenGL's own camera."""

from pathlib import Path

import pytest
import torch

from models.geometry.camera import project
from models.weights import WeightsInfo
from nps_cli.formats.nerfstudio import file_paths, transforms
from nps_cli.formats.poses import pose_document
from nps_cli.photos.load import load_photos

WEIGHTS = WeightsInfo("tiny", "ab" * 32, "MIT", "for tests", {})


@pytest.fixture
def photos(photo_pair):
    return load_photos(list(photo_pair), max_side=64)


@pytest.fixture
def frames(photos, reconstruction) -> list[dict]:
    return transforms(pose_document(photos, reconstruction, WEIGHTS), ["a.jpg", "b.jpg"])["frames"]


def test_the_first_camera_looks_along_minus_z_with_y_up(frames):
    assert frames[0]["transform_matrix"] == [
        [1, 0, 0, 0],
        [0, -1, 0, 0],
        [0, 0, -1, 0],
        [0, 0, 0, 1],
    ]


def test_a_camera_stays_where_it_is(frames, reconstruction):
    center = torch.tensor(frames[1]["transform_matrix"])[:3, 3]
    world2cam = reconstruction.world2cam[1]
    torch.testing.assert_close(world2cam[:3, :3] @ center, -world2cam[:3, 3])


def test_pixels_are_those_of_the_full_photo(frames):
    first = frames[0]
    assert (first["w"], first["h"], first["cx"], first["cy"]) == (144, 108, 72, 54)
    assert first["fl_x"] == pytest.approx(first["fl_y"], rel=1e-5)
    assert first["file_path"] == "a.jpg"


def test_known_points_land_where_we_see_them(frames, photos, reconstruction):
    points = reconstruction.gaussians.means
    for frame, photo, world2cam in zip(frames, photos, reconstruction.world2cam, strict=True):
        to_camera = torch.tensor(frame["transform_matrix"]).inverse()
        x, y, z = (points @ to_camera[:3, :3].T + to_camera[:3, 3]).T
        u = frame["cx"] + frame["fl_x"] * x / -z
        v = frame["cy"] - frame["fl_y"] * y / -z
        expected, _ = project(points, world2cam, photo.camera.intrinsics)
        size = torch.tensor([144, 108])
        torch.testing.assert_close(torch.stack([u, v], 1), expected * size, atol=2e-3, rtol=0)


def test_a_photo_is_named_from_where_the_document_lies(tmp_path: Path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    given = [Path("photos/a.jpg"), tmp_path / "b.jpg"]
    assert file_paths(given, Path("out/transforms.json")) == [
        "../photos/a.jpg",
        (tmp_path / "b.jpg").as_posix(),
    ]
    assert file_paths(given, Path("transforms.json"))[0] == "photos/a.jpg"
    assert file_paths(given, None)[0] == "photos/a.jpg"
