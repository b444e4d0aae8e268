"""COLMAP models, read back by a small reader of the published text format."""

import os
import struct
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.data.colmap import read_model as read_model_of
from models.geometry.camera import project
from models.geometry.rigid import from_wxyz
from models.weights import WeightsInfo
from nps_cli.errors import NpsError
from nps_cli.formats.colmap import (
    BINARY_FILES,
    check_model,
    fit_text,
    image_names,
    write_colmap,
)
from nps_cli.formats.poses import pose_document
from nps_cli.photos.load import load_photos

WEIGHTS = WeightsInfo("tiny", "ab" * 32, "MIT", "for tests", {})
HIDDEN = 2  # a point that only the first photo and, in a triple, the third would show


@dataclass(frozen=True)
class Model:
    """What the three files say, in numpy, nothing derived."""

    cameras: dict[int, tuple[str, list[float]]]
    poses: dict[int, np.ndarray]  # 3x4
    camera_of: dict[int, int]
    names: dict[int, str]
    seen: dict[int, list[tuple[float, float, int]]]
    points: dict[int, list[float]]  # x y z r g b error
    tracks: dict[int, list[tuple[int, int]]]


def read_model(folder: Path) -> Model:
    def lines(name: str) -> list[str]:
        text = (folder / name).read_text(encoding="utf-8")
        return [line for line in text.splitlines() if not line.startswith("#")]

    model = Model({}, {}, {}, {}, {}, {}, {})
    for line in lines("cameras.txt"):
        number, kind, *values = line.split()
        model.cameras[int(number)] = kind, [float(value) for value in values]
    rows = lines("images.txt")
    for head, body in zip(rows[::2], rows[1::2], strict=True):
        number, *pose, camera, name = head.split()
        w, x, y, z, *translation = (float(value) for value in pose)
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )
        model.poses[int(number)] = np.column_stack([rotation, translation])
        model.camera_of[int(number)], model.names[int(number)] = int(camera), name
        x_y_point = np.array(body.split(), float).reshape(-1, 3)
        model.seen[int(number)] = [(x, y, int(point)) for x, y, point in x_y_point]
    for line in lines("points3D.txt"):
        number, *values = line.split()
        model.points[int(number)] = [float(value) for value in values[:7]]
        pairs = [int(value) for value in values[7:]]
        model.tracks[int(number)] = list(zip(pairs[::2], pairs[1::2], strict=True))
    return model


@pytest.fixture
def known(reconstruction, photo_pair):
    """The fixture's scene with its points where the photos show them; one is hidden in each."""
    photos = load_photos(list(photo_pair), max_side=64)
    points = reconstruction.gaussians.means[::61]
    intrinsics = torch.stack([photo.camera.intrinsics for photo in photos])
    observations, _ = project(points.expand(2, -1, -1), reconstruction.world2cam, intrinsics)
    observations[1, HIDDEN] = torch.nan
    return photos, replace(reconstruction, points=points, observations=observations)


@pytest.fixture
def model(known, tmp_path: Path) -> Model:
    photos, reconstruction = known
    document = pose_document(photos, reconstruction, WEIGHTS)
    names = [photo.name for photo in photos]
    write_colmap(document, names, photos, reconstruction, tmp_path / "sparse", force=False)
    return read_model(tmp_path / "sparse")


def test_points_reproject_to_their_observations_in_pixels_of_the_full_photo(model):
    for image, seen in model.seen.items():
        kind, (width, height, fx, fy, cx, cy) = model.cameras[model.camera_of[image]]
        assert (kind, width, height) == ("PINHOLE", 144, 108)
        assert len(seen) == (7 if image == 1 else 6)
        for x, y, number in seen:
            in_camera = model.poses[image] @ [*model.points[number][:3], 1]
            u = fx * in_camera[0] / in_camera[2] + cx
            v = fy * in_camera[1] / in_camera[2] + cy
            assert (u, v) == (pytest.approx(x, abs=1e-3), pytest.approx(y, abs=1e-3))


def test_tracks_point_back_at_the_observations_of_their_points(model):
    for number, track in model.tracks.items():
        assert [image for image, _ in track] == ([1] if number == HIDDEN + 1 else [1, 2])
        for image, place in track:
            assert model.seen[image][place][2] == number


def test_the_poses_are_world2cam(model, known):
    for image, expected in enumerate(known[1].world2cam.numpy(), start=1):
        np.testing.assert_allclose(model.poses[image], expected[:3], atol=1e-6)


