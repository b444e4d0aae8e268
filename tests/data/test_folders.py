import json
from pathlib import Path

import pytest
import torch
from chunk_factory import encode
from folder_factory import (
    CX,
    CY,
    FX,
    FY,
    HEIGHT,
    NORMALIZED,
    SCENE,
    WIDTH,
    transforms,
    write_binary_model,
    write_images,
    write_nerfstudio,
    write_text_model,
)

from models.data.chunks import open_chunk, write_chunks
from models.data.folders import ConversionOptions, find_folders, read_folder
from models.data.report import Report
from models.data.scenes import decode, to_tensor
from models.geometry.camera import project
from models.geometry.rigid import invert


def read(folder: Path, report: Report | None = None, **options):
    (found,) = find_folders(folder)
    return read_folder(
        found, report or Report(), ConversionOptions(**{"undistort": False} | options)
    )


@pytest.mark.parametrize("write", [write_nerfstudio, write_text_model, write_binary_model])
def test_cameras_and_images_come_through_in_order_of_names(tmp_path, write):
    report = Report()
    scene = read(write(tmp_path / "desk"), report)
    assert scene.key == "desk" and report.summary() == "11 of 11 frames"
    assert all(map(torch.equal, scene.images, SCENE.images))  # frame_2 before frame_10
    torch.testing.assert_close(scene.world2cam, SCENE.world2cam)
    torch.testing.assert_close(scene.intrinsics, NORMALIZED.expand(11, 3, 3))
    write_chunks([scene], tmp_path)
    chunk = open_chunk(tmp_path / "000000.torch")
    torch.testing.assert_close(chunk.scenes["desk"].world2cam, SCENE.world2cam)


def test_a_binary_model_comes_before_text_and_distortion_is_noted(tmp_path):
    report = Report()
    folder = write_binary_model(tmp_path / "desk")
    (folder / "sparse" / "0" / "cameras.txt").write_text("nonsense")
    read(folder, report)
    assert report.notes == {"the distortion of its lens was left as it is": ["desk"]}


def test_scenes_are_found_at_any_depth_and_named_by_their_path(tmp_path):
    write_nerfstudio(tmp_path / "1K" / "f00")
    write_text_model(tmp_path / "2K" / "f01")
    write_text_model(tmp_path / "1K" / "f00" / "colmap")  # what transforms.json was made of
    assert [scene.key for scene in find_folders(tmp_path)] == ["1K/f00", "2K/f01"]
    assert find_folders(tmp_path / "1K" / "f00" / "images") == []


def test_dl3dv_images_are_taken_from_where_they_are(tmp_path):
    folder = write_nerfstudio(tmp_path / "1K" / "f00", k1=0.01)
    (folder / "images").rename(folder / "images_8")
    assert len(read(folder)) == 11
    write_images(folder, "other")
    (folder / "other" / "frame_4.png").unlink()
    report = Report()
    assert len(read(folder, report, images="other")) == 10
    (skipped,) = report.skipped
    assert skipped.where == "f00:images/frame_4.png" and "is not there" in skipped.why


def test_dl3dv_cameras_move_as_in_the_published_conversion(tmp_path):
    scene = read(write_nerfstudio(tmp_path / "1K" / "f00"))
    published = []
    for frame in sorted(transforms()["frames"], key=lambda each: int(each["file_path"][13:-4])):
        cam2world = torch.tensor(frame["transform_matrix"])
        cam2world[2] *= -1
        cam2world = cam2world[[1, 0, 2, 3]]
        cam2world[:3, 1:3] *= -1
        published.append(torch.linalg.inv(cam2world))
    world2cam = torch.stack(published)
    torch.testing.assert_close(
        scene.world2cam @ invert(scene.world2cam[:1]), world2cam @ invert(world2cam[:1])
    )


