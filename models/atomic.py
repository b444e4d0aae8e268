"""Atomic writes: a file appears whole or not at all."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, with the same suffix; rename it at the end.

    If the block raises, nothing is left behind and an old file stays as it was.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_beside(path: Path) -> Path:
    """Return an unused hidden path in the same folder, with the same suffix."""
    return path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}{path.suffix}")
