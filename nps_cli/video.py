"""Render a scene along a camera path into a file, frame by frame."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli import console
from nps_cli.errors import NpsError, UsageError
from nps_cli.formats.video import VIDEO_WRITERS, write_png, write_pngs
from nps_cli.output import whole_file, whole_folder

if TYPE_CHECKING:
    from torch import Tensor

    from models.geometry.camera import Camera
    from models.geometry.gaussians import Gaussians

DEFAULT_FRAMES, DEFAULT_FPS = 96, 24.0
MOTIONS = ("orbit", "wiggle", "dolly", "spiral", "interpolate")  # functions of `trajectory`
VIDEO_SUFFIXES = tuple(VIDEO_WRITERS)
IMAGE_SUFFIX = ".png"


def check_video_format(out: Path) -> None:
    """Raise UsageError if no video or picture can be written under this name."""
    if out.suffix.lower() not in (*VIDEO_SUFFIXES, IMAGE_SUFFIX, ""):
        kinds = ", ".join((*VIDEO_SUFFIXES, IMAGE_SUFFIX))
        raise UsageError(
            f"{out} ends in {out.suffix}, which nps cannot write.",
            hint=f"Use {kinds}, or a folder's name for a picture per frame.",
        )


def check_video(out: Path, frames: int, size: tuple[int, int]) -> None:
    """Raise NpsError if a video, a .png or a folder cannot hold frames of this number and size."""
    suffix = out.suffix.lower()
    if suffix == IMAGE_SUFFIX and frames != 1:
        raise NpsError(
            f"{out} is one picture, but there are {frames} frames.",
            hint="Use --frames 1, or a folder's name for a picture per frame.",
        )
    if suffix in (".mp4", ".webm") and (size[0] % 2 or size[1] % 2):
        raise NpsError(
            f"A video has even sides, not {size[1]} x {size[0]}.", hint="Choose another --size."
        )


def plan_cameras(
    gaussians: "Gaussians",
    cameras: "Sequence[Camera]",
    motion: str | None,
    size: tuple[int, int],
    frames: int,
) -> "Camera":
    """Return a batch with the camera of every frame, by one of `MOTIONS` around the scene's center.

    Without a motion it stops at each of `cameras` once. Their fields of view are cropped to the
    aspect of `size`. Raises NpsError if there is no second camera to move to.
    """
    from models.geometry import trajectory
    from models.geometry.camera import stack_cameras

    if motion == "interpolate" and len(cameras) < 2:
        raise NpsError(
            "The scene names no two photos to move between.", hint="Use --path orbit instead."
        )
    photos = stack_cameras([camera.framed(size) for camera in cameras])
    if motion is None:
        return photos[:frames]
    center = trajectory.scene_center(gaussians, photos)
    move: Callable[..., Camera] = getattr(trajectory, motion)
    return move(photos, center, frames)


def render_to_file(
    gaussians: "Gaussians",
    cameras: "Camera",
    out: Path,
    *,
    fps: float = DEFAULT_FPS,
    depth: bool = False,
    force: bool = False,
) -> None:
    """Render a frame per camera, color or depth, and write them whole or not at all.

    They become a video of `fps` frames per second, a .png or, without a suffix, a folder of .png.
    """
    frames = _render_frames(gaussians, cameras, depth)
    suffix = out.suffix.lower()
    if not suffix:
        with whole_folder(out, force=force) as folder:
            write_pngs(frames, folder)
        return
    with whole_file(out, force=force) as file:
        if suffix == IMAGE_SUFFIX:
            (frame,) = frames
            write_png(frame, file)
        else:
            VIDEO_WRITERS[suffix](frames, file, fps)


def _render_frames(gaussians: "Gaussians", cameras: "Camera", depth: bool) -> "Iterator[Tensor]":
    import torch

    from models.geometry.colormap import color_depth, depth_range
    from models.geometry.rigid import transform_points
    from models.render import render
    from models.render.supersampling import render_supersampled, required_supersampling

    cameras = cameras.to(gaussians.means.device)
    near, far = depth_range(transform_points(gaussians.sample().means, cameras[0].world2cam)[:, 2])
    factor = required_supersampling(gaussians, cameras[0])
    with torch.inference_mode(), console.progress("rendering", len(cameras)) as advance:
        for camera in cameras:
            if depth:
                rendering = render(gaussians, camera)
                expected = rendering.depth / rendering.alpha.clamp(min=1e-6)
                yield color_depth(expected * (rendering.alpha > 0.5), near, far)
            else:
                yield render_supersampled(gaussians, camera, factor)
            advance()
