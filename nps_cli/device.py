"""Turns --device into a torch device; the only place that asks about hardware."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nps_cli.errors import NpsError

if TYPE_CHECKING:
    import torch


def pick_device(choice: str) -> "torch.device":
    """Turn auto, cpu, cuda or cuda:N into a device; `auto` means CUDA where there is one."""
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


def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16; without them it would be slower."""
    import torch

    found = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


@contextmanager
def joined_processes(choice: str) -> "Iterator[torch.device]":
    """The device of this process; those that `torchrun` started work together meanwhile.

    Each of them takes the GPU of its number on its machine, unless --device says otherwise.
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
