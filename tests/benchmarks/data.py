"""Times how fast training gets its views: `python tests/benchmarks/data.py`.

A chunk of 3,000 JPEGs of 360x640 is written to a temporary folder; views are decoded, cropped to
256x256 and batched from it, as training does it. A view sampled twice in an example counts twice.
"""

import argparse
import io
import os
import tempfile
import time
from itertools import islice
from pathlib import Path

import torch
from PIL import Image

from models.data.chunks import open_chunk, write_chunks
from models.data.crop import rescale_and_crop
from models.data.report import Report
from models.data.scenes import Scene, decode, to_float
from models.data.settings import SETTINGS
from models.data.stream import ExampleStream, examples, open_source

SIZE = 256, 256
SCENES, FRAMES = 20, 150


def encode_photo() -> torch.Tensor:
    """A real photo (skimage's motorcycle), as a JPEG of RE10K's size."""
    from skimage.data import stereo_motorcycle

    image = Image.fromarray(stereo_motorcycle()[0]).resize((640, 360), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def write(root: Path, photo: torch.Tensor) -> None:
    intrinsics = torch.tensor([[0.9, 0, 0.5], [0, 1.6, 0.5], [0, 0, 1]]).repeat(FRAMES, 1, 1)
    world2cam = torch.eye(4).repeat(FRAMES, 1, 1)
    world2cam[:, 0, 3] = torch.arange(FRAMES) / 10
    (root / "train").mkdir()
    scenes = (Scene(str(key), (photo,) * FRAMES, intrinsics, world2cam) for key in range(SCENES))
    write_chunks(scenes, root / "train", chunk_bytes=10**10)


def milliseconds(work, rounds: int) -> float:
    work()
    began = time.perf_counter()
    for _ in range(rounds):
        work()
    return 1e3 * (time.perf_counter() - began) / rounds


def parts(root: Path, photo: torch.Tensor, rounds: int) -> None:
    image = decode(photo)
    pixels = rescale_and_crop(image, SIZE)
    path = root / "train" / "000000.torch"

    def open_anew() -> None:
        open_chunk.cache_clear()
        open_chunk(path)

    for what, work, times in (
        (f"decode a JPEG of {len(photo) / 1e3:.0f} kB", lambda: decode(photo), rounds),
        ("shrink and crop", lambda: rescale_and_crop(image, SIZE), rounds),
        ("to float", lambda: to_float(pixels), rounds),
        (f"open a chunk of {SCENES * FRAMES} images", open_anew, 5),
    ):
        print(f"{what}: {milliseconds(work, times):.2f} ms")


def stream(root: Path, workers: int, batch: int, steps: int) -> float:
    """Views per second, workers warm."""
    report = Report()
    source = open_source(root, SETTINGS["re10k"], report)
    example_stream = ExampleStream(sources=(source,), size=SIZE, batch=batch)
    batches = examples(example_stream, report, workers=workers)
    for _ in islice(batches, 2 * workers + 2):  # what is sampled ahead does not count
        pass
    began = time.perf_counter()
    for _ in islice(batches, steps):
        pass
    assert not report.skipped
    views = steps * batch * (example_stream.views + example_stream.targets)
    return views / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, os.cpu_count() or 1])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root, photo = Path(folder), encode_photo()
        write(root, photo)
        parts(root, photo, args.rounds)
        for workers in args.workers:
            rate = stream(root, workers, args.batch, args.steps)
            print(f"{workers} worker processes: {rate:.0f} views/s")


if __name__ == "__main__":
    main()
