"""How this process keeps its memory."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names for them, in malloc.h
_KEPT_BYTES = 2**30


def keep_freed_memory() -> None:
    """Let the C library keep freed blocks for reuse, up to a gigabyte.

    By default glibc returns every large block at once, and gets it back page by page: a network's
    feature maps come and go many times, which cost a fifth of the time of `nps reconstruct`.
    Elsewhere than with glibc this does nothing.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