def test_images_in_subfolders_are_found_where_the_model_says(tmp_path):
    folder = write_text_model(tmp_path / "desk")
    for name in ("images", "small"):
        (folder / name / "left").mkdir(parents=True)
    (folder / "images" / "frame_0.png").rename(folder / "images" / "left" / "frame_0.png")
    model = folder / "sparse" / "0" / "images.txt"
    model.write_text(model.read_text().replace("7 frame_0.png", "7 left/frame_0.png"))
    assert len(read(folder)) == 11
    (folder / "images" / "left" / "frame_0.png").rename(folder / "small" / "left" / "frame_0.png")
    with pytest.raises(ValueError, match="1 of its 11"):
        read(folder, images="small")


def test_a_focal_length_may_be_told_by_an_angle_and_differ_by_frame(tmp_path):
    document = transforms()
    for name in ("fl_x", "fl_y", "cx", "cy"):
        del document[name]
    document["camera_angle_x"] = 2 * torch.tensor(0.5 / 0.9).atan().item()
    document["frames"][0]["fl_x"] = 64  # of frame_10
    folder = write_nerfstudio(tmp_path / "desk")
    (folder / "transforms.json").write_text(json.dumps(document))
    scene = read(folder)
    torch.testing.assert_close(
        scene.intrinsics[0], torch.tensor([[0.9, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]])
    )
    torch.testing.assert_close(scene.intrinsics[10, 0, 0], torch.tensor(1.0))


def test_large_images_are_shrunk_and_small_ones_stay_as_they_are(tmp_path):
    folder = write_nerfstudio(tmp_path / "desk")
    scene = read(folder, short_side=18)
    assert decode(scene.images[0]).size == (32, 18)
    torch.testing.assert_close(scene.intrinsics, NORMALIZED.expand(11, 3, 3))
    assert all(map(torch.equal, read(folder, short_side=36).images, SCENE.images))


def test_frames_that_cannot_be_used_are_counted_and_named(tmp_path):
    document = transforms()
    document["frames"][0]["transform_matrix"][0][3] = 1e30  # frame_10
    document["frames"][1]["transform_matrix"][0][0] = 3.0  # frame_9
    folder = write_nerfstudio(tmp_path / "desk")
    (folder / "transforms.json").write_text(json.dumps(document))
    (folder / "images" / "frame_0.png").write_bytes(b"no image")
    report = Report()
    assert len(read(folder, report, short_side=20)) == 8
    reasons = {skipped.where.split("_")[-1]: skipped.why for skipped in report.skipped}
    assert "too far away" in reasons["10.png"] and "rigid" in reasons["9.png"]
    assert "cannot be decoded" in reasons["0.png"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, "only pinhole"),
        ({"frames": [{"file_path": "a.png"}]}, "has no 'transform_matrix'"),
        ({"frames": [{"file_path": "a.png", "transform_matrix": [[1, 0]]}]}, "not a 4x4"),
        ({"frames": [{"file_path": "a.png", "transform_matrix": [[1], [1, 2]]}]}, "is wrong"),
        ({"frames": 3}, "no list of frames"),
        ({"frames": []}, "0 of its 0 frames"),
    ],
)
def test_a_transforms_json_that_makes_no_sense_says_why(tmp_path, changes, why):
    with pytest.raises(ValueError, match=why):
        read(write_nerfstudio(tmp_path / "desk", **changes))


@pytest.mark.parametrize("camera", ["OPENCV_FISHEYE 64 36 1 1 1 1 0 0 0 0", "PINHOLE 64 36 1"])
def test_a_colmap_camera_that_is_no_pinhole_is_refused(tmp_path, camera):
    with pytest.raises(ValueError, match=r"only pinhole|1 parameters"):
        read(write_text_model(tmp_path / "desk", camera))


@pytest.mark.parametrize("kept", [4, 20, 200])
def test_a_truncated_colmap_model_is_refused(tmp_path, kept):
    folder = write_binary_model(tmp_path / "desk")
    path = folder / "sparse" / "0" / "images.bin"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="no whole COLMAP model"):
        read(folder)


