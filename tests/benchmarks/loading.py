"""Times loading a weights file against reading it: `python tests/benchmarks/loading.py FILE`.

FILE is of the published size, .ckpt or .safetensors; `network.py --weights FILE` makes one. It is
read and loaded, and every weight touched, from the disk and from the page cache in turn.
"""

import os
import statistics
import sys
import time
from pathlib import Path

from models.network.noposplat import NoPoSplat
from models.weights import load_network

ROUNDS = 3


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


def load(path: Path) -> NoPoSplat:
    """Load a network and touch every page of its weights."""
    network, _ = load_network(path, "not read")
    for parameter in network.parameters():
        if parameter.is_contiguous():  # the others were copied, in another order
            parameter.detach().flatten()[::1024].sum()
    return network


def own_memory() -> float:
    """GB that this process holds beside the files that it has mapped."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1e6


def main() -> None:
    path = Path(sys.argv[1])
    print(f"{path.name}, {path.stat().st_size / 1e9:.2f} GB")
    load(path)
    for where in ("disk", "page cache"):
        seconds: dict[object, list[float]] = {read: [], load: []}
        for _ in range(ROUNDS):
            for work in (read, load):
                if where == "disk":
                    forget(path)
                before, began = own_memory(), time.perf_counter()
                loaded = work(path)
                seconds[work].append(time.perf_counter() - began)
                held = own_memory() - before
                del loaded
        reading, loading = (statistics.median(seconds[work]) for work in (read, load))
        print(
            f"from the {where}: read in {reading:.2f} s, loaded and touched in {loading:.2f} s: "
            f"{loading / reading:.2f}x; {held:.2f} GB of its own memory"
        )


if __name__ == "__main__":
    main()
