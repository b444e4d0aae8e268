"""Time loading a weights file against reading it: `python tests/benchmarks/loading.py FILE`.

FILE is of the published size, .ckpt or .safetensors; `network.py --weights FILE` makes one. It is
read, and loaded with every weight touched, from the disk and from the page cache in turn, each
time by a new process: what a process has mapped, the system does not forget.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

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


def load(path: Path) -> float:
    """Load a network, touch every page of its weights, and return the GB that it allocated."""
    before = own_memory()
    network, _ = load_network(path, "not read")
    for parameter in network.parameters():
        if parameter.is_contiguous():  # the others were copied, in another order
            parameter.detach().flatten()[::1024].sum()
    return own_memory() - before


def own_memory() -> float:
    """Return the GB that this process holds beside the files that it has mapped."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1e6


def measured(path: Path, work: str) -> tuple[float, float]:
    """Return seconds and GB of reading or loading, in a process of its own."""
    command = (sys.executable, __file__, str(path), work)
    seconds, held = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()
    return float(seconds), float(held)


def main() -> None:
    path = Path(sys.argv[1])
    if len(sys.argv) > 2:
        began = time.perf_counter()
        held = {"read": read, "load": load}[sys.argv[2]](path) or 0.0
        print(time.perf_counter() - began, held)
        return
    print(f"{path.name}, {path.stat().st_size / 1e9:.2f} GB")
    for where in ("disk", "page cache"):
        runs: dict[str, list[tuple[float, float]]] = {"read": [], "load": []}
        for _ in range(ROUNDS):
            for work in runs:
                if where == "disk":
                    forget(path)
                runs[work].append(measured(path, work))
        reading, loading = (statistics.median(run[0] for run in runs[work]) for work in runs)
        print(
            f"from the {where}: read in {reading:.2f} s, loaded and touched in {loading:.2f} s: "
            f"{loading / reading:.2f}x; {runs['load'][-1][1]:.2f} GB of its own memory"
        )


if __name__ == "__main__":
    main()
