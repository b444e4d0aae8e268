"""Several processes that train one network together, as `torchrun` starts them; or just one."""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def rank() -> int:
    """Which of the processes this is; the first one, 0, writes files and talks."""
    return distributed.get_rank() if _joined() else 0


def count() -> int:
    """How many there are."""
    return distributed.get_world_size() if _joined() else 1


def share_gradients(module: nn.Module) -> nn.Module:
    """Let every process go the way of the average gradient.

    The published network has parameters that nothing depends on: they are looked for.
    """
    if count() == 1:
        return module
    return DistributedDataParallel(
        module, find_unused_parameters=True, gradient_as_bucket_view=True
    )


def gathered(value: Any) -> list[Any]:
    """What each of the processes has, on all of them."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    distributed.all_gather_object(values, value)
    return values


def any_of(decision: bool, device: torch.device) -> bool:
    """Whether one of the processes says so: all come to the same answer."""
    if count() == 1:
        return decision
    said = torch.tensor(float(decision), device=device)
    distributed.all_reduce(said, distributed.ReduceOp.MAX)
    return bool(said > 0)


def average(values: Tensor) -> Tensor:
    """The mean over all processes."""
    if count() > 1:
        distributed.all_reduce(values)
        values = values / count()
    return values


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
