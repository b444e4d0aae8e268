"""`make train-embedded`: packs all that a slice of training needs, and takes home what it gives.

    python -m nps_cli.carry pack PACKED --run RUN [--textures DIR] [--meshes FILE] ...
    python3 PACKED/load1/start.py --minutes 10         # there; see `nps_cli.bare`
    python -m nps_cli.carry home FOLDER... --run RUN   # what lies in PACKED/work/out

A machine that takes so much at a time is brought the loads one after the other, into one folder.
"""

import argparse
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from nps_cli import bare, console

ROOT = Path(__file__).parent.parent
LOAD = 62  # MiB carried at a time
_IMAGES = (".jpg", ".jpeg", ".png")


def pack(
    target: Path,
    run: Path,
    settings: list[str],
    textures: Path | None,
    panoramas: Path | None,
    meshes: Path | None,
    wheels: Path | None,
    limit: float = LOAD,
) -> list[Path]:
    """Write load1, load2, ... with pieces of the code, what worlds are made of, and the run.

    No load is larger than `limit` MiB, except for one piece alone.

    Returns:
        The folders.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code = [path for part in ("models", "nps_cli") for path in (ROOT / part).rglob("*.py")]
        files = [_zip(folder / "code.zip", ROOT, code, squeeze=True)]
        (folder / bare.SETTINGS).write_text(json.dumps(settings))
        files.append(folder / bare.SETTINGS)
        for source, title in ((textures, "textures"), (panoramas, "panoramas"), (wheels, "wheels")):
            if source:
                endings = (".whl",) if title == "wheels" else _IMAGES
                found = [path for path in sorted(source.iterdir()) if path.suffix in endings]
                files.append(_zip(folder / f"{title}.zip", source, found))
        if meshes:
            shutil.copyfile(meshes, folder / "meshes.npz")
            files.append(folder / "meshes.npz")
        files += [run / name for name in bare.RECORDS if (run / name).exists()]
        cut = folder / "cut"
        cut.mkdir()
        bare.cut(files, cut)
        shutil.copyfile(bare.__file__, cut / "start.py")
        return _load(target, cut, limit * 2**20)


def home(folders: Iterable[Path], run: Path) -> list[Path]:
    """Put together what came back; raises ValueError when something is missing or broken."""
    run.mkdir(parents=True, exist_ok=True)
    return bare.join(folders, run)


def _zip(archive: Path, root: Path, files: list[Path], squeeze: bool = False) -> Path:
    how = zipfile.ZIP_DEFLATED if squeeze else zipfile.ZIP_STORED
    with zipfile.ZipFile(archive, "w", how) as packed:
        for file in sorted(files):
            packed.write(file, file.relative_to(root))
    return archive


def _load(target: Path, cut: Path, limit: float) -> list[Path]:
    """Into as few folders as the order allows; what starts it and the listing are in the first."""
    first = [cut / "start.py", cut / bare.LISTING]
    pieces = [*first, *sorted(path for path in cut.iterdir() if path not in first)]
    loads: list[Path] = []
    room = 0.0
    for piece in pieces:
        size = piece.stat().st_size
        if size > room:
            loads.append(target / f"load{len(loads) + 1}")
            loads[-1].mkdir(parents=True)
            room = limit
        shutil.copyfile(piece, loads[-1] / piece.name)
        room -= size
    return loads


def main(argv: list[str] | None = None) -> None:
    """What `make train-embedded` calls before and after a slice."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("target", type=Path)
    for option in ("textures", "panoramas", "meshes", "wheels"):
        packing.add_argument(f"--{option}", type=Path)
    packing.add_argument("--limit", type=float, default=LOAD, help="of a load, in MiB")
    packing.add_argument("--settings", default="", help="of nps train, as one text")
    bringing = commands.add_parser("home")
    bringing.add_argument("folders", type=Path, nargs="+")
    for each in (packing, bringing):
        each.add_argument("--run", type=Path, required=True)
    asked = parser.parse_args(argv)
    try:
        if asked.command == "home":
            for file in home(asked.folders, asked.run):
                console.info(f"{file}: {file.stat().st_size / 2**20:.1f} MiB, as it was cut")
            return
        loads = pack(
            asked.target, asked.run, asked.settings.split(), asked.textures, asked.panoramas,
            asked.meshes, asked.wheels, asked.limit,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        console.error(str(error), "`python -m nps_cli.carry --help` says what it takes.")
        raise SystemExit(1) from error
    for load in loads:
        size = sum(path.stat().st_size for path in load.iterdir()) / 2**20
        console.info(f"{load}: {len(list(load.iterdir()))} files, {size:.1f} MiB")


if __name__ == "__main__":
    main()
