"""`nps data`: making, converting and checking data sets to train and evaluate on."""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nps_cli import console, options
from nps_cli.errors import EXIT_UNTRUSTED, NpsError

if TYPE_CHECKING:
    from models.data.folders import PosedFolder, Reading
    from models.data.report import Report
    from models.data.scenes import Scene

data = typer.Typer(no_args_is_help=True, help="Make, convert and check data sets.")


class Layout(StrEnum):
    """How data sets are published."""

    chunks = "chunks"
    scannet = "scannet"
    pairs = "pairs"


class Stage(StrEnum):
    """What a part of a data set is for."""

    train = "train"
    test = "test"


@data.command()
def make(
    out: Annotated[Path, typer.Argument(metavar="DIR", show_default=False, help="What to write.")],
    layout: Annotated[
        Layout,
        typer.Option(
            help="`.torch` chunks to train on with a list to evaluate on, photos like "
            "ScanNet-1500's, or photos with a pairs.json."
        ),
    ] = Layout.chunks,
    scenes: Annotated[int, typer.Option(min=1, metavar="N", help="For each stage.")] = 4,
    frames: Annotated[int, typer.Option(min=6, metavar="N", help="Of each scene.")] = 8,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of the images.")] = "320x256",
    textures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            show_default=False,
            help="Images to cut textures from. Default: noise.",
        ),
    ] = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a small valid data set of procedural worlds: for tests, and to try things out."""
    console.set_verbosity(quiet=quiet)
    height, width = _parse_size(size)
    from models.data import made
    from nps_cli.output import whole_folder

    write = {"chunks": made.make_chunks, "scannet": made.make_scannet, "pairs": made.make_pairs}
    making = made.Making(scenes=scenes, frames=frames, size=(height, width), seed=seed)
    with whole_folder(out, force=force) as unfinished, console.stages() as enter:
        enter("making scenes")
        try:
            write[layout](unfinished, making, made.choose_textures(textures, seed))
        except ValueError as error:
            raise NpsError(str(error), hint="Give another folder, or none.") from error
    console.say(f"wrote {out}")
    console.say(f"next: nps data check {options.quoted(out)}")


@data.command()
def convert(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            show_default=False,
            help="Where scenes are, at any depth: folders with a transforms.json (nerfstudio, "
            "DL3DV) or a COLMAP model.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="The data set to write a stage of.")
    ],
    stage: Annotated[Stage, typer.Option(help="What the scenes are for.")] = Stage.train,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            show_default=False,
            help="Folder of images in every scene's, such as images_4. Default: where the cameras "
            "say, or else images_4, images_8, images_2.",
        ),
    ] = None,
    short_side: Annotated[
        int,
        typer.Option(
            metavar="PIXELS",
            min=0,
            help="Shrink images until their shorter side has so many; 0: never.",
        ),
    ] = 540,
    undistort: Annotated[
        bool,
        typer.Option(help="Undo the distortion of lenses; the published DL3DV chunks keep it."),
    ] = True,
    exclude: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            show_default=False,
            help="Leave out scenes whose key, or its last part, is a line of this file.",
        ),
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn folders of posed images into `.torch` chunks."""
    console.set_verbosity(quiet=quiet)
    from models.data.chunks import remove_unlisted, write_chunks
    from models.data.folders import Reading
    from models.data.report import Report
    from nps_cli.output import whole_folder

    found, report = _find(folders, exclude), Report()
    there = out.is_dir()  # perhaps with the other stage in it
    with whole_folder(out / stage if there else out, force=force) as unfinished:
        folder = unfinished if there else unfinished / stage
        folder.mkdir(exist_ok=True)
        reading = Reading(images, short_side or None, undistort)
        written = write_chunks(_read(found, report, reading), folder)
        if not written:
            raise NpsError(f"No scene can be used: {report.lines()[1]}", hint="Correct the folder.")
    remove_unlisted(out / stage)
    _warn(report)
    console.say(f"wrote {written} of {len(found)} scenes to {out / stage}")
    console.say(f"next: nps data check {options.quoted(out)}")


@data.command()
def check(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            exists=True,
            show_default=False,
            help="A data set of chunks, a folder like ScanNet-1500's, or one with a pairs.json.",
        ),
    ],
    index: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            show_default=False,
            help="Check the pairs that this evaluation index names, rather than everything.",
        ),
    ] = None,
    dataset: Annotated[
        str, typer.Option(metavar="NAME", help="Whose filters hold for --index: re10k, acid, ...")
    ] = "own",
    whole: Annotated[
        bool, typer.Option("--whole", help="Decode all images of chunks, not only their headers.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Read a data set as training and evaluation do; count and name what is bad (exit code 3)."""
    from models.data.report import Report

    report = Report()
    with console.stages() as enter:
        try:
            for step in _steps(path, index, dataset, report, whole=whole):
                enter(f"checking {step}")
        except ValueError as error:
            raise NpsError(
                str(error), hint="`nps data check --help` says what it takes."
            ) from error
    if json:
        console.emit_json(report.to_dict())
    else:
        console.emit("\n".join(report.lines()))
    if report.skipped:
        raise typer.Exit(EXIT_UNTRUSTED)


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if not match or min(map(int, match.groups())) < 32:
        raise typer.BadParameter(
            f"{text!r} is not WIDTHxHEIGHT, both from 32, such as 320x256.", param_hint="--size"
        )
    return int(match[2]), int(match[1])


def _find(folders: list[Path], exclude: Path | None) -> "list[PosedFolder]":
    from models.data.folders import find_folders

    lines = exclude.read_text(encoding="utf-8").split() if exclude else ()
    found = [scene for folder in folders for scene in find_folders(folder)]
    kept = [scene for scene in found if not {scene.key, scene.folder.name} & set(lines)]
    if not kept:
        raise NpsError(
            f"No scene in {', '.join(map(str, folders))}"
            + (f", {len(found)} being left out." if found else "."),
            hint="A scene is a folder with a transforms.json or a COLMAP model (sparse/0).",
        )
    return kept


def _read(found: "list[PosedFolder]", report: "Report", reading: "Reading") -> "Iterator[Scene]":
    from models.data.folders import read_folder

    with console.counted("converting", len(found)) as advance:
        for folder in found:
            try:
                yield read_folder(folder, report, reading)
            except ValueError as error:
                report.skip("scene", folder.key, str(error))
            advance()


def _warn(report: "Report") -> None:
    if report.skipped or report.notes:
        for line in report.lines():
            console.warn(line)


def _steps(
    path: Path, index: Path | None, dataset: str, report: "Report", *, whole: bool
) -> Iterator[str]:
    """Check as the kind of data set wants it; the names of what is looked at."""
    from models.data.benchmark import load_benchmark
    from models.data.check import check_chunks, check_photos, find_stages
    from models.data.pairs import load_pairs
    from models.data.scannet import LIST, load_scannet
    from models.data.settings import find_settings

    if path.is_file() or (path / "pairs.json").exists():
        pairs = load_pairs(path if path.is_file() else path / "pairs.json")
        yield from check_photos(pairs, report)
    elif (path / LIST).exists():
        yield from check_photos(load_scannet(path, report), report)
    elif index is not None:
        pairs = load_benchmark(path, index, find_settings(dataset), report)
        yield from check_photos(pairs, report)
    else:
        stages = find_stages(path)
        if not stages:
            raise ValueError(f"{path} holds no chunks in train or test, and no {LIST}")
        for folder in stages:
            yield from check_chunks(folder, report, whole=whole)
