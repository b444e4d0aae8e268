"""`nps render`: a scene and a path to pictures or a video."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nps_cli import console, options
from nps_cli.video import DEFAULT_FPS, DEFAULT_FRAMES, IMAGE_SUFFIX, MOTIONS, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from models.geometry.camera import Camera
    from models.geometry.gaussians import Gaussians

MIN_SIDE_PX, MAX_SIDE_PX = 8, 8192


def render(
    scene: options.Scene,
    out: Annotated[
        Path,
        options.out_option(
            "FILE|DIR",
            f"{', '.join(VIDEO_SUFFIXES)}, {IMAGE_SUFFIX} for one picture, or a folder for a "
            "picture per frame.",
        ),
    ],
    path: Annotated[
        str,
        typer.Option(
            metavar="|".join([*MOTIONS, "FILE.json"]),
            help="How the camera moves; a pose document, transforms.json or cameras.json gives one "
            "frame per view.",
        ),
    ] = MOTIONS[0],
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            help="Width and height in pixels. Default: the first photo's shape, 768 at the most.",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=100_000, help=f"How many frames. Default: {DEFAULT_FRAMES}."
        ),
    ] = None,
    fps: Annotated[
        float, typer.Option(metavar="F", min=1, max=240, help="Frames per second.")
    ] = DEFAULT_FPS,
    depth: Annotated[bool, typer.Option("--depth", help="Show depth instead of color.")] = False,
    no_guesses: options.NoGuesses = False,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Render a scene along a camera path: a video, or pictures."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    wanted_size = size and options.parse_size(size, limits_px=(MIN_SIDE_PX, MAX_SIDE_PX))
    if path not in MOTIONS and not path.endswith(".json"):
        problem = f"{path!r} is none of {', '.join(MOTIONS)}, and no .json file."
        raise typer.BadParameter(problem, param_hint="--path")
    from models.geometry.trajectory import video_size
    from nps_cli.device import pick_device, with_cpu_to_fall_back_on
    from nps_cli.formats import load_scene
    from nps_cli.formats.poses import read_poses
    from nps_cli.output import check_outputs
    from nps_cli.video import check_video, check_video_format, plan_cameras, render_to_file

    check_video_format(out)
    check_outputs(
        out if out.suffix else None,
        folder=None if out.suffix else out,
        inputs=[scene, path],
        force=force,
    )
    motion = path if path in MOTIONS else None
    given = [] if motion else read_poses(Path(path))
    count = _count_frames(frames, len(given), out)
    check_video(out, count, wanted_size or (2, 2))
    with console.stages() as stage:
        stage("loading the scene")
        gaussians, comments = load_scene(scene, guesses=not no_guesses)
        cameras = given or _cameras(gaussians, comments)
        height, width = wanted_size or video_size(cameras[0].size)
        planned = plan_cameras(gaussians, cameras, motion, (height, width), count)
    with_cpu_to_fall_back_on(
        device,
        lambda place: render_to_file(
            gaussians.to(pick_device(place)), planned, out, fps=fps, depth=depth, force=force
        ),
    )
    console.info(f"wrote {out} ({count} frames, {width} x {height})")
    if json:
        console.print_json(
            {"out": str(out), "frames": count, "width": width, "height": height, "fps": fps}
        )


def _count_frames(wanted: int | None, given: int, out: Path) -> int:
    """Return the number of frames: `given` cameras at most, one for a picture, or the default."""
    if given:
        return min(given, wanted or given)
    return wanted or (1 if out.suffix.lower() == IMAGE_SUFFIX else DEFAULT_FRAMES)


def _cameras(gaussians: "Gaussians", comments: list[str]) -> "list[Camera]":
    from models.geometry.trajectory import guess_camera
    from nps_cli.formats import read_cameras

    cameras = [photo.camera for photo in read_cameras(comments)]
    if not cameras:
        console.info("the scene names no photos: the camera is a guess")
        cameras = [guess_camera(gaussians)]
    return cameras
