"""The page of a scene in a real browser: it shows what `render` does, and its controls work."""

import base64
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.geometry.camera import Camera
from models.geometry.rigid import se3_exponential
from models.metrics.errors import psnr
from models.render import render
from nps_cli.formats import SceneCamera
from nps_cli.formats.page import encode_page

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless --no-sandbox --hide-scrollbars --use-gl=angle --use-angle=swiftshader "
    "--enable-unsafe-swiftshader --virtual-time-budget=20000 --window-size=500,500"
).split()
SETUP = """<script>
// Headless, a page is not composed at a steady rate: frames come by the clock, and stay readable.
window.requestAnimationFrame = (draw) => setTimeout(() => draw(performance.now()), 16);
const getContext = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, options) {
  return getContext.call(this, kind, { ...options, preserveDrawingBuffer: true });
};
</script>"""
VISIT = """<script>
const seen = { errors: [], pictures: {} };
const keep = () => { document.documentElement.dataset.seen = JSON.stringify(seen); };
window.onerror = (problem) => { seen.errors.push(problem); keep(); };
const frame = () => new Promise(requestAnimationFrame);
const picture = async (name) => {
  await frame();
  seen.pictures[name] = document.querySelector("canvas").toDataURL();
  keep();
};
const pointer = (kind, x, y, buttons) => document.querySelector("canvas").dispatchEvent(
  new PointerEvent(kind, { clientX: x, clientY: y, pointerId: 1, buttons, bubbles: true }));
(async () => {
  const page = document.querySelector("canvas");
  page.setPointerCapture = () => {};  // no finger of a real hand to capture
  while (document.querySelectorAll("button").length < 4) await frame();
  await picture("hash");
  const [orbit, first, second, third] = document.querySelectorAll("button");
  second.click(); await picture("second");
  third.click(); await picture("third");
  first.click(); await picture("first");
  for (const [name, buttons] of [["turned", 1], ["moved", 2]]) {
    first.click(); await frame();
    pointer("pointerdown", 100, 80, buttons); pointer("pointermove", 150, 80, buttons);
    await picture(name);
    pointer("pointerup", 150, 80, 0);
  }
  first.click(); await frame();
  page.dispatchEvent(new WheelEvent("wheel", { deltaY: -300 })); await picture("nearer");
  orbit.click(); await frame(); await picture("swing");
  keep();
})();
</script>"""
INTRINSICS = torch.tensor([[0.8, 0, 0.5], [0, 1.2, 0.5], [0, 0, 1]])
FIRST = se3_exponential(
    torch.tensor([0.02, 0.0, 0.0, 0.02, 0.03, 0.0])
)  # no two depths are the same
SECOND = se3_exponential(torch.tensor([-0.3, 0.05, 0.0, 0.0, -0.1, 0.02]))
THIRD = se3_exponential(torch.tensor([0.0, 0.0, -0.663, 0.0, 0.0, 0.0]))  # all at one depth
PHOTO_SIZE = (400, 500)


def visited(page: bytes, folder: Path, fragment: str = "#2") -> dict[str, torch.Tensor]:
    """Visit a page and use its controls; return its pictures, [3, height, width] in [0, 1]."""
    file = folder / "page.html"
    page = page.replace(b"<style>", SETUP.encode() + b"<style>", 1)
    file.write_bytes(page.replace(b"</html>", VISIT.encode() + b"</html>"))
    ran = subprocess.run(
        [
            BROWSER,
            *FLAGS,
            f"--user-data-dir={folder}/profile",
            "--dump-dom",
            file.as_uri() + fragment,
        ],
        capture_output=True,
        timeout=300,
        check=True,
    )
    (found,) = re.findall(r'data-seen="([^"]*)"', ran.stdout.decode()) or [None]
    assert found, "the page did not come to its end"
    seen = json.loads(found.replace("&quot;", '"'))
    assert not seen["errors"], seen["errors"]
    return {name: decoded(url) for name, url in seen["pictures"].items()}


def decoded(url: str) -> torch.Tensor:
    image = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def shown(camera: Camera, size: tuple[int, int]) -> Camera:
    """The camera at the size of a window, which shows nothing beyond the photo's sides."""
    scale = max(side / full for side, full in zip(size, camera.size, strict=True))
    stretch = torch.tensor([scale * camera.size[1] / size[1], scale * camera.size[0] / size[0]])
    intrinsics = camera.intrinsics.clone()
    intrinsics[[0, 1], [0, 1]] *= stretch
    intrinsics[:2, 2] = 0.5 + stretch * (intrinsics[:2, 2] - 0.5)
    return replace(camera, intrinsics=intrinsics, size=size)


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_shows_what_render_does_and_its_controls_work(tiny_scene, tmp_path: Path):
    cameras = [Camera(INTRINSICS, pose, PHOTO_SIZE) for pose in (FIRST, SECOND, THIRD)]
    page = b"".join(
        encode_page(tiny_scene, [SceneCamera(f"{i}.jpg", each) for i, each in enumerate(cameras)])
    )
    pictures = visited(page, tmp_path)

    for name, camera in (("first", cameras[0]), ("second", cameras[1]), ("hash", cameras[1])):
        size = tuple(pictures[name].shape[1:])
        color = render(tiny_scene, shown(camera, size)).color
        assert psnr(pictures[name], color.clamp(0, 1)) > 35, name
    for name in ("turned", "moved", "nearer"):
        assert psnr(pictures[name], pictures["first"]) < 25, name
    # Moved as far as the pointer, the scene is where it was under it.
    assert psnr(pictures["moved"][..., 50:450], pictures["first"][..., :400]) > 20
    assert pictures["third"].mean() > 0.2
