"""Map a function over items in processes of this machine, or through Ray."""

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import torch

Work = Callable[[bytes], bytes]

_process_work: Work  # set in worker processes, once in each


def map_on_processes(
    open_work: Callable[[], Work], items: Iterable[bytes], jobs: int
) -> Iterator[bytes]:
    """Apply a function to every item, in new processes with one thread each; yield in order.

    Items are bytes: tensors handed over as they are would each hold a file descriptor. `open_work`
    makes the function, once per process, and must survive pickling.
    """
    pool = ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_start_process, initargs=(open_work,)
    )
    try:
        with _interrupts_held_back():
            results = pool.map(_work, items)
        yield from results
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, which is for the one that started them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def map_on_ray(
    open_work: Callable[[], Work], items: Iterable[bytes], jobs: int | None, gpus: bool
) -> Iterator[bytes]:
    """Apply a function with Ray's actors, on the cluster of RAY_ADDRESS or else on this machine.

    Files must lie at the same place on all machines of a cluster.

    Args:
        open_work: Makes the function, once per actor; Ray pickles functions of any kind.
        items: Arguments of the function.
        jobs: How many actors; None is one for every core, or GPU, that Ray has.
        gpus: Whether each of them needs a GPU of its own.
    """
    import ray
    from ray.util import ActorPool

    starts_ray = not ray.is_initialized()
    if starts_ray:
        address = os.environ.get("RAY_ADDRESS")
        local: dict[str, Any] = {} if address else {"num_cpus": jobs, "include_dashboard": False}
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        kind = "GPU" if gpus else "CPU"
        count = jobs or max(1, int(ray.cluster_resources().get(kind, 1)))
        actor = ray.remote(num_cpus=1, num_gpus=int(gpus))(_Actor)
        pool: Any = ActorPool([actor.remote(open_work) for _ in range(count)])
        yield from pool.map(lambda actor, item: actor.work.remote(item), items)
    finally:
        if starts_ray:
            ray.shutdown()


class _Actor:
    def __init__(self, open_work: Callable[[], Work]) -> None:
        _start_process(open_work)

    def work(self, item: bytes) -> bytes:
        return _work(item)


def _start_process(open_work: Callable[[], Work]) -> None:
    global _process_work
    torch.set_num_threads(1)
    _process_work = open_work()


def _work(item: bytes) -> bytes:
    return _process_work(item)
