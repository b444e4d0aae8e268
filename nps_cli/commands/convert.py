"""`nps convert`: a scene in another format, cropped, thinned, scaled or turned on the way."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nps_cli import console, options
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.geometry.gaussians import Gaussians
    from nps_cli.formats import SceneCamera

STDOUT = Path("-")


@dataclass(frozen=True)
class Edits:
    """Changes to a scene, applied in this order; None leaves it as it is."""

    box: tuple[float, ...] | None
    min_opacity: float | None
    max_gaussians: int | None
    scale: float
    up: str | None


def _parse_box(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        box = tuple(float(number) for number in text.split(","))
    except ValueError:
        box = ()
    if len(box) != 6 or not all(low < high for low, high in zip(box[:3], box[3:], strict=True)):
        raise typer.BadParameter(
            f"{text!r} is not X0,Y0,Z0,X1,Y1,Z1 with each 0 below its 1.", param_hint="--crop"
        )
    return box


def convert(
    scene: options.Scene,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="The new file; its format by suffix, or - for a .ply on stdout."
        ),
    ],
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="X0,Y0,Z0,X1,Y1,Z1", help="Keep what is in this box, in the scene's units."
        ),
    ] = None,
    min_opacity: Annotated[
        float | None,
        typer.Option(metavar="P", min=0, max=1, help="Leave out Gaussians of lower opacity."),
    ] = None,
    max_gaussians: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep the N with the most opacity times area."),
    ] = None,
    scale: Annotated[
        float, typer.Option(metavar="F", min=1e-6, max=1e6, help="Make the scene F times as large.")
    ] = 1.0,
    up: Annotated[
        Literal["x", "y", "z", "-x", "-y", "-z"] | None,
        typer.Option(help="Turn the scene's up, which is -y, to another axis: z for Blender."),
    ] = None,
    no_guesses: options.NoGuesses = False,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Write a scene in another format: .ply, .spz, .splat, .glb, .sog or .html."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    if out == STDOUT and json:
        raise typer.BadParameter("stdout cannot take both the scene and the report of --json.")
    edits = Edits(_parse_box(crop), min_opacity, max_gaussians, scale, up)
    from nps_cli.formats import check_format, load_scene, read_cameras, save_scene
    from nps_cli.formats.provenance import other_comments
    from nps_cli.output import check_outputs

    check_format(out)
    if out != STDOUT:
        check_outputs(out, inputs=[scene], force=force)
    gaussians, comments = load_scene(scene, guesses=not no_guesses)
    before = len(gaussians)
    gaussians, cameras = _edit(gaussians, read_cameras(comments), edits)
    if not len(gaussians):
        raise NpsError(
            f"None of the {before:,} Gaussians is left.",
            hint="Use a larger --crop or a smaller --min-opacity; `nps inspect` tells the bounds.",
        )
    save_scene(gaussians, out, cameras, comments=other_comments(comments), force=force)
    if out != STDOUT:
        console.info(f"wrote {out} ({len(gaussians):,} of {before:,} Gaussians)")
    if json:
        console.print_json({"out": str(out), "gaussians": len(gaussians), "before": before})


def _edit(
    gaussians: "Gaussians", cameras: "list[SceneCamera]", edits: Edits
) -> "tuple[Gaussians, list[SceneCamera]]":
    import torch

    from models.geometry.camera import transform_camera
    from models.geometry.gaussians import crop, keep_strongest, transform
    from models.geometry.rigid import turn_up_to

    if edits.box is not None:
        gaussians = crop(gaussians, torch.tensor(edits.box[:3]), torch.tensor(edits.box[3:]))
    if edits.min_opacity is not None:
        gaussians = gaussians.select(gaussians.opacities >= edits.min_opacity)
    if edits.max_gaussians is not None:
        gaussians = keep_strongest(gaussians, edits.max_gaussians)
    if edits.up is None and edits.scale == 1:
        return gaussians, cameras
    turn = turn_up_to(edits.up or "-y")
    moved = [
        replace(each, camera=transform_camera(each.camera, turn, edits.scale)) for each in cameras
    ]
    return transform(gaussians, turn, edits.scale), moved
