"""`nps pose`: photos to relative poses."""

from pathlib import Path
from typing import Annotated

import typer

from nps_cli import console, options
from nps_cli.errors import EXIT_UNTRUSTED


def pose(
    photos: options.Photos,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="A .json file, or - for stdout.")
    ] = Path("-"),
    weights: options.Weights = None,
    device: options.Device = "auto",
    focal_35mm: options.Focal35mm = None,
    fov: options.Fov = None,
    intrinsics: options.Intrinsics = None,
    refine: options.Refine = True,
    resolution: options.Resolution = 512,
    seed: options.Seed = 0,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Find where the photos were taken, as a pose document (JSON)."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    from nps_cli.formats.poses import pose_document, write_poses
    from nps_cli.loading import check_outputs, reconstruct_photos

    to_stdout = str(out) == "-"
    check_outputs(None if to_stdout else out, force=force)
    given = options.given_intrinsics(focal_35mm, fov, intrinsics)
    result = reconstruct_photos(photos, given, weights, device, refine, resolution, seed)
    document = pose_document(result.photos, result.reconstruction, result.weights)
    if to_stdout or json:
        console.emit_json(document)
    if not to_stdout:
        write_poses(document, out, force=force)
        console.say(f"wrote {out}")
    console.say(f"next: nps reconstruct {options.quoted(*photos)} -o scene.ply")
    if result.reconstruction.problems:
        raise typer.Exit(EXIT_UNTRUSTED)
