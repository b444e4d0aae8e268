"""`nps reconstruct`: photos to a scene file, and more from the same run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.options import SCENE, Options, PoseMethod
from nps_cli import console, options
from nps_cli.errors import EXIT_UNTRUSTED
from nps_cli.formats import WRITABLE
from nps_cli.video import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from nps_cli.reconstruction import Result

STDOUT = Path("-")


def reconstruct(
    photos: options.Photos,
    out: Annotated[
        Path, options.out_option("FILE", f"The scene: {console.either(*WRITABLE)}; - for stdout.")
    ],
    video: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Also an orbit: {console.either(*VIDEO_SUFFIXES)}."),
    ] = None,
    poses: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also the photos' poses: .json.")
    ] = None,
    depth: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also each photo's depth: .npy and .png.")
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
    refine: options.Refine = True,
    resolution: options.Resolution = SCENE.resolution,
    seed: options.Seed = SCENE.seed,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Turn two or three photos into a scene of 3D Gaussians."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    if out == STDOUT and json:
        raise typer.BadParameter("stdout cannot take both the scene and the report of --json.")
    if video is not None and video.suffix.lower() not in VIDEO_SUFFIXES:
        kinds = ", ".join(VIDEO_SUFFIXES)
        raise typer.BadParameter(f"{video} ends in none of {kinds}.", param_hint="--video")
    options.check_report(report)
    from nps_cli.formats import check_format
    from nps_cli.output import check_outputs
    from nps_cli.reconstruction import reconstruct_photos
    from nps_cli.weights.networks import NetworkChoice

    check_format(out)
    check_outputs(None if out == STDOUT else out, video, poses, report, folder=depth, force=force)
    given = options.given_intrinsics(focal_35mm, fov, intrinsics)
    choice = NetworkChoice(weights, device, precision, crop)
    run = Options(PoseMethod.matches if refine else PoseMethod.pnp, resolution, seed)
    result = reconstruct_photos(photos, given, choice, run, side_by_side=stereo)
    outputs = {"scene": out, "poses": poses, "depth": depth, "video": video, "report": report}
    written = {kind: path for kind, path in outputs.items() if path is not None}
    _write(result, written, force)
    if json:
        console.print_json(_report(result, written))
    _say_what_next(result, written)
    if result.reconstruction.problems:
        raise typer.Exit(EXIT_UNTRUSTED)


def _write(result: "Result", written: dict[str, Path], force: bool) -> None:
    from models.geometry.trajectory import video_size
    from nps_cli.formats import save_scene
    from nps_cli.formats.depths import write_depths
    from nps_cli.formats.poses import pose_document, write_poses
    from nps_cli.video import DEFAULT_FRAMES, plan_cameras, render_to_file

    reconstruction, gaussians = result.reconstruction, result.reconstruction.gaussians
    if "poses" in written:
        document = pose_document(result.photos, reconstruction, result.weights)
        write_poses(document, written["poses"], force=force)
    if "depth" in written:
        write_depths(reconstruction.depths, written["depth"], force=force)
    if "video" in written:
        photos = [photo.camera for photo in result.cameras]
        size = video_size(photos[0].size)
        orbit = plan_cameras(gaussians, photos, "orbit", size, DEFAULT_FRAMES)
        render_to_file(gaussians, orbit, written["video"], force=force)
    if "report" in written:
        from nps_cli.formats.report import write_report

        page = written["report"]
        write_report(result.photos, reconstruction, result.weights, page, scene=True, force=force)
    save_scene(gaussians, written["scene"], result.cameras, result.weights, force=force)


def _report(result: "Result", written: dict[str, Path]) -> dict[str, Any]:
    from nps_cli.formats.poses import pose_document

    document = pose_document(result.photos, result.reconstruction, result.weights)
    return {
        "outputs": {kind: str(path) for kind, path in written.items()},
        "gaussians": len(result.reconstruction.gaussians),
        "seconds": round(result.seconds, 3),
        **{key: document[key] for key in ("weights", "views", "pairs", "problems")},
    }


def _say_what_next(result: "Result", written: dict[str, Path]) -> None:
    count = f"{len(result.reconstruction.gaussians):,} Gaussians"
    for kind, path in written.items():
        if path != STDOUT:
            console.info(f"wrote {path}" + (f" ({count})" if kind == "scene" else ""))
    if written["scene"] != STDOUT:
        kind, video = ("interpolate", "between") if "video" in written else ("orbit", "orbit")
        scene = options.quoted(written["scene"])
        console.info(f"next: nps render {scene} --path {kind} -o {video}.mp4")
