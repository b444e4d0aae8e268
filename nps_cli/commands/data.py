"""`nps data`: making, converting and checking data sets to train and evaluate on."""

from collections.abc import Iterator
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nps_cli import console, options
from nps_cli.errors import EXIT_UNTRUSTED, NpsError
from nps_cli.evaluation.inputs import INDEX

if TYPE_CHECKING:
    from models.data.folders import ConversionOptions, SceneFolder
    from models.data.report import Report
    from models.data.scenes import Scene

_OTHER = "Give another folder or file, or none."
data = typer.Typer(no_args_is_help=True, help="Make, convert and check data sets.")


@data.command()
def make(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="What to write.")],
    layout: Annotated[
        Literal["chunks", "scannet", "pairs"],
        typer.Option(
            help="`.torch` chunks to train on with a list to evaluate on, photos like "
            "ScanNet-1500's, or photos with a pairs.json."
        ),
    ] = "chunks",
    scenes: Annotated[int, typer.Option(min=1, metavar="N", help="For each stage.")] = 4,
    frames: Annotated[int, typer.Option(min=6, metavar="N", help="Of each scene.")] = 8,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of the images.")] = "320x256",
    textures: options.Textures = None,
    panoramas: options.Panoramas = None,
    meshes: options.Meshes = None,
    seed: options.Seed = 0,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Write a small valid data set of procedural worlds: for tests, and to try things out."""
    console.set_verbosity(quiet=quiet)
    made_size = options.parse_size(size)
    from nps_cli.output import check_outputs

    check_outputs(folder=out, inputs=[textures, panoramas, meshes], force=force)
    import torch

    from models.data import toy_datasets
    from models.data.textures import load_assets
    from nps_cli.output import whole_folder

    write = {
        "chunks": toy_datasets.make_chunks,
        "scannet": toy_datasets.make_scannet,
        "pairs": toy_datasets.make_pairs,
    }
    toy_options = toy_datasets.ToyOptions(scenes=scenes, frames=frames, size=made_size, seed=seed)
    with whole_folder(out, force=force) as unfinished, console.stages() as enter:
        enter("making scenes")
        try:
            generator = torch.Generator().manual_seed(seed)
            count, side = (20, 64) if textures is None else (200, 128)
            assets = load_assets(textures, panoramas, meshes, count, side, generator)
            write[layout](unfinished, toy_options, assets)
        except ValueError as error:
            raise NpsError(str(error), hint=_OTHER) from error
    console.info(f"wrote {out}")
    console.info(f"next: nps data check {options.quoted(out)}")


@data.command()
def sheet(
    out: Annotated[Path, options.out_option("FILE", "The .png picture to write.")],
    textures: options.Textures = None,
    panoramas: options.Panoramas = None,
    meshes: options.Meshes = None,
    count: Annotated[int, typer.Option(min=1, max=200, metavar="N", help="Worlds.")] = 12,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of each photo.")] = "192x192",
    difficulty: Annotated[
        float,
        typer.Option(min=0, max=1, metavar="D", help="0: close together; 1: far apart and turned."),
    ] = 0.5,
    artifacts: Annotated[
        float, typer.Option(min=0, max=1, metavar="A", help="How careless the photographer is.")
    ] = 0.7,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> None:
    """Show the worlds that training learns from: pairs of photos, depth, what both show."""
    shown_size = options.parse_size(size)
    from nps_cli.output import check_outputs, check_suffix

    check_suffix(out, (".png",))
    pictures = [file for folder in (textures, panoramas) if folder for file in folder.iterdir()]
    check_outputs(out, inputs=[meshes, *pictures], force=force)
    import torch

    from models.data.sheet import make_sheet
    from models.data.textures import load_assets
    from nps_cli.formats.video import write_png
    from nps_cli.output import whole_file

    generator = torch.Generator().manual_seed(seed)
    with whole_file(out, force=force) as unfinished, console.stages() as enter:
        enter("making worlds")
        try:
            assets = load_assets(textures, panoramas, meshes, 400, min(shown_size), generator)
        except ValueError as error:
            raise NpsError(str(error), hint=_OTHER) from error
        picture, shown = make_sheet(assets, count, shown_size, difficulty, artifacts, generator)
        write_png(picture, unfinished)
    rows = [
        (each.kind, f"{each.overlap:.2f}", f"{each.baseline:.2f}", f"{each.turn_deg:.0f}")
        for each in shown
    ]
    console.print_table("", ("world", "overlap", "baseline over depth", "degrees turned"), rows)
    console.info(f"wrote {out}: two photos, depth of the first, what the second shows of it")


@data.command()
def convert(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER",
            exists=True,
            file_okay=False,
            help="Where scenes are, at any depth: folders with a transforms.json (nerfstudio, "
            "DL3DV) or a COLMAP model.",
        ),
    ],
    out: Annotated[Path, options.out_option("DIR", "The data set to write a stage of.")],
    stage: Annotated[
        Literal["train", "test"], typer.Option(help="What the scenes are for.")
    ] = "train",
    images: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
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
        options.existing_file(
            "Leave out scenes whose key, or its last part, is a line of this file."
        ),
    ] = None,
    gap: Annotated[
        int,
        typer.Option(
            metavar="FRAMES",
            min=2,
            help="With --stage test: how far apart are the two frames that evaluation.json shows; "
            "three between them are to be predicted.",
        ),
    ] = 20,
    force: options.Force = False,
    quiet: options.Quiet = False,
) -> None:
    """Turn folders of posed images into `.torch` chunks; those of tests with an index."""
    console.set_verbosity(quiet=quiet)
    from models.data.chunks import write_chunks
    from models.data.folders import ConversionOptions
    from models.data.report import Report
    from models.data.sampling import make_evaluation_index
    from nps_cli.output import check_outputs, naming_finished, whole_file, whole_folder

    index = out / INDEX if stage == "test" else None
    check_outputs(
        index if out.is_dir() else None,
        folder=out / stage if out.is_dir() else out,
        inputs=[*folders, exclude],
        force=force,
    )
    found, report = _find(folders, exclude), Report()
    there = out.is_dir()  # perhaps with the other stage in it
    with whole_folder(out / stage if there else out, force=force) as unfinished:
        folder = unfinished if there else unfinished / stage
        folder.mkdir(exist_ok=True)
        conversion = ConversionOptions(images, short_side or None, undistort)
        frames = write_chunks(_read(found, report, conversion), folder)
        written = {path.name for path in folder.iterdir()}
        if not frames:
            raise NpsError(f"No scene can be used: {report.lines()[1]}", hint="Correct the folder.")
    for path in (out / stage).glob("*.torch"):
        if path.name not in written:  # of an older, longer data set
            path.unlink()
    if index is not None:
        with naming_finished([out / stage]), whole_file(index, force=force) as unfinished:
            unfinished.write_text(
                dumps(make_evaluation_index(frames, gap), indent=1) + "\n", encoding="utf-8"
            )
    if report.skipped or report.notes:
        for line in report.lines():
            console.warning(line)
    console.info(f"wrote {len(frames)} of {len(found)} scenes to {out / stage}")
    console.info(f"next: nps data check {options.quoted(out)}")


@data.command()
def check(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            exists=True,
            help="A data set of chunks, a folder like ScanNet-1500's, or one with a pairs.json.",
        ),
    ],
    index: Annotated[
        Path | None,
        options.existing_file(
            "Check the pairs that this evaluation index names, rather than everything."
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
    from models.data.check import check_dataset
    from models.data.report import Report

    report = Report()
    with console.stages() as enter:
        try:
            for step in check_dataset(path, index, dataset, report, whole=whole):
                enter(f"checking {step}")
        except ValueError as error:
            hint = "`nps data check --help` says what it takes."
            raise NpsError(str(error), hint=hint) from error
    if json:
        console.print_json(report.to_dict())
    else:
        console.print_result("\n".join(report.lines()))
    if report.skipped:
        raise typer.Exit(EXIT_UNTRUSTED)


def _find(folders: list[Path], exclude: Path | None) -> "list[SceneFolder]":
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


def _read(
    found: "list[SceneFolder]", report: "Report", conversion: "ConversionOptions"
) -> "Iterator[Scene]":
    from models.data.folders import read_folder

    with console.progress("converting", len(found)) as advance:
        for folder in found:
            try:
                yield read_folder(folder, report, conversion)
            except ValueError as error:
                report.skip("scene", folder.key, str(error))
            advance()
