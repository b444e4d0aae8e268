"""Read files that other people made: regular ones, of bounded size."""

import stat
from pathlib import Path

MAX_BYTES = 512 * 2**20


def check_regular(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        ValueError: If it is a device or a pipe, which may have no end, or a folder.
        OSError: If it cannot be looked at.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a regular file")
    return status.st_size


def read_regular(path: Path, most: int = MAX_BYTES) -> bytes:
    """Return the content of a file.

    Raises:
        ValueError: If it is not a regular file, or larger than `most` bytes.
        OSError: If it cannot be read.
    """
    size = check_regular(path)
    if size > most:
        raise ValueError(f"{path} has {size:,} bytes; at most {most:,} are read")
    return path.read_bytes()
