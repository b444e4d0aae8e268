"""Cameras from JSON of other programs mean the same as our own pose document."""

import json
from pathlib import Path

import pytest
import torch

from models.data.camera_files import read_cameras
from models.geometry.rigid import invert, se3_exponential

WIDTH, HEIGHT = 640, 480
TWISTS = [[0.3, -0.1, 2, 0.1, 0.7, -0.2], [-1.0, 0.4, 0, -0.3, 0.2, 0.5]]
POSES = [se3_exponential(torch.tensor(twist, dtype=torch.float64)) for twist in TWISTS]
SIZE = {"width": WIDTH, "height": HEIGHT}
PINHOLE = {"intrinsics_px": [[500.0, 0, 320], [0, 510, 240], [0, 0, 1]], **SIZE}


def pose_document() -> dict:
    views = [{"world2cam": POSES[0].tolist()}, {"cam2world": invert(POSES[1]).tolist()}]
    return {"views": [{"photo": f"{i}.jpg", **view, **PINHOLE} for i, view in enumerate(views)]}


def cameras_json() -> list[dict]:
    """As the authors of 3DGS write it: axes and place of the camera in the world."""
    lens = {**SIZE, "fx": 500.0, "fy": 510.0}
    return [
        {"id": i, "img_name": str(i), "rotation": pose[:3, :3].T.tolist(), **lens}
        | {"position": (-pose[:3, :3].T @ pose[:3, 3]).tolist()}
        for i, pose in enumerate(POSES)
    ]


def transforms_json() -> dict:
    """As nerfstudio writes it: columns are right, up, backward and the camera's place."""
    frames = []
    for i, pose in enumerate(POSES):
        right, down, forward = pose[:3, :3]
        center = -pose[:3, :3].T @ pose[:3, 3]
        rows = torch.stack([right, -down, -forward, center], dim=1).tolist()
        frames.append({"file_path": f"images/{i}.jpg", "transform_matrix": [*rows, [0, 0, 0, 1]]})
    lens = {"fl_x": 500.0, "fl_y": 510.0, "cx": 320, "cy": 240, "w": WIDTH, "h": HEIGHT, "k1": 0.1}
    return lens | {"frames": frames}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cameras.json"


@pytest.mark.parametrize("make", [pose_document, cameras_json, transforms_json])
def test_a_camera_is_the_same_whoever_wrote_it(file: Path, make):
    file.write_text(json.dumps(make()))
    images = read_cameras(file)
    assert [Path(image.name).stem for image in images] == ["0", "1"]
    for image, pose in zip(images, POSES, strict=True):
        torch.testing.assert_close(image.camera.world2cam, pose)
        expected = torch.tensor(PINHOLE["intrinsics_px"], dtype=torch.float64)
        torch.testing.assert_close(image.camera.intrinsics_px, expected)
        assert image.camera.size == (HEIGHT, WIDTH)
        assert any(image.distortion) == (make is transforms_json)


def test_a_camera_without_a_pose_is_enough_for_intrinsics_only(file: Path):
    file.write_text(json.dumps(PINHOLE))
    (image,) = read_cameras(file, posed=False)
    assert image.camera.world2cam.equal(torch.eye(4, dtype=torch.float64))
    with pytest.raises(ValueError, match="view 0 is not a camera"):
        read_cameras(file)


BROKEN = {
    "pose": [
        {"width": 0},
        {"width": 1e9},
        {"height": None},
        {"intrinsics_px": [[1e300, 0, 0], [0, 1e300, 0], [0, 0, 1]]},
        {"intrinsics_px": [[500.0, 0, 0], [0, 500, 0], [0, 0, 0]]},
        {"world2cam": [[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]]},
        {"world2cam": [[1, 0, 0, 1e30], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]},
        {"world2cam": [[1]] * 4},
    ],
    "3dgs": [
        {"rotation": [[1, 0, 0]]},
        {"rotation": [[1, 0, 0], [0, 1, 0], [0, 0, 1.1]]},
        {"position": 3},
        {"position": [0, 0]},
        {"fx": 1e300},
        {"fy": "500"},
    ],
    "transforms": [
        {"w": 2**40},
        {"fl_x": 0},
        {"fl_x": True},
        {"camera_angle_x": 0, "fl_x": None},
        {"camera_model": ["PINHOLE"]},
        {"k1": "x"},
        {"frames": "ab"},
        {"frames": [1]},
        {"frames": []},
        {"frames": [{"file_path": "a", "transform_matrix": -1e300}]},
    ],
}


@pytest.mark.parametrize(
    ("kind", "change"), [(kind, change) for kind in BROKEN for change in BROKEN[kind]]
)
def test_a_camera_that_cannot_be_is_refused_in_a_sentence(file: Path, kind: str, change: dict):
    if kind == "transforms":
        document = transforms_json() | change
    else:
        document = {"pose": pose_document()["views"], "3dgs": cameras_json()}[kind]
        document[0] |= change
    file.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"cameras\.json") as caught:
        read_cameras(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
