"""The ten lines of Python in README.md, run as they stand."""

import re
from pathlib import Path

from motorcycle import SIZE, write_small_pair
from PIL import Image

from nps_cli.formats import load_scene

README = Path(__file__).parent.parent / "README.md"


def test_the_lines_in_the_readme_make_a_scene(tmp_path: Path, monkeypatch, capsys):
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    for photo, name in zip(write_small_pair(tmp_path)[:2], ("a.jpg", "b.jpg"), strict=True):
        with Image.open(photo) as image:
            image.save(tmp_path / name, quality=95)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(snippet, names)
    assert names["image"].shape == (3, *SIZE)
    assert len(load_scene("scene.ply")[0]) == len(names["result"].gaussians)
    assert "tensor" in capsys.readouterr().out
