"""The machine: the torch device of --device, what a CPU can do, and memory that is kept."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    import torch

    from models.workers import Engine

Choice = TypeVar("Choice")
T = TypeVar("T")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3)
KEPT_BYTES = 2**30


def pick_device(choice: str) -> "torch.device":
    """Return the device of auto, cpu, cuda or cuda:N; `auto` means CUDA where there is one.

    Raises NpsError if PyTorch sees no such device.
    """
    import torch

    if choice == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(choice)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise NpsError(
            f"--device {choice} was asked for, but PyTorch sees {torch.cuda.device_count()} CUDA "
            "devices.",
            hint="Run `nps doctor` to see why, or use --device cpu.",
        )
    return device


def with_cpu_to_fall_back_on(choice: Choice, work: Callable[[Choice | str], T]) -> T:
    """Call `work` with `choice` of a device, and again with "cpu" if CUDA's memory is full."""
    import torch

    try:
        return work(choice)
    except torch.OutOfMemoryError:
        console.warning(
            "the GPU has not enough memory for this: the CPU does it, which takes longer"
        )
    torch.cuda.empty_cache()
    return work("cpu")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return True for what PyTorch raises where memory cannot be allocated."""
    return "out of memory" in str(error) or "allocate memory" in str(error)


def count_workers(
    jobs: int | None, engine: "Engine", device: "torch.device", items: int
) -> int | None:
    """Return how many processes work: one a core, or GPU, by default; None leaves it to Ray.

    Raises NpsError if Ray is asked for and not installed.
    """
    if engine == "ray" and find_spec("ray") is None:
        raise NpsError("Ray is not installed.", hint="pip install ray, or leave out --engine.")
    if jobs is not None or engine == "ray":
        return jobs
    return 1 if device.type == "cuda" else max(1, min(os.cpu_count() or 1, items))


def cpu_multiplies_bfloat16() -> bool:
    """Return True if this CPU has instructions for bfloat16; without them it would be slower."""
    import torch

    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


@contextmanager
def single_thread() -> Iterator[None]:
    """Let PyTorch compute with one thread within: for many small operations more are slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def joined_processes(choice: str) -> "Iterator[torch.device]":
    """Join the processes that `torchrun` started into a group; yield this one's device.

    Each takes the GPU of its LOCAL_RANK, unless --device says otherwise. Outside of torchrun there
    is no group.
    """
    import torch

    device = pick_device(choice)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device == torch.device("cuda"):
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        torch.distributed.destroy_process_group()


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks for reuse, up to a gigabyte; do nothing with other C libraries.

    By default it returns every large block at once, and gets it back page by page: a network's
    feature maps come and go many times, which cost a fifth of the time of `nps reconstruct`.
    """
    mallopt = _of_c_library("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def return_freed_memory() -> None:
    """Return to the system what `keep_freed_memory` kept, between two pieces of work."""
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def _of_c_library(name: str) -> Any:
    """Return a function of Linux's C library; None if it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
