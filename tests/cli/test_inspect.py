import json
import math

import pytest
import torch
from PIL import Image

from models.geometry.camera import Camera
from nps_cli.formats import SceneCamera, save_scene


@pytest.fixture
def phone_photo(tmp_path):
    """A portrait photo as a phone stores it: turned, with the place it was taken."""
    path = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "Phone 1", 6
    exif.get_ifd(0x8769).update({0x920A: 4.2, 0xA405: 26})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 12.0, 34.5)})
    Image.new("RGB", (400, 300), "gray").save(path, exif=exif)
    return path


@pytest.fixture
def scene(tmp_path, tiny_scene):
    path = tmp_path / "scene.ply"
    camera = SceneCamera("left.jpg", Camera(torch.eye(3), torch.eye(4), (300, 400)))
    save_scene(tiny_scene, path, [camera])
    return path


def test_a_photo_is_described_in_json(nps, phone_photo):
    ran = nps("inspect", "--json", phone_photo)

    (facts,) = json.loads(ran.out)
    focal_px = 26 * 500 / math.hypot(36, 24)
    matrix = facts.pop("intrinsics_px")
    assert matrix[0] == pytest.approx([focal_px, 0, 150], abs=0.01)
    assert matrix[1] == pytest.approx([0, focal_px, 200], abs=0.01)
    hfov_deg = math.degrees(2 * math.atan(150 / focal_px))
    assert facts.pop("hfov_deg") == pytest.approx(hfov_deg, abs=0.001)
    assert facts == {
        "file": str(phone_photo),
        "kind": "photo",
        "width": 300,
        "height": 400,
        "orientation": 6,
        "make": "Maker",
        "model": "Phone 1",
        "focal_mm": pytest.approx(4.2),
        "focal_35mm": 26,
        "intrinsics_source": "exif-35mm",
    }
    assert ran.code == 0


def test_the_place_of_a_photo_is_never_shown(nps, phone_photo):
    for arguments in (["--json"], []):
        ran = nps("inspect", phone_photo, *arguments)

        assert "34.5" not in ran.out + ran.err


def test_a_photo_is_described_in_a_table(nps, phone_photo):
    ran = nps("inspect", phone_photo)

    for fact in (str(phone_photo), "300 x 400", "Maker Phone 1", "exif-35mm"):
        assert fact in ran.out


def test_a_scene_is_described(nps, scene, tiny_scene):
    ran = nps("inspect", "--json", scene)

    (facts,) = json.loads(ran.out)
    assert facts["kind"] == "scene"
    assert facts["gaussians"] == len(tiny_scene)
    assert facts["sh_degree"] == 0
    assert facts["bounds"]["min"] == pytest.approx(tiny_scene.means.amin(0).tolist())
    assert facts["bounds"]["max"] == pytest.approx(tiny_scene.means.amax(0).tolist())
    assert facts["photos"] == ["left.jpg"]
    assert facts["comments"][0].startswith("nps ")
    table = nps("inspect", scene).out
    assert "384" in table
    assert "left.jpg" in table


def test_one_bad_file_does_not_hide_the_others(nps, tmp_path, phone_photo):
    (tmp_path / "text.jpg").write_text("a letter")

    ran = nps("inspect", "--json", "nowhere.jpg", phone_photo, tmp_path / "text.jpg")

    missing, photo, text = json.loads(ran.out)
    assert ran.code == 1
    assert missing["file"] == "nowhere.jpg"
    assert "does not exist" in missing["error"]
    assert photo["kind"] == "photo"
    assert "not an image" in text["error"]


def test_what_cannot_be_read_goes_to_stderr_beside_a_table(nps, phone_photo):
    ran = nps("inspect", "nowhere.jpg", phone_photo)

    assert ran.code == 1
    assert "nowhere.jpg" in ran.err
    assert "nowhere.jpg" not in ran.out
    assert "300 x 400" in ran.out
