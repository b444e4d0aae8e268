"""Map a function over items in processes of this machine, or through Ray."""

import logging
import os
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread, current_thread, main_thread
from typing import Any, Literal, NoReturn, TypeVar

import torch

from models.files.atomic import remove_unfinished

Engine = Literal["processes", "ray"]
Work = Callable[[bytes], bytes]
Item = TypeVar("Item")
Result = TypeVar("Result")

_process_work: Work  # set in worker processes, once in each


def map_on_workers(
    open_work: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    jobs: int | None,
    engine: Engine,
    gpus: bool,
) -> Iterator[Result]:
    """Apply a function to every item, in this process or in several; yield in order.

    Args:
        open_work: Makes the function, once per process. With several jobs it must survive
            pickling: a function of a module, or a partial of one.
        items: Arguments of the function; they and its results are pickled.
        jobs: How many processes work, each with one thread. None leaves it to Ray.
        engine: What starts them. One job of the engine "processes" is this process.
        gpus: Whether each of them needs a GPU of its own; Ray hands them out.

    Raises:
        BrokenProcessPool: If one of the processes was killed.
    """
    if engine == "processes" and jobs == 1:
        yield from map(open_work(), items)
        return
    open_pickled, pickled = partial(_open_pickled, open_work), map(pickle.dumps, items)
    if engine == "ray":
        results = map_on_ray(open_pickled, pickled, jobs, gpus)
    else:
        results = map_on_processes(open_pickled, pickled, jobs or 1)
    yield from map(pickle.loads, results)


def _open_pickled(open_work: Callable[[], Callable[[Any], Any]]) -> Work:
    work = open_work()
    return lambda item: pickle.dumps(work(pickle.loads(item)))


def map_on_processes(
    open_work: Callable[[], Work], items: Iterable[bytes], jobs: int
) -> Iterator[bytes]:
    """Apply a function to every item, in new processes with one thread each; yield in order.

    Items are bytes: tensors handed over as they are would each hold a file descriptor. `open_work`
    makes the function, once per process, and must survive pickling.
    """
    pool = ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_start_child, initargs=(open_work,)
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
        on_signal = signal.getsignal(signal.SIGTERM)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
        if current_thread() is main_thread():  # Ray's own prints a stack, and aborts
            signal.signal(signal.SIGTERM, on_signal)
    try:
        kind = "GPU" if gpus else "CPU"
        count = jobs or max(1, int(ray.cluster_resources().get(kind, 1)))
        actor = ray.remote(num_cpus=1, num_gpus=int(gpus))(_Actor)
        pool: Any = ActorPool([actor.remote(open_work) for _ in range(count)])
        yield from pool.map(lambda actor, item: actor.work.remote(item), items)
    except ray.exceptions.RayActorError as error:
        raise BrokenProcessPool("an actor of Ray was killed") from error
    finally:
        if starts_ray:
            ray.shutdown()


class _Actor:
    def __init__(self, open_work: Callable[[], Work]) -> None:
        _start_process(open_work)

    def work(self, item: bytes) -> bytes:
        return _work(item)


def _start_child(open_work: Callable[[], Work]) -> None:
    """Start a process that ends, and leaves nothing unfinished, when it is told to or orphaned."""
    signal.signal(signal.SIGTERM, _end)
    Thread(target=_end_with_parent, daemon=True).start()
    _start_process(open_work)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        _end()


def _end(*_: object) -> NoReturn:
    remove_unfinished()
    os._exit(1)


def _start_process(open_work: Callable[[], Work]) -> None:
    global _process_work
    torch.set_num_threads(1)
    _process_work = open_work()


def _work(item: bytes) -> bytes:
    return _process_work(item)
