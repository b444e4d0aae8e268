"""Processes that train one network together, started by `torchrun`; or just one."""

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


def rank() -> int:
    """Return the number of this process; the first one, 0, writes files and messages."""
    return distributed.get_rank() if _is_initialized() else 0


def count() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if _is_initialized() else 1


def share_gradients(module: nn.Module) -> nn.Module:
    """Wrap a module so that every process gets the average gradient.

    Unused parameters are searched for: the published network has some.
    """
    if count() == 1:
        return module
    return DistributedDataParallel(
        module, find_unused_parameters=True, gradient_as_bucket_view=True
    )


def any_of(decision: bool, device: torch.device) -> bool:
    """Return True on all processes if it is true on one of them."""
    if count() == 1:
        return decision
    value = torch.tensor(float(decision), device=device)
    distributed.all_reduce(value, distributed.ReduceOp.MAX)
    return bool(value > 0)


def average(values: Tensor) -> Tensor:
    """Return the mean over all processes."""
    if count() > 1:
        distributed.all_reduce(values)
        values = values / count()
    return values


def _is_initialized() -> bool:
    return distributed.is_available() and distributed.is_initialized()
