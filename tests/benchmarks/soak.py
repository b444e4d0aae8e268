"""Reconstruct many small pairs in one process: `python tests/benchmarks/soak.py [--count 500]`.

The pairs are cut out of the motorcycle, and go through what `nps batch` runs. After each, what the
process holds is counted. Exits with 1 if, after the first 20, any of it ever exceeds its maximum
among these by more than 2 %.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from PIL import Image

from models.options import Options, PoseMethod
from nps_cli.batch import Conditions, run
from nps_cli.batch_list import Scene
from nps_cli.demo import default_pair
from nps_cli.photos.intrinsics import GivenIntrinsics
from nps_cli.weights.networks import NetworkChoice

WARM_UP, MAX_GROWTH = 20, 0.02
CROPS, FOV_DEG = 20, 40.0


@dataclass(frozen=True)
class Held:
    """What a process holds."""

    memory_bytes: int  # resident
    files: int  # open
    threads: int
    temporary: int  # files and folders that are left over


def held(*folders: Path) -> Held:
    """Count what this process holds, and what is left over in folders for temporary files."""
    process = Path("/proc/self")
    kilobytes = (process / "status").read_text().split("VmRSS:")[1].split()[0]
    left = sum(len(list(folder.iterdir())) for folder in folders)
    files, threads = (len(list((process / kind).iterdir())) for kind in ("fd", "task"))
    return Held(int(kilobytes) * 1024, files, threads, left)


def write_pairs(folder: Path, side_px: int) -> list[tuple[Path, ...]]:
    """Write pairs of photos, up to so many pixels wide, of slightly different sizes."""
    first, second, *_ = map(Path, default_pair(folder))
    pairs = []
    for number in range(CROPS):
        pair = tuple(folder / f"{number}_{photo.name}" for photo in (first, second))
        for photo, file in zip((first, second), pair, strict=True):
            with Image.open(photo) as image:
                crop = image.crop((number, number, image.width - number, image.height - number))
                crop.thumbnail((side_px, side_px - number))
                crop.save(file)
        pairs.append(pair)
    return pairs


def soak(count: int, side_px: int, folder: Path) -> Iterator[Held]:
    """Reconstruct so many pairs; yield what is held after each; raise RuntimeError if one fails."""
    photos, out, temporary = folder / "photos", folder / "out", folder / "tmp"
    for each in (photos, out, temporary):
        each.mkdir()
    tempfile.tempdir = str(temporary)
    pairs = write_pairs(photos, side_px)
    scenes = [Scene(f"scene_{number}", pairs[number % CROPS]) for number in range(count)]
    options = Options(PoseMethod.matches, side_px, 0)
    given, choice = GivenIntrinsics(fov_deg=(FOV_DEG,)), NetworkChoice(device="cpu")
    conditions = Conditions(given, choice, weights_sha256="", options=options, suffix=".ply")
    arguments = {"jobs": 1, "engine": "processes", "gpus": False, "force": False}
    for outcome in run(scenes, conditions, out, **arguments):
        if outcome.error is not None:
            raise RuntimeError(f"{outcome.name}: {outcome.error}")
        shutil.rmtree(out / outcome.name)
        yield held(out, temporary)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--size", type=int, default=160, help="Pixels along the photos' long side.")
    arguments = parser.parse_args()
    began, samples = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for number, sample in enumerate(soak(arguments.count, arguments.size, Path(folder)), 1):
            samples.append(sample)
            if number % WARM_UP == 0:
                seconds = (time.perf_counter() - began) / number
                print(f"{number}: {seconds:.2f} s each, {sample}", flush=True)
    warm, most = (
        [max(values) for values in zip(*map(astuple, part), strict=True)]
        for part in (samples[:WARM_UP], samples)
    )
    grown = [after / max(before, 1) - 1 for before, after in zip(warm, most, strict=True)]
    print("growth after the first 20: " + ", ".join(f"{each:.2%}" for each in grown))
    sys.exit(max(grown) > MAX_GROWTH)


if __name__ == "__main__":
    main()
