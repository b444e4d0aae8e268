"""Read NumPy archives (.npz) that other people made."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from models.files.regular import MAX_BYTES, check_regular

MAX_EXPANSION = 8  # unpacked bytes per byte of a file of more than `MAX_BYTES` unpacked


def read_arrays(path: Path, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Return arrays of numbers by name. Code never runs.

    Raises:
        ValueError: If the file cannot be read, lacks an array, or unpacks to far more than it is.
    """
    try:
        size = check_regular(path)
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > max(MAX_BYTES, MAX_EXPANSION * size):
            raise ValueError(f"it unpacks to {unpacked:,} bytes")
        with np.load(path, allow_pickle=False) as packed:
            return {name: packed[name] for name in names}
    except KeyError as error:
        raise ValueError(f"it has no array {error}") from error
    except Exception as error:  # files from elsewhere: whatever is wrong, it is named
        raise ValueError((str(error) or type(error).__name__).splitlines()[0]) from error
