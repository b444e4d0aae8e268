"""A scene as a web page: whole in one file, and what is in it."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.geometry.camera import Camera
from models.geometry.gaussians import Gaussians
from models.geometry.rigid import se3_exponential
from models.geometry.trajectory import mean_camera, orbit_amplitude_deg, scene_center
from nps_cli.formats import SceneCamera, load_scene, save_scene

INTRINSICS = torch.tensor([[0.9, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]])
SECOND = se3_exponential(torch.tensor([-0.3, 0.0, 0.0, 0.0, -0.1, 0.0]))
CAMERAS = [
    SceneCamera("a </script> b.jpg", Camera(INTRINSICS, torch.eye(4), (480, 640))),
    SceneCamera("c.jpg", Camera(INTRINSICS, SECOND, (480, 640))),
]


def inside(page: str, name: str) -> str:
    """The text of the page's element of this name."""
    (found,) = re.findall(rf'<script id="{name}" [^>]*>(.*?)</script>', page, re.DOTALL)
    return found


def facts_of(page: Path) -> dict[str, Any]:
    return json.loads(inside(page.read_text(), "facts"))


@pytest.fixture
def scene(tmp_path: Path, tiny_scene: Gaussians) -> Path:
    save_scene(tiny_scene, tmp_path / "scene.ply", CAMERAS)
    return tmp_path / "scene.ply"


def test_a_page_holds_the_scene(nps, tmp_path: Path, scene: Path, tiny_scene: Gaussians):
    ran = nps("view", scene, "-o", tmp_path / "page.html")
    assert ran.code == 0 and "wrote" in ran.err
    packed = base64.b64decode(inside((tmp_path / "page.html").read_text(), "scene"))
    (tmp_path / "inside.spz").write_bytes(packed)
    back, _ = load_scene(tmp_path / "inside.spz")
    torch.testing.assert_close(back.means, tiny_scene.means, atol=1e-5, rtol=0)


def test_a_page_knows_the_photos_and_swings_as_far_as_an_orbit(nps, tmp_path: Path, scene: Path):
    nps("view", scene, "-o", tmp_path / "page.html")
    facts = facts_of(tmp_path / "page.html")
    assert [photo["width"] for photo in facts["photos"]] == [640, 640]
    poses = torch.stack([torch.eye(4), SECOND])
    cameras = Camera(torch.eye(3).expand(2, 3, 3), poses, (480, 640))
    torch.testing.assert_close(torch.tensor(facts["photos"][1]["world2cam"]), SECOND)
    torch.testing.assert_close(
        torch.tensor(facts["home"]["world2cam"]), mean_camera(cameras).world2cam
    )
    center = scene_center(load_scene(scene)[0], cameras)
    torch.testing.assert_close(torch.tensor(facts["center"]), center)
    swing = torch.rad2deg(torch.tensor(facts["amplitude"])).item()
    assert swing == pytest.approx(orbit_amplitude_deg(cameras, center), rel=1e-5)


def test_a_page_fetches_nothing_and_names_cannot_break_out_of_it(nps, tmp_path: Path, scene: Path):
    nps("view", scene, "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r"https?:|src=|@import|fetch[(]|XMLHttp", page)
    assert "a &lt;/script&gt; b.jpg and c.jpg" in page
    assert page.count("</script>") == 3


def test_photos_may_be_called_like_the_marks_of_the_page(
    nps, tmp_path: Path, tiny_scene: Gaussians
):
    names = "TITLE FACTS SCENE.jpg", "SCENE.jpg"
    cameras = [replace(camera, name=name) for camera, name in zip(CAMERAS, names, strict=True)]
    save_scene(tiny_scene, tmp_path / "page.html", cameras)
    page = (tmp_path / "page.html").read_text()
    assert "<title>TITLE FACTS SCENE.jpg and SCENE.jpg</title>" in page
    assert len(json.loads(inside(page, "facts"))["photos"]) == 2
    assert base64.b64decode(inside(page, "scene"))[:2] == b"\x1f\x8b"


def test_a_scene_without_photos_gets_a_camera_too(nps, tmp_path: Path, tiny_scene: Gaussians):
    save_scene(tiny_scene, tmp_path / "scene.splat")
    assert nps("view", tmp_path / "scene.splat", "-o", tmp_path / "page.html").code == 0
    facts = facts_of(tmp_path / "page.html")
    assert facts["photos"] == [] and facts["home"]["world2cam"] == torch.eye(4).tolist()


def test_a_browser_is_sent_to_a_page_that_stays(nps, monkeypatch, scene: Path):
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: not opened.append(url))
    assert nps("view", scene).code == 0
    (url,) = opened
    page = Path(url.removeprefix("file://"))
    assert page.name == "scene.html" and facts_of(page)["photos"]
    page.unlink()
    page.parent.rmdir()


def test_without_a_browser_the_page_is_named(nps, monkeypatch, scene: Path):
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    ran = nps("view", scene)
    assert ran.code == 1 and "no browser" in ran.err
    (page,) = re.findall(r"Open (\S+scene\.html)", ran.err)
    assert Path(page).is_file()


def test_other_names_and_occupied_ones_are_refused(nps, tmp_path: Path, scene: Path):
    assert nps("view", scene, "-o", tmp_path / "page.txt").code == 2
    (tmp_path / "page.html").write_text("mine")
    assert nps("view", scene, "-o", tmp_path / "page.html").code == 1
    assert (tmp_path / "page.html").read_text() == "mine"
    assert nps("view", scene, "-o", tmp_path / "page.html", "--force").code == 0
