"""numba's compiler, with a cache on disk where there is a place for one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, no_type_check

from numba import njit
from numba.core.caching import FunctionCache


class _LenientCache(FunctionCache):
    """A cache on disk that does without a disk that is full, or gone."""

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel for the next process, if possible."""
        try:
            super().save_overload(sig, data)
        except OSError:
            self.disable()


def cached_njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a kernel without Python's lock, and keeps it on disk.

    It is kept in NUMBA_CACHE_DIR, `__pycache__` beside the source or the user's folder for caches,
    the first that can be written. Where none can, every process compiles anew.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        kernel = njit(nogil=True, **options)(function)
        try:
            kernel._cache = _LenientCache(kernel.py_func)  # as its enable_caching() does
        except (RuntimeError, OSError):  # numba finds no place
            pass
        return kernel

    return decorate


def cache_folder() -> Path | None:
    """Return the folder where compiled kernels are kept, or None where there is no place."""
    path = _probe.stats.cache_path
    return Path(path) if path else None


@cached_njit()
@no_type_check
def _probe() -> None:
    pass
