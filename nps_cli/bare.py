"""A slice of training on a machine that has Python and PyTorch, no network, and takes small files.

Knows the standard library only, and is copied as `start.py` into what `nps_cli.carry` packs: it
puts files together from pieces, checks them by hash, adds the packages that the machine lacks,
trains with `python -m nps_cli train`, and cuts what there is to bring home into pieces again.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

PIECE = 15 * 2**20  # bytes
LISTING = "pieces.json"
SETTINGS = "settings.json"  # arguments of `nps train`
NEEDED = ("torch", "numpy", "PIL", "jaxtyping", "rich", "safetensors", "typer")
USEFUL = {  # what is left out without them
    "cv2": "poses at the end are not measured",
    "numba": "pictures at the end are not measured",
    "gsplat": "recipes that draw pictures cannot run on CUDA; the one for centers does not need it",
}
RECORDS = ("state.pt", "history.jsonl", "log.jsonl")  # of a run, there and back
HOME = ("network.safetensors", *RECORDS)  # what comes back


def cut(files: Iterable[Path], folder: Path, limit: int = PIECE) -> None:
    """Cut files into pieces of at most so many bytes, and list them with their hashes."""
    listing = {}
    for file in files:
        data = file.read_bytes()
        starts = range(0, max(len(data), 1), limit)
        names = [f"{file.name}.{number:02d}" for number in range(len(starts))]
        for name, start in zip(names, starts, strict=True):
            (folder / name).write_bytes(data[start : start + limit])
        listing[file.name] = {"sha256": _hash(data), "bytes": len(data), "pieces": names}
    (folder / LISTING).write_text(json.dumps(listing, indent=1) + "\n")


def join(folders: Iterable[Path], target: Path) -> list[Path]:
    """Put all listed files together from pieces that may lie in several folders.

    Files that are there already, and right, stay. Raises ValueError that names what is missing,
    or what differs from what was cut.
    """
    found = {path.name: path for folder in folders for path in sorted(folder.iterdir())}
    if LISTING not in found:
        raise ValueError(f"there is no {LISTING}: bring the first load too")
    joined = []
    for name, about in json.loads(found[LISTING].read_text()).items():
        file = target / name
        joined.append(file)
        if file.is_file() and _hash(file.read_bytes()) == about["sha256"]:
            continue
        missing = [piece for piece in about["pieces"] if piece not in found]
        if missing:
            raise ValueError(f"missing: {', '.join(missing)} of {name}")
        data = b"".join(found[piece].read_bytes() for piece in about["pieces"])
        if _hash(data) != about["sha256"]:
            raise ValueError(f"{name} is not what was cut: a piece is broken, or of another cut")
        file.write_bytes(data)
    return joined


def unpack(archive: Path) -> None:
    """Unzip into a folder of the archive's name; of wheels, those that are missing here."""
    folder = archive.with_suffix("")
    with zipfile.ZipFile(archive) as packed:
        if archive.stem != "wheels":
            packed.extractall(folder)
            return
        for name in packed.namelist():
            with packed.open(name) as file, zipfile.ZipFile(file) as wheel:
                modules = {entry.split("/")[0] for entry in wheel.namelist() if "/" in entry}
                modules = {module for module in modules if "." not in module}
                if not any(_is_there(module) for module in modules):
                    wheel.extractall(folder)


def train(work: Path, minutes: float, more: list[str]) -> None:
    """Train a slice. Raises CalledProcessError when it fails."""
    run, site = work / "run", work / "wheels"
    run.mkdir(exist_ok=True)
    for name in RECORDS:
        if (work / name).is_file():
            (work / name).replace(run / name)
    settings = json.loads((work / SETTINGS).read_text())
    command = [sys.executable, "-m", "nps_cli", "train", "--procedural", *settings]
    for option, file in (
        ("textures", "textures"),
        ("panoramas", "panoramas"),
        ("meshes", "meshes.npz"),
    ):
        if (work / file).exists():
            command += [f"--{option}", str(work / file)]
    command += ["--out", str(run), "--resume", "--small", "--force"]
    command += ["--export", str(run / "network.safetensors")]
    command += ["--minutes", str(max(0.8 * minutes, minutes - 1.5))]
    paths = [str(work / "code"), *([str(site)] if site.is_dir() else [])]
    old = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths + old)}
    subprocess.run(command + more, check=True, env=environment)


def main(argv: list[str] | None = None) -> None:
    """Join, unpack, train, cut."""
    parser = argparse.ArgumentParser(description="Train a slice; what follows -- is for nps train.")
    parser.add_argument("--minutes", type=float, default=10.0, help="for everything")
    parser.add_argument("--out", type=Path, help="for what is to be brought home (work/out)")
    parser.add_argument("more", nargs="*", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    first = Path(__file__).resolve().parent
    loads = sorted(path for path in first.parent.glob("load*") if path.is_dir())
    work = first.parent / "work"
    out = asked.out or work / "out"
    for folder in (work, out):
        folder.mkdir(parents=True, exist_ok=True)
    # The joined state moves on into the run: without it there is nothing to check again.
    try:
        files = join(loads, work) if not (work / "run/checkpoint.pt").exists() else []
    except ValueError as error:
        sys.exit(f"error: {error}")
    for file in files:
        if file.suffix == ".zip":
            unpack(file)
    sys.path.append(str(work / "wheels"))
    missing = [module for module in NEEDED if not _is_there(module)]
    if missing:
        sys.exit(f"error: this Python has no {', '.join(missing)}: pack wheels of them")
    for module, without in USEFUL.items():
        if not _is_there(module):
            print(f"no {module} here: {without}", flush=True)
    try:
        train(work, asked.minutes, asked.more)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # it has said why
    cut([work / "run" / name for name in HOME if (work / "run" / name).exists()], out)
    size = sum(path.stat().st_size for path in out.iterdir()) / 2**20
    print(f"{out}: {len(list(out.iterdir()))} files to bring home, {size:.1f} MiB")


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main()
