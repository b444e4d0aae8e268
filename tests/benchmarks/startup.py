"""Time whole commands in new processes, each over `import torch`: `make bench` runs it.

Two 12-megapixel JPEGs (the motorcycle, enlarged) become poses and a scene, and the scene 60 frames
of 512x512. What is timed takes turns, so that a busy machine slows all alike.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from nps_cli.demo import default_pair

SIZE = 4032, 3024  # width, height


def write_photos(folder: Path) -> list[str]:
    """Write both photos at 12 megapixels; return the arguments that name them."""
    names = []
    for photo in default_pair(folder)[:2]:
        name = Path(photo).with_suffix(".jpg")
        with Image.open(photo) as image:
            image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS).save(name, quality=92)
        names.append(str(name))
    return names


def seconds(arguments: list[str]) -> float:
    """Run Python with these arguments, and return how long it took."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        photos, scene = [*write_photos(Path(folder)), "--fov", "41"], str(Path(folder, "scene.ply"))
        out = ["--force", "--quiet", "-o"]
        video = ["--frames", "60", "--size", "512x512"]
        runs = {
            "import torch": ["-c", "import torch"],
            "nps --help": ["-m", "nps_cli", "--help"],
            "nps pose": ["-m", "nps_cli", "pose", *photos, *out, str(Path(folder, "pose.json"))],
            "nps reconstruct": ["-m", "nps_cli", "reconstruct", *photos, *out, scene],
            "nps render": [
                "-m",
                "nps_cli",
                "render",
                scene,
                *video,
                *out,
                str(Path(folder, "o.mp4")),
            ],
        }
        times = [[seconds(run) for run in runs.values()] for _ in range(rounds)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    for name, clock in zip(runs, medians, strict=True):
        print(f"{name:18} {clock:6.2f} s {clock / medians[0]:6.2f} x import torch")


if __name__ == "__main__":
    main()
