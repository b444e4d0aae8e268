"""The sha256 of weights files, remembered for those that take seconds to read.

One small JSON file in the Hugging Face hub's folder for such things (HF_HOME moves it): a file
whose size and time of change are as recorded counts as unchanged. `nps weights verify` reads it
all the same.
"""

import json
from pathlib import Path
from typing import Any

from models.files.atomic import atomic_write
from models.files.json_reader import read_json

LARGE_BYTES = 256 * 2**20  # smaller files are read every time


def record_path() -> Path:
    """Return the file that holds the record."""
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE) / "nps" / "sha256.json"


def sha256_of(path: Path, *, read: bool = False) -> str:
    """Return the sha256 of a file; `read` it even if it seems unchanged since it was recorded."""
    from models.weights import digest_of

    status = path.stat()
    if status.st_size < LARGE_BYTES:  # looking it up would import the hub's library
        return digest_of(path)
    record = _load()
    key, state = str(path.resolve()), {"size": status.st_size, "changed_ns": status.st_mtime_ns}
    known = record.get(key, {})
    if not read and known == state | {"sha256": known.get("sha256")}:
        return known["sha256"]
    digest = digest_of(path)
    _save(record | {key: {"sha256": digest, **state}})
    return digest


def _load() -> dict[str, Any]:
    try:
        files = read_json(record_path())["files"]
        return {path: dict(facts) for path, facts in files.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _save(record: dict[str, Any]) -> None:
    file = record_path()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as temporary:
            temporary.write_text(json.dumps({"files": record}, indent=1), encoding="utf-8")
    except OSError:
        return  # a folder that may not be written: all works, only slower
