"""The kinds of files that `nps` reads, and what several kinds have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from fuzz.damage import NUMBERS
from hypothesis.strategies import DataObject, integers, sampled_from

Case = Callable[[DataObject, Path], list[str]]  # writes files into a folder; returns a command
Make = Callable[[Path], Case]  # from an empty folder, for what does not change
KINDS: dict[str, Make] = {}
MadeT = TypeVar("MadeT", bound=Make)


def kind(name: str) -> Callable[[MadeT], MadeT]:
    """Enter what makes the cases of a kind into `KINDS`."""

    def enter(make: MadeT) -> MadeT:
        KINDS[name] = make
        return make

    return enter


def strange_numbers(data: DataObject, content: bytes, number: str = "<f4") -> bytes:
    """Replace some of an array of numbers; bytes behind the last whole one stay."""
    values = np.frombuffer(content, number, len(content) // np.dtype(number).itemsize).copy()
    with np.errstate(all="ignore"):
        for _ in range(data.draw(integers(1, 4)) if len(values) else 0):
            place = data.draw(integers(0, len(values) - 1))
            value = np.array(data.draw(sampled_from(NUMBERS)), np.float64)
            values[place] = value.astype(values.dtype)
    return values.tobytes() + content[values.nbytes :]


def joined(lines: Any) -> bytes:
    """Return damaged lists of words as lines."""
    rows = lines if isinstance(lines, list) else []
    return "\n".join(" ".join(map(str, row)) for row in rows if isinstance(row, list)).encode()
