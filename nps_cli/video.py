"""Draws a scene along a path into a file, frame by frame."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from torch import Tensor

    from models.geometry.gaussians import Gaussians
    from models.geometry.trajectory import Trajectory
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
) -> "Trajectory":
    """Choose a camera per frame, with the photos' fields of view fitted to the (height, width)."""
    import torch

    from models.geometry.trajectory import (
        Trajectory,
        dolly,
        frame_intrinsics,
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
    world2cam = torch.stack([camera.world2cam for camera in cameras])
    intrinsics = torch.stack(
        [
            frame_intrinsics(camera.intrinsics, (camera.height, camera.width), size)
            for camera in cameras
        ]
    )
    center = scene_center(gaussians, world2cam)
    match motion:
        case Motion.orbit:
            return orbit(world2cam, intrinsics[0], center, frames)
        case Motion.wiggle:
            return wiggle(world2cam, intrinsics[0], center, frames)
        case Motion.dolly:
            return dolly(world2cam, intrinsics[0], center, frames)
        case Motion.spiral:
            return spiral(world2cam, intrinsics[0], center, frames)
        case Motion.interpolate:
            return interpolate(world2cam, intrinsics, center, frames)
        case Motion.given:
            return Trajectory(world2cam[:frames], intrinsics[:frames])


def film(
    gaussians: "Gaussians",
    path: "Trajectory",
    size: tuple[int, int],
    out: Path,
    *,
    fps: float = FPS,
    depth: bool = False,
    force: bool = False,
) -> None:
    """Draw every frame and write .mp4, .webm, .gif, .png or, without a suffix, a folder of .png."""
    from nps_cli.formats.video import write_gif, write_mp4, write_png, write_pngs, write_webm
    from nps_cli.output import whole_file, whole_folder

    frames = _draw(gaussians, path, size, depth)
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


def _draw(
    gaussians: "Gaussians", path: "Trajectory", size: tuple[int, int], depth: bool
) -> "Iterator[Tensor]":
    import torch

    from models.geometry.colormap import color_depth, depth_range
    from models.geometry.rigid import transform_points
    from models.render import render
    from models.render.supersampling import detail_needed, draw_averaged

    poses, intrinsics = path.world2cam.to(gaussians.means), path.intrinsics.to(gaussians.means)
    near, far = depth_range(transform_points(gaussians.means, poses[0])[:, 2])
    detail = detail_needed(gaussians, poses[0], intrinsics[0], size)
    with torch.inference_mode(), console.progress("drawing", len(poses)) as advance:
        for world2cam, camera in zip(poses, intrinsics, strict=True):
            if depth:
                drawn = render(gaussians, world2cam, camera, size)
                expected = drawn.depth / drawn.alpha.clamp(min=1e-6)
                yield color_depth(expected * (drawn.alpha > 0.5), near, far)
            else:
                yield draw_averaged(gaussians, world2cam, camera, size, detail)
            advance()
