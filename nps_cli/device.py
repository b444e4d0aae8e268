"""Turns --device into a torch device; the only place that asks about hardware."""

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
