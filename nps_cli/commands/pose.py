"""`nps pose`: photos to relative poses."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from models.options import POSES, Options, PoseMethod
from nps_cli import console, options
from nps_cli.errors import EXIT_UNTRUSTED, NpsError
from nps_cli.formats.video_reader import is_video

if TYPE_CHECKING:
    from nps_cli.reconstruction import Result

STDOUT = Path("-")
Format = Literal["json", "colmap", "nerfstudio"]
Method = Literal["auto", "matches", "network"]


def pose(
    photos: options.Photos,
    out: Annotated[
        Path, options.out_option("PATH", "A .json file, or - for stdout; a folder for colmap.")
    ] = STDOUT,
    format: Annotated[
        Format,
        typer.Option(
            help="A pose document; cameras.txt, images.txt and points3D.txt; or transforms.json."
        ),
    ] = "json",
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also a picture of matches, epipolar lines, cameras and points: .png.",
        ),
    ] = None,
    report: options.Report = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    crop: options.Crop = None,
    focal_35mm: options.Focal35mm = None,
    fov: options.Fov = None,
    intrinsics: options.Intrinsics = None,
    stereo: options.Stereo = False,
    method: Annotated[
        Method,
        typer.Option(
            help="What the photos have in common; or the network's centers, aligned with the "
            "photos; auto: both where matches are few, and the better one wins."
        ),
    ] = "auto",
    refine: options.Refine = True,
    resolution: options.Resolution = POSES.resolution,
    seed: options.Seed = POSES.seed,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Find where the photos were taken."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    if method == "matches" and not refine:
        raise typer.BadParameter("--no-refine leaves no matches.", param_hint="--method")
    options.check_report(report)
    from nps_cli.pick import files_of, two_or_three_files

    read = [*files_of(photos), intrinsics, weights]
    _check(read, out, format, plot, report, json, force)
    if format != "json" and is_video(photos[0]):
        raise NpsError(
            f"A {format} model names its photos, and frames of a video are no files.",
            hint=f"Try: nps pick {options.quoted(*photos)} -o frames, and then nps pose frames",
        )
    from nps_cli.formats.colmap import check_model, fit_text, image_names
    from nps_cli.reconstruction import load_for, reconstruct_photos
    from nps_cli.weights.networks import NetworkChoice

    given = options.given_intrinsics(focal_35mm, fov, intrinsics)
    choice = NetworkChoice(weights, device, precision, crop)
    pose_method = PoseMethod.photometric if method == "network" else PoseMethod(method)
    run = Options(pose_method if refine else PoseMethod.pnp, resolution, seed)
    with two_or_three_files(photos) as files:
        if format == "colmap" and fit_text(image_names(files)):
            check_model(out)
        result = reconstruct_photos(
            files,
            given,
            partial(load_for, choice, run),
            run,
            poses_only=True,
            side_by_side=stereo,
        )
    found = {pair.method for pair in result.reconstruction.pairs}
    if method == "matches" and PoseMethod.matches not in found:
        raise NpsError(
            "The photos' matches do not tell where they were taken.",
            hint="Take photos that share more, or let the network guess with --method network.",
        )
    if format != "json" and len(result.photos) != len(files):
        raise NpsError(
            f"A stereo photo is one file, and {format} needs one for each of its two pictures.",
            hint="Leave out --format, or save its halves as files and give those.",
        )
    _write(result, files, out, format, plot, report, json, force)
    again = options.repeated(
        {
            "--weights": weights,
            "--crop": crop,
            "--focal-35mm": focal_35mm,
            "--fov": fov,
            "--intrinsics": intrinsics,
            "--stereo": stereo,
        }
    )
    console.info(
        f"next: nps reconstruct {options.quoted(*photos)}{again} -o {options.unused('scene.ply')}"
    )
    if result.reconstruction.problems:
        raise typer.Exit(EXIT_UNTRUSTED)


def _check(
    read: list[Path | str | None],
    out: Path,
    format: Format,
    plot: Path | None,
    report: Path | None,
    json: bool,
    force: bool,
) -> None:
    """Refuse what could not be written, before any work."""
    from nps_cli.formats.poses import POSE_SUFFIXES
    from nps_cli.output import check_outputs, check_suffix

    if out == STDOUT and format == "colmap":
        raise typer.BadParameter("COLMAP's model is a folder: name one.", param_hint="--out")
    if out == STDOUT and format == "nerfstudio" and json:
        raise typer.BadParameter("stdout cannot take both the poses and the report of --json.")
    if plot is not None:
        check_suffix(plot, (".png",))
    file = None if out == STDOUT or format == "colmap" else out
    if file is not None:
        check_suffix(file, POSE_SUFFIXES)
    folder = out if format == "colmap" else None
    check_outputs(file, plot, report, folder=folder, inputs=read, force=force)


def _write(
    result: "Result",
    photos: list[Path],
    out: Path,
    format: Format,
    plot: Path | None,
    report: Path | None,
    json: bool,
    force: bool,
) -> None:
    from nps_cli.formats.colmap import image_names, write_colmap
    from nps_cli.formats.nerfstudio import file_paths, transforms
    from nps_cli.formats.poses import pose_document, write_poses
    from nps_cli.output import naming_finished

    reconstruction = result.reconstruction
    document = shown = pose_document(result.photos, reconstruction, result.weights)
    if format == "nerfstudio":
        shown = transforms(document, file_paths(photos, None if out == STDOUT else out))
    finished: list[Path] = []
    with naming_finished(finished):
        if format == "colmap":
            names = image_names(photos)
            write_colmap(document, names, result.photos, reconstruction, out, force=force)
        elif out != STDOUT:
            write_poses(shown, out, force=force)
        finished += [out] if out != STDOUT else []
        if plot is not None:
            from nps_cli.formats.plot import write_plot

            write_plot(document, result.photos, reconstruction, plot, force=force)
            finished.append(plot)
        if report is not None:
            from nps_cli.formats.report import write_report

            write_report(
                result.photos, reconstruction, result.weights, report, scene=False, force=force
            )
            finished.append(report)
        if json or out == STDOUT:
            console.print_json(document if json else shown)
    for written in finished:
        console.info(f"wrote {written}")
    turned = [photo.name for photo in result.photos if (photo.orientation or 1) != 1]
    if turned and format != "json":
        console.warning(
            f"{' and '.join(turned)}: stored turned, by EXIF; the poses are for the upright "
            "picture, so save it upright for programs that ignore EXIF."
        )
