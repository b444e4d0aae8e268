"""Find published checkpoints in the Hugging Face hub's cache, and fetch them from the hub.

Proxies, mirrors (HF_ENDPOINT), cache folders (HF_HOME, HF_HUB_CACHE) and HF_HUB_OFFLINE are the
hub library's, and so is the rule that a file appears in its cache whole or not at all.
"""

import errno
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli.errors import NpsError
from nps_cli.weights import checksums

if TYPE_CHECKING:
    from models.weights import PublishedCheckpoint

MAKE_ROOM = "Make room, or set HF_HUB_CACHE to a folder on another disk."


def find_cached(checkpoint: "PublishedCheckpoint") -> Path | None:
    """Return the checkpoint's file in the hub's cache, unchecked; None where there is none."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{checkpoint.repository.replace('/', '--')}"
    found = [path for path in folder.glob(f"snapshots/*/{checkpoint.file}") if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def obtain(checkpoint: "PublishedCheckpoint") -> tuple[Path, str]:
    """Return a checkpoint's file and sha256: from the cache, or fetched from the hub."""
    path = find_cached(checkpoint) or fetch(checkpoint)
    return path, check(checkpoint, path)


def fetch(checkpoint: "PublishedCheckpoint", *, force: bool = False) -> Path:
    """Say under which terms, download and check; `force` replaces a file in the cache."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    page = f"{constants.ENDPOINT}/{checkpoint.repository}"
    _print_terms(checkpoint, page)
    with _download_errors_explained(checkpoint, page):
        size = get_hf_file_metadata(hf_hub_url(checkpoint.repository, checkpoint.file)).size
        _check_space(checkpoint, Path(constants.HF_HUB_CACHE), size or checkpoint.size)
        path = Path(hf_hub_download(checkpoint.repository, checkpoint.file, force_download=force))
    try:
        check(checkpoint, path, read=True)
    except NpsError:
        for damaged in (path.resolve(), path):
            damaged.unlink(missing_ok=True)
        raise
    return path


def check(checkpoint: "PublishedCheckpoint", path: Path, *, read: bool = False) -> str:
    """Return the file's sha256 if it is the expected one; `read` it even if it seems unchanged.

    It must be the one in our table and the one that the hub gave with the file, as far as they
    are known. Raises NpsError.
    """
    found = checksums.sha256_of(path, read=read)
    for expected, source in ((sha256_from_hub(path), "the hub"), (checkpoint.sha256, "nps")):
        if expected not in (None, found):
            again = f"nps weights fetch --force {checkpoint.name}"
            raise NpsError(
                f"{path} has sha256 {found}, but expected {expected}, according to {source}.",
                hint=f"The file is damaged, or another one than before. Try: {again}",
            )
    return found


def sha256_from_hub(path: Path) -> str | None:
    """Return the sha256 that the hub gave with a file in its cache, which names files by it."""
    name = path.resolve().name
    return name if re.fullmatch(r"[0-9a-f]{64}", name) else None


def _print_terms(checkpoint: "PublishedCheckpoint", page: str) -> None:
    """Print source and licenses, also with --quiet: nobody gets such terms unknowingly."""
    what = f"{checkpoint.file}, {checkpoint.size / 1e9:.1f} GB, from {page}"
    for line in (
        f"fetching {checkpoint.name}: {what}",
        f"license of the weights: {checkpoint.license}",
        f"license of the authors' code: {checkpoint.code_license}",
    ):
        print(line, file=sys.stderr, flush=True)


def _check_space(checkpoint: "PublishedCheckpoint", folder: Path, size: int) -> None:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise NpsError(
            f"{checkpoint.name} takes {size / 1e9:.2f} GB, but {folder} has {free / 1e9:.2f} GB "
            "left.",
            hint=MAKE_ROOM,
        )


@contextmanager
def _download_errors_explained(checkpoint: "PublishedCheckpoint", page: str) -> Iterator[None]:
    """Raise NpsError, a sentence and a way out, for whatever goes wrong in a download."""
    from huggingface_hub import errors

    again = (
        f"nps weights fetch {checkpoint.name}; or fetch the file on another machine and give it "
        "with --weights FILE."
    )
    try:
        yield
    except (OSError, RuntimeError, errors.HTTPError) as error:
        match error:
            case errors.OfflineModeIsEnabled():
                reason = "HF_HUB_OFFLINE forbids it, and it is not on this machine."
                hint = f"Unset HF_HUB_OFFLINE and run: {again}"
            case errors.RemoteEntryNotFoundError() | errors.RepositoryNotFoundError():
                reason = f"it has no {checkpoint.file}, or not for everyone."
                hint = f"Look at {page}; `nps weights list` shows what is on this machine."
            case errors.HfHubHTTPError():
                reason = f"it answered {error.response.status_code}, expected the file."
                hint = f"Try again later: {again}"
            case OSError(errno=errno.ENOSPC):
                reason, hint = "the disk is full.", MAKE_ROOM
            case _:
                reason = (str(error) or type(error).__name__).splitlines()[0]
                hint = f"With a network (see HTTPS_PROXY, HF_ENDPOINT): {again}"
        problem = f"{checkpoint.name} could not be fetched from {page}: {reason}"
        raise NpsError(problem, hint=hint) from error
