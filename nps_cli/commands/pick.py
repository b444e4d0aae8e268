"""`nps pick`: which photos of a folder, or frames of a video, to reconstruct from."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nps_cli import console, options
from nps_cli.errors import EXIT_UNTRUSTED

if TYPE_CHECKING:
    from nps_cli.pick import Choice

SHOWN_PAIRS = 5


def pick(
    photos: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER|VIDEO|PHOTO...",
            callback=options.many_photos,
            help="A folder, a video, a pattern in quotes, or two or more photos of one place.",
        ),
    ],
    out: Annotated[
        Path | None, options.out_option("DIR", "Also the chosen photos, or frames, as files.")
    ] = None,
    force: options.Force = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Choose the two or three photos to reconstruct from: sharp, overlapping, with parallax.

    `nps reconstruct` and `nps pose` choose the same.
    """
    console.set_verbosity(quiet=quiet)
    from nps_cli.output import check_outputs, whole_folder
    from nps_cli.pick import choose, files_of

    check_outputs(folder=out, inputs=files_of(photos), force=force)
    choice = choose(photos)
    if out is not None:
        with whole_folder(out, force=force) as folder:
            choice.write(folder)
        console.info(f"wrote {out} ({console.both(*choice.chosen)})")
    if json:
        console.print_json(_report(choice))
    else:
        _show(choice)
    if choice.problem:
        console.warning(choice.problem)
    if out is not None:
        chosen = [out / name for name in choice.chosen]
    elif choice.times_s:
        chosen = photos
    else:
        chosen = [choice.files[view] for view in choice.selection.views]
    scene = options.unused("scene.ply")
    console.info(f"next: nps reconstruct {options.quoted(*chosen)} -o {scene}")
    if choice.problem:
        raise typer.Exit(EXIT_UNTRUSTED)


def _report(choice: "Choice") -> dict[str, Any]:
    selection, times_s = choice.selection, choice.times_s
    entries = []
    for view, (name, sharpness) in enumerate(zip(choice.names, selection.sharpness, strict=True)):
        at = {"time_s": round(times_s[view], 6)} if times_s else {"file": str(choice.files[view])}
        entries.append({"name": name, **at, "sharpness": round(sharpness, 4)})
    pairs = [
        {
            "photos": [choice.names[pair.first], choice.names[pair.second]],
            "matches": pair.inliers,
            "overlap": round(pair.overlap, 4),
            "parallax_deg": round(math.degrees(pair.parallax), 3),
            "score": round(pair.score, 4),
        }
        for pair in selection.pairs
    ]
    problems = [choice.problem] if choice.problem else []
    return {
        "source": choice.source,
        "chosen": choice.chosen,
        "photos": entries,
        "pairs": pairs,
        "problems": problems,
    }


def _show(choice: "Choice") -> None:
    selection = choice.selection
    rows: list[tuple[object, ...]] = []
    for view in selection.views:
        at = (f"{choice.times_s[view]:.2f} s",) if choice.times_s else ()
        rows.append((choice.names[view], *at, f"{selection.sharpness[view]:.2f}"))
    columns = ("chosen", "time", "sharpness") if choice.times_s else ("chosen", "sharpness")
    console.print_table("", columns, rows)
    if not selection.pairs:
        return
    console.print_result("")
    console.print_table(
        "",
        ("best pairs", "", "matches", "overlap", "parallax", "score"),
        [
            (
                choice.names[pair.first],
                choice.names[pair.second],
                pair.inliers,
                f"{pair.overlap:.0%}",
                f"{math.degrees(pair.parallax):.1f} deg",
                f"{pair.score:.2f}",
            )
            for pair in selection.pairs[:SHOWN_PAIRS]
        ],
    )
