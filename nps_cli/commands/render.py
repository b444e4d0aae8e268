"""`nps render`: a scene and a path to pictures or a video."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nps_cli import console, options
from nps_cli.video import FPS, FRAMES, Motion, check_film, film, plan

if TYPE_CHECKING:
    from models.geometry.gaussians import Gaussians
    from nps_cli.formats.provenance import SceneCamera


def render(
    scene: Annotated[
        Path, typer.Argument(metavar="SCENE", help="A .ply, .spz or .splat file, or - for stdin.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE|DIR",
            help=".mp4, .webm, .gif, .png for one picture, or a folder for a .png per frame.",
        ),
    ],
    path: Annotated[
        str,
        typer.Option(
            metavar="orbit|wiggle|dolly|spiral|interpolate|FILE.json",
            help="How the camera moves; a pose document gives one frame per view.",
        ),
    ] = "orbit",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="WxH",
            show_default=False,
            help="Width and height in pixels. Default: the first photo's shape, 768 at the most.",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=100_000,
            show_default=False,
            help=f"How many frames. Default: {FRAMES}.",
        ),
    ] = None,
    fps: Annotated[
        float, typer.Option(metavar="F", min=1, max=240, help="Frames per second.")
    ] = FPS,
    depth: Annotated[bool, typer.Option("--depth", help="Show depth instead of color.")] = False,
    device: options.Device = "auto",
    force: options.Force = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    json: options.Json = False,
) -> None:
    """Draw a scene along a camera path: a video, or pictures."""
    console.set_verbosity(quiet=quiet, verbose=verbose)
    wanted_size, motion = _parse_size(size), _parse_path(path)
    from nps_cli.device import pick_device
    from nps_cli.formats import load_scene
    from nps_cli.formats.poses import read_poses
    from nps_cli.reconstruction import check_outputs

    given = read_poses(Path(path)) if motion is Motion.given else []
    count = _count_frames(frames, len(given), out)
    check_film(out, count, wanted_size or (2, 2))
    check_outputs(out if out.suffix else None, folder=None if out.suffix else out, force=force)
    with console.stages() as stage:
        stage("loading the scene")
        gaussians, comments = load_scene(scene)
        cameras = given or _cameras(gaussians, comments)
        gaussians = gaussians.to(pick_device(device))
        chosen_size = wanted_size or _default_size(cameras[0])
        trajectory = plan(gaussians, cameras, motion, chosen_size, count)
    film(gaussians, trajectory, out, fps=fps, depth=depth, force=force)
    height, width = chosen_size
    console.info(f"wrote {out} ({count} frames, {width} x {height})")
    if json:
        console.print_json(
            {"out": str(out), "frames": count, "width": width, "height": height, "fps": fps}
        )


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match or not all(8 <= int(side) <= 8192 for side in match.groups()):
        raise typer.BadParameter(
            f"{text!r} is not WIDTHxHEIGHT, each from 8 to 8192, such as 1280x720.",
            param_hint="--size",
        )
    return int(match[2]), int(match[1])


def _parse_path(text: str) -> Motion:
    if text.endswith(".json"):
        return Motion.given
    if text == Motion.given or text not in list(Motion):
        named = ", ".join(motion for motion in Motion if motion is not Motion.given)
        raise typer.BadParameter(
            f"{text!r} is none of {named}, and no .json file.",
            param_hint="--path",
        )
    return Motion(text)


def _count_frames(wanted: int | None, given: int, out: Path) -> int:
    """One for a picture; as many as a pose document has; or the default."""
    if given:
        return min(given, wanted or given)
    return wanted or (1 if out.suffix.lower() == ".png" else FRAMES)


def _cameras(gaussians: "Gaussians", comments: list[str]) -> "list[SceneCamera]":
    from nps_cli.formats import guessed_camera, read_cameras

    cameras = read_cameras(comments)
    if not cameras:
        console.info("the scene names no photos: the camera is a guess")
        cameras = [guessed_camera(gaussians)]
    return cameras


def _default_size(camera: "SceneCamera") -> tuple[int, int]:
    from models.geometry.trajectory import video_size

    return video_size((camera.height, camera.width))
