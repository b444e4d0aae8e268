"""How much arithmetic a network's training takes, and how fast a device can be at it."""

import time
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from models.geometry.views import Views
from models.network.noposplat import NoPoSplat, NoPoSplatConfig, Prediction
from models.training.run import Run

_SECONDS = 0.5  # of products of matrices that are timed


@dataclass(frozen=True)
class SliceReport:
    """What a slice of training did, as a row of the history of weights."""

    part: str
    device: str
    step: int
    samples: int  # since the run began
    hours: float  # of training since the run began
    samples_per_second: float  # in this slice
    drawing: float  # share of the slice's time that went into making worlds
    teraflops: float | None  # a second, of the network while it learned; None: not a NoPoSplat
    matrix_teraflops: float | None  # a second, of bfloat16 products of large matrices
    scores: dict[str, float]  # on worlds never trained on


def report_slice(
    run: Run[Any], step: int, seconds: float, drawing: float, scores: dict[str, float]
) -> SliceReport:
    """Account for what a run did since it had made so many steps in so many seconds.

    Args:
        run: As it is now.
        step: It had made before.
        seconds: It had trained before.
        drawing: Share of the time since that went into making batches.
        scores: Measured now.
    """
    config, device = run.config, run.generator.device
    samples, spent = config.samples_per_step(), max(run.seconds - seconds, 1e-9)
    per_second = (run.step - step) * samples / spent
    rates: dict[str, float | None] = {"teraflops": None, "matrix_teraflops": None}
    architecture = getattr(config, "network", None)
    if isinstance(architecture, NoPoSplatConfig):
        pixels = fmean(height * width for height, width in config.sizes)
        first = config.sizes[0]
        flops = sum(training_flops(architecture, first).values()) * pixels / (first[0] * first[1])
        rates["teraflops"] = flops * per_second / max(1 - drawing, 1e-9) / 1e12
        rates["matrix_teraflops"] = matrix_rate(device) / 1e12
    is_cuda = device.type == "cuda"
    return SliceReport(
        part=config.part,
        device=torch.cuda.get_device_name(device) if is_cuda else device.type,
        step=run.step,
        samples=run.step * samples,
        hours=run.seconds / 3600,
        samples_per_second=per_second,
        drawing=drawing,
        scores=scores,
        **rates,
    )


def training_flops(
    config: NoPoSplatConfig, size: tuple[int, int], views: int = 2
) -> dict[str, int]:
    """Floating point operations of one example, there and back: of the backbone, of the heads.

    Those of products of matrices, attention and convolutions, two for each multiplication and
    addition, counted on shapes alone; what recomputing adds is left out, as is customary.
    """
    network = NoPoSplat(config)
    shapes_only = FakeTensorMode(allow_non_fake_inputs=True)
    with shapes_only, FlopCounterMode(display=False) as counter:
        photos = Views(torch.zeros(1, views, 3, *size), torch.eye(3).expand(1, views, 3, 3))
        _sum_up(network(photos)).backward()
    counts = counter.get_flop_counts()
    backbone = sum(counts["NoPoSplat.backbone"].values())
    return {"backbone": backbone, "heads": sum(counts["Global"].values()) - backbone}


def matrix_rate(device: torch.device, side: int | None = None) -> float:
    """Operations a second of bfloat16 products of large matrices, random ones, as measured now.

    Args:
        device: Where.
        side: Of the matrices; 8192 on CUDA devices, 512 elsewhere.
    """
    side = side or (8192 if device.type == "cuda" else 512)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    _wait(device)
    began, products = time.monotonic(), 0
    while time.monotonic() - began < _SECONDS:
        for _ in range(10):
            a @ b
        products += 10
        _wait(device)
    return 2.0 * side**3 * products / (time.monotonic() - began)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _sum_up(prediction: Prediction) -> Float[Tensor, ""]:
    return torch.stack([value.sum() for value in vars(prediction).values()]).sum()
