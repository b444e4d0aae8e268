"""The header of a PLY file: its comments, and its elements with their properties."""

import re
from dataclasses import dataclass

import numpy as np

from nps_cli.errors import NpsError
from nps_cli.formats.scene_file import COPY_AGAIN, Source

MAX_BYTES = 1 << 20
MAX_PROPERTIES = 4096
COUNT = re.compile(r"\d{1,15}", re.ASCII)
ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
TYPES = {
    **{"char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4"},
    **{"int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4"},
    **{"float": "f4", "double": "f8", "float32": "f4", "float64": "f8"},
}


@dataclass(frozen=True)
class Element:
    """An element: its name, its count, and the NumPy types of its properties; None for lists."""

    name: str
    count: int
    properties: dict[str, str | None]

    @property
    def has_lists(self) -> bool:
        """True if rows differ in length."""
        return None in self.properties.values()


@dataclass(frozen=True)
class Header:
    """A header: "<", ">" or, for ascii, "" as byte order; comments; elements; its own text."""

    order: str
    comments: list[str]
    elements: list[Element]
    text: bytes

    def element(self, name: str) -> Element | None:
        """Return the first element of a name."""
        return next((element for element in self.elements if element.name == name), None)

    def row(self, element: Element) -> np.dtype:
        """Return the type of a row of an element without lists."""
        return np.dtype([(key, f"{self.order}{kind}") for key, kind in element.properties.items()])


def read_header(source: Source) -> Header:
    """Read a header, and leave the file behind it; raise NpsError if it breaks PLY's rules."""
    lines = _read_lines(source)
    comments: list[str] = []
    elements: dict[str, Element] = {}
    order = None
    for line in lines[1:-1]:
        match line.split():
            case ["comment", *_]:
                comments.append(line.removeprefix("comment").strip())
            case ["obj_info", *_] | []:
                pass
            case ["format", kind, "1.0"] if kind in ORDERS and order is None:
                order = ORDERS[kind]
            case ["element", name, count] if COUNT.fullmatch(count) and name not in elements:
                last = elements[name] = Element(name, int(count), {})
            case ["property", kind, name] if elements and kind in TYPES:
                _add(last, name, TYPES[kind], source.name)
            case ["property", "list", size, kind, name] if elements and {size, kind} <= {*TYPES}:
                _add(last, name, None, source.name)
            case _:
                raise _damaged(source.name, line)
    if order is None:
        raise _damaged(source.name, "no format")
    text = "\n".join([*lines, ""]).encode("latin-1")
    return Header(order, comments, list(elements.values()), text)


def _add(element: Element, key: str, kind: str | None, name: str) -> None:
    if key in element.properties or len(element.properties) >= MAX_PROPERTIES:
        raise _damaged(name, f"property {key}")
    element.properties[key] = kind


def _read_lines(source: Source) -> list[str]:
    """Return the lines from "ply" to "end_header"."""
    lines: list[str] = []
    length = 0
    while not lines or lines[-1] != "end_header":
        with source.damage_named():
            line = source.file.readline(MAX_BYTES - length + 1)
        length += len(line)
        if (not lines and line.rstrip(b"\r\n") != b"ply") or not line or length > MAX_BYTES:
            raise NpsError(f"{source.name} is not a PLY file.", hint="Give a scene of Gaussians.")
        lines.append(line.decode("latin-1").rstrip("\r\n").strip())
    return lines


def _damaged(name: str, line: str) -> NpsError:
    return NpsError(
        f"{name} is cut short, or its header is damaged: `{line[:80]}`.", hint=COPY_AGAIN
    )
