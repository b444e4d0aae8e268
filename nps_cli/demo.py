"""`make demo`: a scene, a video and poses from two photos, into ./demo.

Without photos of one's own: a motorcycle in a workshop, the stereo pair of the Middlebury 2014
benchmark that scikit-image ships, with its published calibration.
"""

import json
import shutil
import sys
from pathlib import Path

from nps_cli import console
from nps_cli.app import main
from nps_cli.process import end_if_stopped, handle_signals

FOLDER = Path("demo")
FOCAL_PX, CENTER_X, CENTER_Y, CENTER_X_SHIFT = 994.978, 311.193, 254.877, 31.086
WIDTH, HEIGHT = 741, 500


def default_pair(folder: Path) -> list[str]:
    """Copy the default photos into a folder; return them and their calibration as arguments."""
    import skimage

    shipped = Path(skimage.__file__).parent / "data"
    photos = [folder / "left.png", folder / "right.png"]
    for photo in photos:
        shutil.copyfile(shipped / f"motorcycle_{photo.name}", photo)
    cameras = [
        {
            "intrinsics_px": [[FOCAL_PX, 0, center_x], [0, FOCAL_PX, CENTER_Y], [0, 0, 1]],
            "width": WIDTH,
            "height": HEIGHT,
        }
        for center_x in (CENTER_X, CENTER_X + CENTER_X_SHIFT)
    ]
    calibration = folder / "intrinsics.json"
    calibration.write_text(json.dumps(cameras, indent=2) + "\n")
    return [*(str(photo) for photo in photos), "--intrinsics", str(calibration)]


def demo(arguments: list[str]) -> None:
    """Run `nps reconstruct` with these arguments, or the default pair; print what to try next."""
    FOLDER.mkdir(exist_ok=True)
    scene, video, poses = (str(FOLDER / name) for name in ("scene.ply", "orbit.mp4", "pose.json"))
    outputs = ["-o", scene, "--video", video, "--poses", poses, "--force"]
    code: int | str | None = 0
    try:
        main(["reconstruct", *(arguments or default_pair(FOLDER)), *outputs])
    except SystemExit as exit:
        code = exit.code
    if code in (0, 3, None):
        text = (
            f"The scene, the video and the poses are in {FOLDER.resolve()}. Try next:\n"
            '  make demo PHOTOS="a.jpg b.jpg"      your own photos of one place\n'
            f"  .venv/bin/nps render {scene} --path interpolate -o {FOLDER / 'between.mp4'}\n"
            f"  .venv/bin/nps inspect {scene}\n"
            "  .venv/bin/nps --help"
        )
        for line in text.splitlines():
            console.info(line)
    sys.exit(code)


if __name__ == "__main__":
    handle_signals()
    try:
        demo(sys.argv[1:])
    finally:
        end_if_stopped()
