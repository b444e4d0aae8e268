"""A reader of `torch.save` files: no code runs, and tensors stay on disk until they are read.

`torch.load(weights_only=True, mmap=True)` is as safe, but builds every tensor in Python: it takes
five times as long for a chunk of 3,000 images, of which training wants a few at a time.
"""

import io
import mmap
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "ByteStorage": torch.uint8,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
}
_HEADER_BYTES = 30  # bytes before a zip record's name; the lengths of name and padding are at 26


@dataclass(frozen=True)
class StoredTensor:
    """A tensor on disk."""

    archive: "Archive"
    record: str
    dtype: torch.dtype
    count: int  # of numbers in the record
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def read(self) -> Tensor:
        """Map the tensor into memory.

        Raises:
            ValueError: If it is not all there.
        """
        try:
            start = self.archive.find(self.record)
            numbers = torch.frombuffer(
                self.archive.content, dtype=self.dtype, count=self.count, offset=start
            )
            return numbers.as_strided(self.shape, self.stride, self.offset)
        except (KeyError, RuntimeError, TypeError, ValueError, struct.error) as error:
            raise ValueError(f"its bytes are not in the file ({error})") from error


class Archive:
    """A file of `torch.save`, open for as long as anything read from it is in use."""

    def __init__(self, path: Path) -> None:
        """Read the table of contents. Raises OSError, ValueError, or zipfile.BadZipFile."""
        with zipfile.ZipFile(path) as file, path.open("rb") as handle:
            self.content = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
            entries = {entry.filename.partition("/")[2]: entry for entry in file.infolist()}
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
                raise ValueError("its records are compressed")
            self._offsets = {name: entry.header_offset for name, entry in entries.items()}
            self.pickled = file.read(entries["data.pkl"]) if "data.pkl" in entries else b""

    def load(self) -> Any:
        """Unpickle the content: plain values, with a `StoredTensor` for every tensor.

        Raises:
            pickle.UnpicklingError: If that would run code; other exceptions if it is broken.
        """
        return _Unpickler(self).load()

    def find(self, record: str) -> int:
        """Return the offset of a tensor's bytes."""
        at = self._offsets[f"data/{record}"]
        name, padding = struct.unpack_from("<HH", self.content, at + _HEADER_BYTES - 4)
        return at + _HEADER_BYTES + int(name) + int(padding)


class _Unpickler(pickle.Unpickler):
    """An unpickler that allows the names that a pickle of tensors needs, and no others."""

    def __init__(self, archive: Archive) -> None:
        super().__init__(io.BytesIO(archive.pickled))
        self._archive = archive

    def find_class(self, module: str, name: str) -> Callable[..., Any] | str:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"it wants to run code ({module}.{name}): refused")

    def persistent_load(self, pid: Any) -> tuple[Archive, str, torch.dtype, int]:
        _, kind, record, _, count = pid
        return self._archive, str(record), _DTYPES[kind], int(count)


def _rebuild(
    storage: tuple[Archive, str, torch.dtype, int], offset: int, shape: Any, stride: Any, *_: Any
) -> StoredTensor:
    return StoredTensor(*storage, offset, shape, stride)