def test_an_image_that_is_a_jpeg_by_another_name_is_taken_byte_by_byte(tmp_path):
    folder = write_nerfstudio(tmp_path / "desk")
    jpeg = encode(torch.zeros(36, 64, 3, dtype=torch.uint8).numpy(), "JPEG")
    (folder / "images" / "frame_0.png").write_bytes(jpeg.numpy().tobytes())
    assert torch.equal(read(folder).images[0], jpeg)


DISTORTION = {"k1": 0.2, "k2": -0.05, "p1": 0.02, "p2": -0.01}


def dotted(folder: Path, points: torch.Tensor) -> Path:
    """Photos of white dots, as the distorted lens of a camera four times as large shows them."""
    x, y = (points[:, :2] / points[:, 2:]).T
    r2, (k1, k2, p1, p2) = x**2 + y**2, DISTORTION.values()
    radial = 1 + k1 * r2 + k2 * r2**2
    u = 4 * (FX * (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2)) + CX)
    v = 4 * (FY * (y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y) + CY)
    rows, columns = torch.meshgrid(
        torch.arange(4 * HEIGHT) + 0.5, torch.arange(4 * WIDTH) + 0.5, indexing="ij"
    )
    distance = (rows[None] - v[:, None, None]) ** 2 + (columns[None] - u[:, None, None]) ** 2
    dots = (255 * torch.exp(-distance / 18).amax(0)).byte()
    image = encode(dots[..., None].expand(-1, -1, 3).contiguous().numpy())
    for path in (folder / "images").iterdir():
        path.write_bytes(image.numpy().tobytes())
    return folder


@pytest.mark.parametrize("short_side", [None, HEIGHT * 2])
def test_the_distortion_of_a_lens_is_undone_and_the_intrinsics_fit_the_image(tmp_path, short_side):
    points = torch.tensor([[0.3, 0.15, 1.0], [-0.2, 0.1, 1.0], [0.1, -0.15, 1.0]])
    folder = dotted(write_nerfstudio(tmp_path / "desk", **DISTORTION), points)
    scene = read(folder, undistort=True, short_side=short_side)
    image = to_tensor(decode(scene.images[0]))[0]
    height, width = image.shape
    assert height == (short_side or 4 * HEIGHT)
    at, _ = project(points, torch.eye(4), scene.intrinsics[0])
    for x, y in (at * torch.tensor([width, height])).tolist():
        left, top = int(x) - 8, int(y) - 8
        window = image[top : top + 17, left : left + 17].clamp(min=0.1) - 0.1
        mass = window / window.sum()
        center = torch.arange(17) + 0.5
        assert float((mass.sum(0) * center).sum()) + left == pytest.approx(x, abs=0.3)
        assert float((mass.sum(1) * center).sum()) + top == pytest.approx(y, abs=0.3)


def test_a_lens_without_distortion_leaves_images_as_they_are(tmp_path):
    scene = read(write_nerfstudio(tmp_path / "desk"), undistort=True)
    assert all(map(torch.equal, scene.images, SCENE.images))


@pytest.mark.parametrize("coefficient", [1e308, -1e4])
def test_a_distortion_beyond_any_lens_is_named(tmp_path, coefficient: float):
    with pytest.raises(ValueError, match="0 of its 11 frames"):
        read(write_nerfstudio(tmp_path / "desk", k2=coefficient), undistort=True)


def test_a_colmap_model_of_more_observations_than_any_file_holds_is_refused(tmp_path):
    folder = write_binary_model(tmp_path / "desk")
    path = folder / "sparse" / "0" / "images.bin"
    content = path.read_bytes()
    counted = content.index(b".png\0") + 5
    path.write_bytes(content[:counted] + b"\xff" * 8 + content[counted + 8 :])
    with pytest.raises(ValueError, match="no whole COLMAP model"):
        read(folder)


def test_a_colmap_image_with_too_few_numbers_is_refused(tmp_path):
    folder = write_text_model(tmp_path / "desk")
    path = folder / "sparse" / "0" / "images.txt"
    path.write_text(path.read_text().replace("\n1 1.0 ", "\n1 "))
    with pytest.raises(ValueError, match="6 numbers"):
        read(folder)
