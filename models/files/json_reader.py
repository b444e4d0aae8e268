"""Read JSON that other people made: finite numbers, bounded sizes, values of the stated types."""

import codecs
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from models.files.regular import read_regular

T = TypeVar("T")
MAX_BYTES = 64 * 2**20
MAX_COMMAS = 4_000_000  # a value takes up to 64 bytes of memory
MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1  # what a tensor can hold
STRING_OR_NAN = re.compile(rb'"(?:[^"\\]|\\.)*"?|-?\b(?:NaN|Infinity)\b', re.DOTALL)


def read_json(path: Path, *, nan_as_text: bool = False) -> Any:
    """Return the value in a JSON file; see `parse_json`.

    Args:
        path: The file.
        nan_as_text: Return NaN and infinity as text, for whoever expects a number there to refuse:
            one bad number does not spoil the rest.

    Raises:
        ValueError: If the file cannot be read, or holds something else.
    """
    try:
        content = read_regular(path, MAX_BYTES)
        return parse_json(_quote_nan(content) if nan_as_text else content)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        named = str(error).startswith(str(path))
        raise ValueError(str(error) if named else f"{path} is not JSON: {error}") from error


def parse_json(content: bytes | str) -> Any:
    """Return the value that JSON in UTF-8 stands for.

    Raises:
        ValueError: If it is no JSON, has NaN, infinity, numbers beyond those of 64 bits or
            surrogates on their own, or is nested more than 64 deep.
    """
    if isinstance(content, str):
        content = content.encode()
    content = content.removeprefix(codecs.BOM_UTF8)
    if content.count(b",") > MAX_COMMAS:
        raise ValueError(f"it has more than {MAX_COMMAS:,} values")
    try:
        value = msgspec.json.decode(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        if found := re.search(rb"\b(NaN|Infinity)\b", content):
            raise ValueError(f"it has {found[0].decode()}, which is no number there") from error
        raise
    level = [value]
    for _ in range(MAX_DEPTH):
        if any(type(each) is int and abs(each) > MAX_INTEGER for each in level):
            raise ValueError("it has an integer of more than 64 bits")
        level = [child for each in level for child in _children(each)]
        if not level:
            return value
    raise ValueError("it is nested too deeply")


def convert(value: Any, kind: type[T]) -> T:
    """Return a parsed value as an instance of a type, such as a dataclass with such fields.

    Fields that it does not know are left out.

    Raises:
        ValueError: If a field is missing, or a value is of another type or out of its bounds.
    """
    return msgspec.convert(value, kind)


def _quote_nan(content: bytes) -> bytes:
    """Put NaN and infinity, which are no JSON, into quotes."""

    def quote(found: re.Match[bytes]) -> bytes:
        return found[0] if found[0].startswith(b'"') else b'"' + found[0] + b'"'

    if b"NaN" not in content and b"Infinity" not in content:
        return content
    return STRING_OR_NAN.sub(quote, content)


def _children(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