def test_a_point_on_the_middle_of_a_pixel_ends_in_one_half_and_has_its_color(known, tmp_path: Path):
    photos, reconstruction = known
    image = torch.zeros(3, 54, 72)
    image[:, 10, 20] = torch.tensor([1.0, 0.4, 0.2])  # of half the size of the full photo
    photos = [replace(photo, image=image) for photo in photos]
    at = torch.tensor([20.5 / 72, 10.5 / 54])
    observations = torch.stack([at, torch.tensor([torch.nan] * 2)])[:, None]
    point = torch.tensor([[0.0, 0.0, 2.0]])  # projects to the middle, (72, 54) in full pixels
    reconstruction = replace(reconstruction, points=point, observations=observations)
    document = pose_document(photos, reconstruction, WEIGHTS)
    write_colmap(document, ["a", "b"], photos, reconstruction, tmp_path / "m", force=False)
    model = read_model(tmp_path / "m")
    ((x, y, _),) = model.seen[1]
    assert (x, y) == (pytest.approx(41, abs=1e-4), pytest.approx(21, abs=1e-4))
    *xyz, red, green, blue, error = model.points[1]
    assert (xyz, [red, green, blue]) == ([0, 0, 2], [255, 102, 51])
    assert error == pytest.approx(((72 - 41) ** 2 + (54 - 21) ** 2) ** 0.5, abs=1e-3)


def test_a_reconstruction_without_points_is_a_model_without_points(known, tmp_path: Path):
    photos, reconstruction = known
    empty = replace(reconstruction, points=torch.zeros(0, 3), observations=torch.zeros(2, 0, 2))
    document = pose_document(photos, empty, WEIGHTS)
    write_colmap(document, ["a", "b"], photos, empty, tmp_path / "m", force=False)
    model = read_model(tmp_path / "m")
    assert (model.points, model.seen) == ({}, {1: [], 2: []})
    assert len(model.poses) == 2


def test_names_are_relative_to_the_folder_of_all_photos(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert image_names([tmp_path / "a.jpg", tmp_path / "b.jpg"]) == ["a.jpg", "b.jpg"]
    paths = [tmp_path / "one" / "a.jpg", tmp_path / "two" / "a.jpg"]
    assert image_names(paths) == ["one/a.jpg", "two/a.jpg"]


def read_binary(folder: Path) -> dict[int, tuple[list[float], list[tuple[int, int]]]]:
    """Points of points3D.bin, by the published layout: values, and their tracks."""
    content, at, points = (folder / "points3D.bin").read_bytes(), 8, {}
    for _ in range(struct.unpack_from("<Q", content)[0]):
        number, *values, length = struct.unpack_from("<QdddBBBdQ", content, at)
        track = struct.unpack_from(f"<{2 * length}I", content, at + 51)
        points[number] = values, list(zip(track[::2], track[1::2], strict=True))
        at += 51 + 8 * length
    assert at == len(content)
    return points


def test_names_that_text_would_cut_short_make_a_binary_model_of_the_same(known, model, tmp_path):
    photos, reconstruction = known
    document = pose_document(photos, reconstruction, WEIGHTS)
    names = ["my photo.jpg", os.fsdecode(b"\xff\nb.jpg")]
    assert not any(fit_text([name]) for name in names) and fit_text(["\u00fc/a-b.jpg"])
    folder = tmp_path / "binary"
    write_colmap(document, names, photos, reconstruction, folder, force=False)
    assert sorted(path.name for path in folder.iterdir()) == sorted(BINARY_FILES)
    points = read_binary(folder)
    assert points.keys() == model.points.keys()
    for number, (values, track) in points.items():
        np.testing.assert_allclose(values, model.points[number], rtol=1e-9, atol=1e-9)
        assert track == model.tracks[number]
    write_colmap(document, ["my photo.jpg", "b.jpg"], photos, reconstruction, folder, force=True)
    for image, (kind, values), pose in zip(
        read_model_of(folder), model.cameras.values(), model.poses.values(), strict=True
    ):
        assert kind == "PINHOLE" and [*image.camera.size[::-1]] == values[:2]
        assert image.camera.intrinsics_px[0, 0].item() == pytest.approx(values[2], rel=1e-9)
        np.testing.assert_allclose(image.camera.world2cam[:3], pose, atol=1e-9)
    assert [image.name for image in read_model_of(folder)] == ["my photo.jpg", "b.jpg"]


def test_a_folder_whose_binary_model_would_win_is_refused(tmp_path: Path):
    check_model(tmp_path)
    (tmp_path / "images.bin").touch()
    with pytest.raises(NpsError, match=r"images\.bin"):
        check_model(tmp_path)


def test_a_quaternion_means_the_same_to_the_reader_and_to_us(model, known):
    document = pose_document(known[0], known[1], WEIGHTS)
    wxyz = torch.tensor(document["views"][1]["quaternion_wxyz"], dtype=torch.float64)
    np.testing.assert_allclose(from_wxyz(wxyz).numpy(), model.poses[2][:, :3], atol=1e-6)
