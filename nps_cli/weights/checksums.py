"""What is remembered about weights: the sha256 of large files, and of published ones for good.

One small JSON file in the Hugging Face hub's folder for such things (HF_HOME moves it). It saves
reading gigabytes at every start: a file whose size and time of change are as recorded counts as
unchanged. `nps weights verify` reads it all the same.
"""

import json
from pathlib import Path
from typing import Any

LARGE = 256 * 2**20  # bytes; smaller files are read every time


def place() -> Path:
    """Where it is written down."""
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE) / "nps" / "sha256.json"


def sha256_of(path: Path, *, read: bool = False) -> str:
    """The sha256 of a file; `read` it even if it seems unchanged since it was recorded."""
    from models.weights import digest_of

    status = path.stat()
    if status.st_size < LARGE:  # never recorded; looking it up would import the hub's library
        return digest_of(path)
    if not read and (known := unchanged(path)):
        return known
    digest = digest_of(path)
    entry = {"sha256": digest, "size": status.st_size, "changed_ns": status.st_mtime_ns}
    _add("files", str(path.resolve()), entry)
    return digest


def unchanged(path: Path) -> str | None:
    """The recorded sha256 of a file, unless the file has changed since."""
    entry = _load("files").get(str(path.resolve()), {})
    status = path.stat()
    is_same = (entry.get("size"), entry.get("changed_ns")) == (status.st_size, status.st_mtime_ns)
    return entry["sha256"] if is_same else None


def expected(name: str) -> str | None:
    """The sha256 that a published checkpoint had when it was first fetched."""
    return _load("published").get(name)


def expect(name: str, sha256: str) -> None:
    """Record the sha256 that a published checkpoint must have from now on."""
    _add("published", name, sha256)


def _load(kind: str) -> dict[str, Any]:
    try:
        return dict(json.loads(place().read_text(encoding="utf-8"))[kind])
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _add(kind: str, key: str, value: object) -> None:
    file = place()
    document = {each: _load(each) for each in ("published", "files")}
    document[kind][key] = value
    unfinished = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(document, indent=1), encoding="utf-8")
        unfinished.replace(file)
    except OSError:
        return  # a folder that may not be written: all works, only slower
