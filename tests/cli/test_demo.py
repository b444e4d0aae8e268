"""`make demo`: the pair that a dependency carries, and where everything goes."""

import json
from pathlib import Path

import pytest
from PIL import Image

from nps_cli.demo import default_pair, demo


def test_the_default_pair_comes_with_its_calibration(tmp_path: Path):
    left, right, option, calibration = default_pair(tmp_path)
    cameras = json.loads(Path(calibration).read_text())
    assert option == "--intrinsics"
    for photo, camera in zip((left, right), cameras, strict=True):
        with Image.open(photo) as picture:
            assert picture.size == (camera["width"], camera["height"])
    first, second = (camera["intrinsics_px"][0] for camera in cameras)
    assert first[0] == second[0] == 994.978
    assert second[2] - first[2] == pytest.approx(31.086)


@pytest.mark.parametrize("own_photos", [False, True])
def test_the_demo_writes_a_scene_a_video_and_poses(
    fake_pipeline, photo_pair, tmp_path: Path, monkeypatch, capsys, own_photos: bool
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nps_cli.video.DEFAULT_FRAMES", 2)
    photos = [str(photo) for photo in photo_pair] if own_photos else []
    with pytest.raises(SystemExit) as ended:
        demo(photos)
    assert ended.value.code in (0, None)
    written = {path.name for path in (tmp_path / "demo").iterdir()}
    assert written >= {"scene.ply", "orbit.mp4", "pose.json"}
    said = capsys.readouterr().err
    assert str(tmp_path / "demo") in said and "make demo PHOTOS=" in said
