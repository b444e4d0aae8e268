"""`nps reconstruct`: photos to a scene file, and more from the same run."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.options import SCENE, Options, PoseMethod
from nps_cli import console, options
from nps_cli.errors import EXIT_UNTRUSTED
from nps_cli.formats import WRITABLE, is_readable
from nps_cli.video import VIDEO_SUFFIXES

if TYPE_CHECKING:
    from nps_cli.reconstruction import Result

STDOUT = Path("-")


def reconstruct(
    photos: options.Photos,
    out: Annotated[
        list[Path],
        options.out_option(
            "FILE",
            f"The scene: {console.either(*WRITABLE)}; - for stdout. Repeat for more formats.",
        ),
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
    polish: options.Polish = False,
    seed: options.Seed = SCENE.seed,
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Turn two or three photos into a scene of 3D Gaussians."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    if STDOUT in out and json:
        raise typer.BadParameter("stdout cannot take both the scene and the report of --json.")
    if out.count(STDOUT) > 1:
        raise typer.BadParameter("stdout takes one scene.", param_hint="--out")
    options.check_report(report)
    _check_suffixes(out, video, poses)
    from nps_cli.output import check_outputs
    from nps_cli.pick import files_of, two_or_three_files
    from nps_cli.reconstruction import load_for, reconstruct_photos
    from nps_cli.weights.networks import NetworkChoice

    scenes = [path for path in out if path != STDOUT]
    read = [*files_of(photos), intrinsics, weights]
    check_outputs(*scenes, video, poses, report, folder=depth, inputs=read, force=force)
    given = options.given_intrinsics(focal_35mm, fov, intrinsics)
    choice = NetworkChoice(weights, device, precision, crop)
    run = Options(PoseMethod.matches if refine else PoseMethod.pnp, resolution, seed, polish)
    with two_or_three_files(photos) as files:
        load = partial(load_for, choice, run)
        result = reconstruct_photos(files, given, load, run, side_by_side=stereo)
    wanted = {"poses": poses, "depth": depth, "video": video, "report": report}
    more = {kind: path for kind, path in wanted.items() if path is not None}
    _write(result, out, more, force)
    _say_what_next(result, scenes, more)
    if json:
        console.print_json(_report(result, out, more))
    if result.reconstruction.problems:
        raise typer.Exit(EXIT_UNTRUSTED)


def _check_suffixes(scenes: list[Path], video: Path | None, poses: Path | None) -> None:
    """Raise UsageError for names that no output can have."""
    from nps_cli.formats import check_format
    from nps_cli.formats.poses import POSE_SUFFIXES
    from nps_cli.output import check_suffix

    for path in scenes:
        check_format(path)
    if video is not None:
        check_suffix(video, VIDEO_SUFFIXES)
    if poses is not None:
        check_suffix(poses, POSE_SUFFIXES)


def _write(result: "Result", scenes: list[Path], more: dict[str, Path], force: bool) -> None:
    """Write all outputs, stdout's last; an NpsError names those that are written already."""
    from models.geometry.trajectory import video_size
    from nps_cli.formats import save_scene
    from nps_cli.formats.depths import write_depths
    from nps_cli.formats.poses import pose_document, write_poses
    from nps_cli.output import naming_finished
    from nps_cli.video import DEFAULT_FRAMES, plan_cameras, render_to_file

    reconstruction, gaussians = result.reconstruction, result.reconstruction.gaussians
    finished: list[Path] = []
    with naming_finished(finished):
        if "poses" in more:
            document = pose_document(result.photos, reconstruction, result.weights)
            write_poses(document, more["poses"], force=force)
            finished.append(more["poses"])
        if "depth" in more:
            write_depths(reconstruction.depths, more["depth"], force=force)
            finished.append(more["depth"])
        if "video" in more:
            photos = [photo.camera for photo in result.cameras]
            size = video_size(photos[0].size)
            orbit = plan_cameras(gaussians, photos, "orbit", size, DEFAULT_FRAMES)
            render_to_file(gaussians, orbit, more["video"], force=force)
            finished.append(more["video"])
        if "report" in more:
            from nps_cli.formats.report import write_report

            page = more["report"]
            write_report(
                result.photos, reconstruction, result.weights, page, scene=True, force=force
            )
            finished.append(page)
        for scene in sorted(scenes, key=lambda path: path == STDOUT):
            save_scene(gaussians, scene, result.cameras, result.weights, force=force)
            finished.append(scene)


def _report(result: "Result", scenes: list[Path], more: dict[str, Path]) -> dict[str, Any]:
    from nps_cli.formats.poses import pose_document

    document = pose_document(result.photos, result.reconstruction, result.weights)
    first, *others = map(str, scenes)
    return {
        "outputs": {"scene": first, **{kind: str(path) for kind, path in more.items()}}
        | ({"more_scenes": others} if others else {}),
        "gaussians": len(result.reconstruction.gaussians),
        "seconds": round(result.seconds, 3),
        **{key: document[key] for key in ("weights", "views", "pairs", "problems")},
    }


def _say_what_next(result: "Result", scenes: list[Path], more: dict[str, Path]) -> None:
    for path in scenes:
        console.info(f"wrote {path} ({len(result.reconstruction.gaussians):,} Gaussians)")
    for path in more.values():
        console.info(f"wrote {path}")
    readable = next((path for path in scenes if is_readable(path)), None)
    if readable is not None:
        kind, video = ("interpolate", "between") if "video" in more else ("orbit", "orbit")
        film = options.unused(f"{video}.mp4")
        console.info(
            f"next: nps render {options.quoted(readable)} --path {kind} -o {options.quoted(film)}"
        )
