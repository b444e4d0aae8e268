"""Find and fetch the weights of LPIPS.

The trunk is torchvision's, found in its cache; the heads are in the package `lpips`, if that is
installed. `nps weights fetch lpips-vgg` puts both into the same cache.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.metrics.lpips import Lpips

NAME = "lpips-vgg"
FETCH = f"nps weights fetch {NAME}"


class Part(NamedTuple):
    """A file that other people publish."""

    file: str
    url: str
    sha256: str  # of the whole, or its beginning as the name has it
    license: str


TRUNK = Part(
    "vgg16-397923af.pth",
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af",
    "BSD-3-Clause (torchvision's VGG-16, trained on ImageNet; 528 MB)",
)
HEADS = Part(
    "lpips-vgg-v0.1.pth",
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
    "vgg.pth",
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    "BSD-2-Clause (LPIPS by Zhang et al.)",
)


def find_files(trunk: Path | None = None) -> tuple[Path, Path] | None:
    """Return the files of trunk and heads, or None if one is missing."""
    candidates = (
        [trunk or _cache_folder() / TRUNK.file],
        [_cache_folder() / HEADS.file, *_package_heads()],
    )
    found = [next((path for path in paths if path.is_file()), None) for paths in candidates]
    return (found[0], found[1]) if found[0] and found[1] else None


def find_lpips(trunk: Path | None = None) -> "Lpips | None":
    """Load LPIPS on the CPU; return None where its weights are missing.

    `trunk` is torchvision's file, if it is elsewhere. Raises NpsError if what is here is broken,
    or if there are no heads for a trunk that was named.
    """
    from models.metrics.lpips import load_lpips

    files = find_files(trunk)
    if files is None:
        if trunk:
            raise NpsError(
                f"LPIPS has {trunk}, but not its heads.", hint=f"pip install lpips, or: {FETCH}"
            )
        return None
    try:
        return load_lpips(*files)
    except ValueError as error:
        raise NpsError(str(error), hint=f"Fetch them again: {FETCH} --force") from error


def fetch(*, force: bool = False) -> Path:
    """Download missing files, check both, and return their folder. Raises NpsError."""
    from torch.hub import download_url_to_file

    from models.weights import digest_of
    from nps_cli import console

    folder = _cache_folder()
    for part in (TRUNK, HEADS):
        path = folder / part.file
        if path.is_file() and not force:
            if digest_of(path).startswith(part.sha256):
                continue
            raise NpsError(f"{path} is damaged.", hint=f"Try: {FETCH} --force")
        console.info(f"fetching {part.url}, license: {part.license}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            download_url_to_file(part.url, str(path), part.sha256, progress=False)
        except (OSError, RuntimeError) as error:
            raise NpsError(
                f"{part.file} could not be fetched from {part.url}: {error}",
                hint=f"With a network (see HTTPS_PROXY) try again, or put the file into {folder}.",
            ) from error
    return folder


def _cache_folder() -> Path:
    """Return torch's own folder of downloaded weights (TORCH_HOME moves it)."""
    from torch.hub import get_dir

    return Path(get_dir()) / "checkpoints"


def _package_heads() -> list[Path]:
    spec = find_spec("lpips")
    folders = spec.submodule_search_locations if spec else None
    return [Path(folder) / "weights/v0.1/vgg.pth" for folder in folders or ()]
