"""The report of a run: one page with everything in it, and doubts in words."""

import base64
import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from nps_cli.formats.report import verdict


def written(nps, photo_pair, folder: Path, command: str = "reconstruct") -> tuple[str, int]:
    scene = ("-o", folder / "scene.ply") if command == "reconstruct" else ()
    ran = nps(command, *photo_pair, *scene, "--report", folder / "report.html")
    assert "wrote" in ran.err and "report.html" in ran.err
    return (folder / "report.html").read_text(), ran.code


def test_a_report_holds_photos_depth_matches_poses_and_the_scene(
    nps, fake_pipeline, photo_pair, tmp_path: Path
):
    page, code = written(nps, photo_pair, tmp_path)
    assert code == 0
    pictures = re.findall(r'src="data:image/(jpeg|png);base64,([^"]+)"', page)
    assert [kind for kind, _ in pictures] == ["jpeg", "jpeg", "png", "png", "png"]
    for _, data in pictures:
        assert base64.b64decode(data)[:3] in (b"\xff\xd8\xff", b"\x89PN")
    (scene,) = re.findall(r'srcdoc="([^"]*)"', page)
    assert '<script id="scene"' in html.unescape(scene)
    for words in ("144 x 108 pixels", "guessed, 28 mm", "turned 8.6", "confidence 0.95"):
        assert words in page
    assert "nps-pose" in page and "□" not in page


def test_a_report_fetches_nothing(nps, fake_pipeline, photo_pair, tmp_path: Path):
    page, _ = written(nps, photo_pair, tmp_path)
    assert not re.search(r"https?:|src=\"(?!data:)|@import|fetch[(]|XMLHttp|<link", page)


def test_a_report_of_poses_shows_no_scene(nps, fake_pipeline, photo_pair, tmp_path: Path):
    page, code = written(nps, photo_pair, tmp_path, "pose")
    assert code == 0 and "srcdoc" not in page and "<h2>Depth" not in page
    assert "turned 8.6" in page


def test_problems_and_names_are_told_in_words_and_escaped(
    nps, fake_pipeline, photo_pair, tmp_path: Path
):
    problem = "Photo 2 <is> lost."
    fake_pipeline.reconstruction = replace(fake_pipeline.reconstruction, problems=(problem,))
    odd = photo_pair[1].rename(tmp_path / "a <b> □TITLE□ & c.jpg")
    page, code = written(nps, (photo_pair[0], odd), tmp_path)
    assert code == 3
    assert "not to be trusted" in page and "Photo 2 &lt;is&gt; lost." in page
    assert "a &lt;b&gt; □TITLE□ &amp; c.jpg" in page and "<b>" not in page


def test_a_report_says_what_exif_said(nps, fake_pipeline, photo_pair, tmp_path: Path):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "Maker", "Phone 5", 6
    exif.get_ifd(0x8769)[0xA405] = 26
    with Image.open(photo_pair[0]) as photo:
        photo.save(photo_pair[0], exif=exif)
    page, _ = written(nps, photo_pair, tmp_path)
    for words in ("Maker Phone 5", "26 mm equivalent from EXIF", "108 x 144", "EXIF 6"):
        assert words in page


@pytest.mark.parametrize(
    ("confidence", "problems", "words"),
    [
        (0.95, [], "Poses: sure (confidence 0.95 of 1)"),
        (0.4, [], "unsure"),
        (0.2, [], "not to be trusted"),
        (0.95, ["Trouble."], "not to be trusted"),
    ],
)
def test_a_verdict_is_words_and_a_number(confidence: float, problems: list[str], words: str):
    assert words in verdict(confidence, problems)


@pytest.mark.parametrize("command", ["reconstruct", "pose"])
def test_a_report_is_a_page_and_replaces_nothing(
    nps, fake_pipeline, photo_pair, tmp_path: Path, command: str
):
    scene = ("-o", tmp_path / "scene.ply") if command == "reconstruct" else ()
    assert nps(command, *photo_pair, *scene, "--report", tmp_path / "report.txt").code == 2
    (tmp_path / "report.html").write_text("mine")
    assert nps(command, *photo_pair, *scene, "--report", tmp_path / "report.html").code == 1
    assert (tmp_path / "report.html").read_text() == "mine"
    assert not (tmp_path / "scene.ply").exists() and not fake_pipeline.calls
