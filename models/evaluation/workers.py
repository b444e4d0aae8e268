"""Where the work of an evaluation happens: in processes of this machine, or through Ray."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch

Work = Callable[[bytes], bytes]

_work_here: Work  # set in worker processes, once in each


def map_on_processes(
    open_work: Callable[[], Work], parcels: Iterable[bytes], jobs: int
) -> Iterator[bytes]:
    """Do the same to every parcel, in new processes with one thread each; results in order.

    Parcels are bytes: tensors handed over as they are would each hold a file descriptor.

    Args:
        open_work: Makes the function that works, once per process. It must survive pickling.
        parcels: What to work on.
        jobs: How many processes.
    """
    pool = ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_start_process, initargs=(open_work,)
    )
    try:
        yield from pool.map(_work, parcels)
    finally:
        pool.shutdown(cancel_futures=True)


def map_on_ray(
    open_work: Callable[[], Work], parcels: Iterable[bytes], jobs: int | None, gpus: bool
) -> Iterator[bytes]:
    """The same with Ray's actors: on the cluster that RAY_ADDRESS names, or else on this machine.

    Files must lie at the same place on all machines of a cluster.

    Args:
        open_work: As above; Ray pickles functions of any kind.
        parcels: What to work on.
        jobs: How many actors; None is one for every core, or GPU, that Ray has.
        gpus: Whether each of them needs a GPU of its own.

    Raises:
        ModuleNotFoundError: If Ray is not installed.
    """
    import ray
    from ray.util import ActorPool

    own = not ray.is_initialized()
    if own:
        address = os.environ.get("RAY_ADDRESS")
        here: dict[str, Any] = {} if address else {"num_cpus": jobs, "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **here)
    try:
        kind = "GPU" if gpus else "CPU"
        count = jobs or max(1, int(ray.cluster_resources().get(kind, 1)))
        actor = ray.remote(num_cpus=1, num_gpus=int(gpus))(_Actor)
        pool: Any = ActorPool([actor.remote(open_work) for _ in range(count)])
        yield from pool.map(lambda actor, parcel: actor.work.remote(parcel), parcels)
    finally:
        if own:
            ray.shutdown()


class _Actor:
    def __init__(self, open_work: Callable[[], Work]) -> None:
        _start_process(open_work)

    def work(self, parcel: bytes) -> bytes:
        return _work(parcel)


def _start_process(open_work: Callable[[], Work]) -> None:
    global _work_here
    torch.set_num_threads(1)
    _work_here = open_work()


def _work(parcel: bytes) -> bytes:
    return _work_here(parcel)
