"""Draws a scene along a path into a file, frame by frame."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from torch import Tensor

    from models.geometry.camera import Camera
    from models.geometry.gaussians import Gaussians
    from nps_cli.formats.provenance import SceneCamera

FRAMES, FPS = 96, 24.0
VIDEOS = (".mp4", ".webm", ".gif")
SUFFIXES = (*VIDEOS, ".png", "")


class Motion(StrEnum):
    """How the camera moves; `given` stops at each camera once."""

    orbit = "orbit"
    wiggle = "wiggle"
    dolly = "dolly"
    spiral = "spiral"
    interpolate = "interpolate"
    given = "given"


def check_film(out: Path, frames: int, size: tuple[int, int]) -> None:
    """Refuse, before any work, what the file's format cannot hold; size is (height, width)."""
    suffix = out.suffix.lower()
    if suffix not in SUFFIXES:
        raise NpsError(
            f"{out} ends in {out.suffix}, which nps cannot write.",
            hint="Use .mp4, .webm, .gif, .png, or a folder's name for a picture per frame.",
        )
    if suffix == ".png" and frames != 1:
        raise NpsError(
            f"{out} is one picture, but there are {frames} frames.",
            hint="Use --frames 1, or a folder's name for a picture per frame.",
        )
    if suffix in (".mp4", ".webm") and (size[0] % 2 or size[1] % 2):
        raise NpsError(
            f"A video has even sides, not {size[1]} x {size[0]}.", hint="Choose another --size."
        )


def plan(
    gaussians: "Gaussians",
    cameras: "Sequence[SceneCamera]",
    motion: Motion,
    size: tuple[int, int],
    frames: int,
) -> "Camera":
    """Choose a camera per frame, with the photos' fields of view fitted to the (height, width)."""
    from models.geometry.camera import Camera, stack_cameras
    from models.geometry.trajectory import (
        dolly,
        interpolate,
        orbit,
        scene_center,
        spiral,
        wiggle,
    )

    if motion is Motion.interpolate and len(cameras) < 2:
        raise NpsError(
            "The scene names no two photos to move between.", hint="Use --path orbit instead."
        )
    photos = stack_cameras(
        [
            Camera(camera.intrinsics, camera.world2cam, (camera.height, camera.width)).framed(size)
            for camera in cameras
        ]
    )
    center = scene_center(gaussians, photos)
    match motion:
        case Motion.orbit:
            return orbit(photos, center, frames)
        case Motion.wiggle:
            return wiggle(photos, center, frames)
        case Motion.dolly:
            return dolly(photos, center, frames)
        case Motion.spiral:
            return spiral(photos, center, frames)
        case Motion.interpolate:
            return interpolate(photos, center, frames)
        case Motion.given:
            return photos[:frames]


def film(
    gaussians: "Gaussians",
    path: "Camera",
    out: Path,
    *,
    fps: float = FPS,
    depth: bool = False,
    force: bool = False,
) -> None:
    """Draw every frame and write .mp4, .webm, .gif, .png or, without a suffix, a folder of .png."""
    from nps_cli.formats.video import write_gif, write_mp4, write_png, write_pngs, write_webm
    from nps_cli.output import whole_file, whole_folder

    frames = _render(gaussians, path, depth)
    if not out.suffix:
        with whole_folder(out, force=force) as folder:
            write_pngs(frames, folder)
        return
    with whole_file(out, force=force) as file:
        match out.suffix.lower():
            case ".mp4":
                write_mp4(frames, file, fps)
            case ".webm":
                write_webm(frames, file, fps)
            case ".gif":
                write_gif(frames, file, fps)
            case ".png":
                (frame,) = frames
                write_png(frame, file)


def _render(gaussians: "Gaussians", path: "Camera", depth: bool) -> "Iterator[Tensor]":
    import torch

    from models.geometry.colormap import color_depth, depth_range
    from models.geometry.rigid import transform_points
    from models.render import render
    from models.render.supersampling import render_supersampled, required_supersampling

    path = path.to(gaussians.means.device)
    near, far = depth_range(transform_points(gaussians.means, path[0].world2cam)[:, 2])
    factor = required_supersampling(gaussians, path[0])
    with torch.inference_mode(), console.progress("rendering", len(path)) as advance:
        for camera in path:
            if depth:
                rendering = render(gaussians, camera)
                expected = rendering.depth / rendering.alpha.clamp(min=1e-6)
                yield color_depth(expected * (rendering.alpha > 0.5), near, far)
            else:
                yield render_supersampled(gaussians, camera, factor)
            advance()
