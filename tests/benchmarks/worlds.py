"""Times the making of worlds, and counts what bounds it on a GPU.

    python tests/benchmarks/worlds.py [--textures DIR] [--panoramas DIR] [--meshes FILE]
                                      [--size 256] [--batch 8] [--device cuda]

Without files: noise textures, no panoramas, no meshes. Counted are operations of PyTorch that do
arithmetic or move data, each of them about one launch of a kernel on a GPU, and how often the
program waits for a number of its device.
"""

import argparse
import time
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.data.procedural import generate
from models.data.textures import load_assets

VIEWS_ONLY = (
    *("view", "expand", "slice", "select", "unsqueeze", "squeeze", "transpose", "permute"),
    *("detach", "alias", "t", "unbind", "split", "_unsafe_view", "as_strided", "empty", "numel"),
)
WAITING = ("nonzero", "_local_scalar_dense", "item", "repeat_interleave", "unique_consecutive")


class Count(TorchDispatchMode):
    """Counts operations by what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.waits = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        self.launches += name not in VIEWS_ONLY
        self.waits += name in WAITING
        return operation(*args, **(kwargs or {}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("textures", "panoramas", "meshes"):
        parser.add_argument(f"--{option}", type=Path)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8, help="worlds at a time, two views each")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    generator = torch.Generator().manual_seed(0)
    assets = load_assets(
        options.textures, options.panoramas, options.meshes, 400, min(options.size, 192), generator
    ).to(device)
    size = options.size, options.size

    def make() -> None:
        generate(options.batch, 2, size, assets, generator, device, 0.4)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    make()
    began, spent = time.monotonic(), time.process_time()
    for _ in range(options.repeats):
        make()
    images = options.repeats * options.batch * 2
    wall, spent = time.monotonic() - began, time.process_time() - spent
    print(
        f"{images / wall:.1f} images of {size[1]}x{size[0]} a second on {options.device}, "
        f"{torch.get_num_threads()} threads; {images / spent:.1f} a second of one core's time"
    )
    with Count() as count:
        make()
    print(
        f"{count.launches} launches for {options.batch} worlds of two views "
        f"({count.launches / options.batch / 2:.0f} an image), {count.waits} waits"
    )


if __name__ == "__main__":
    main()
