"""Times loading a weights file against reading it: `python tests/benchmarks/loading.py FILE`.

FILE is of the published size, .ckpt or .safetensors; `network.py --weights FILE` makes one. It is
read and loaded once from the disk and once from the page cache, then every weight is touched.
"""

import os
import sys
import time
from pathlib import Path

from models.weights import load_network


def forget(path: Path) -> None:
    """Ask the system to drop the file from its page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(path: Path) -> None:
    """Read all of a file, and keep nothing."""
    buffer = bytearray(2**24)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def load(path: Path) -> None:
    """Load a network and touch every page of its weights."""
    network, _ = load_network(path, "not read")
    for parameter in network.parameters():
        parameter.detach().flatten()[::512].sum()


def own_memory() -> float:
    """GB that this process holds beside the files that it has mapped."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1e6


def main() -> None:
    path = Path(sys.argv[1])
    print(f"{path.name}, {path.stat().st_size / 1e9:.2f} GB")
    for where in ("disk", "page cache"):
        seconds = []
        for work in (read, load):
            if where == "disk":
                forget(path)
            began, before = time.perf_counter(), own_memory()
            work(path)
            seconds.append(time.perf_counter() - began)
        print(
            f"from the {where}: read {seconds[0]:.2f} s, loaded and touched {seconds[1]:.2f} s: "
            f"{seconds[1] / seconds[0]:.2f}x, {own_memory() - before:.2f} GB of its own memory"
        )


if __name__ == "__main__":
    main()
