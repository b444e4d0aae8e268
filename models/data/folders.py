"""Conversion of folders of posed images (nerfstudio, COLMAP, DL3DV) to scenes for chunks."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from models.data import colmap, nerfstudio
from models.data.posed_images import PosedImage, undistort
from models.data.report import Report
from models.data.scenes import Scene, decode, encode_jpeg, read_encoded, read_size
from models.geometry.camera import Camera
from models.geometry.checks import find_bad_cameras

_SMALLER_FOLDERS = "images_4", "images_8", "images_2"  # DL3DV comes with one, without the full


@dataclass(frozen=True)
class SceneFolder:
    """A folder with images, and the file or folder that holds their cameras."""

    key: str
    folder: Path
    cameras: Path


def find_folders(root: Path) -> list[SceneFolder]:
    """Find all folders of posed images at and below one; keys are paths relative to it.

    A transforms.json comes before a COLMAP model (`sparse/0`, `sparse`, `colmap/sparse/0` or the
    folder itself).
    """
    found = []
    for name, folders, _ in os.walk(root):
        folder = Path(name)
        cameras = _find_cameras(folder)
        if cameras is not None:
            key = root.resolve().name if folder == root else folder.relative_to(root).as_posix()
            found.append(SceneFolder(key, folder, cameras))
            folders.clear()
        folders[:] = [each for each in folders if not each.startswith(("images", "."))]
    return sorted(found, key=lambda scene: _natural_key(scene.key))


@dataclass(frozen=True)
class ConversionOptions:
    """Options of the conversion of images."""

    images: str | None = None  # folder inside the scene's, in place of the stated one
    short_side: int | None = None  # shrink until this is the shorter side; smaller ones stay
    undistort: bool = True  # undo the distortion of lenses


def read_folder(scene: SceneFolder, report: Report, options: ConversionOptions) -> Scene:
    """Read a folder's images, in order of their names, and their cameras.

    Args:
        scene: Where it is.
        report: Grows by "frame"s used and skipped, and by notes.
        options: Images that need not change are copied byte by byte.

    Raises:
        ValueError: If it has no two frames that can be used, or cannot be read at all.
    """
    if scene.cameras.is_dir():
        posed, root_of_images = colmap.read_model(scene.cameras), scene.folder / "images"
    else:
        posed, root_of_images = nerfstudio.read_transforms(scene.cameras), scene.folder
    if not options.undistort and any(any(image.distortion) for image in posed):
        report.note("the distortion of its lens was left as it is", scene.key)
    frames = []
    for image in sorted(posed, key=lambda image: _natural_key(image.name)):
        try:
            if bad := find_bad_cameras(image.camera.intrinsics[None], image.camera.world2cam[None]):
                raise ValueError(bad[0])
            path = _find_image(scene.folder, root_of_images, image.name, options.images)
            frames.append(_convert(read_encoded(path), image, options))
        except (OSError, ValueError) as error:
            report.skip("frame", f"{scene.key}:{image.name}", str(error))
    if len(frames) < 2:
        raise ValueError(f"{len(frames)} of its {len(posed)} frames can be used")
    report.use("frame", len(frames))
    encoded, cameras = zip(*frames, strict=True)
    intrinsics = torch.stack([camera.intrinsics.float() for camera in cameras])
    world2cam = torch.stack([camera.world2cam.float() for camera in cameras])
    return Scene(scene.key, encoded, intrinsics, world2cam)


def _convert(
    encoded: UInt8[Tensor, " _bytes"], posed: PosedImage, options: ConversionOptions
) -> tuple[UInt8[Tensor, " _bytes"], Camera]:
    height, width = read_size(encoded)
    camera = posed.camera.resized((height, width))
    distorted = options.undistort and any(posed.distortion)
    scale = (options.short_side or math.inf) / min(height, width)
    if not distorted and scale >= 1:
        return encoded, camera
    image = decode(encoded)
    if distorted:
        image, camera = undistort(image, camera, posed.distortion)
    if scale < 1:
        smaller = round(width * scale), round(height * scale)
        image = image.resize(smaller, Image.Resampling.LANCZOS)
    return encode_jpeg(image), camera.resized((image.height, image.width))


def _find_cameras(folder: Path) -> Path | None:
    if (folder / nerfstudio.FILE).is_file():
        return folder / nerfstudio.FILE
    for name in ("sparse/0", "sparse", "colmap/sparse/0", "."):
        if colmap.is_model(folder / name):
            return folder / name
    return None


def _find_image(folder: Path, root_of_images: Path, name: str, images: str | None) -> Path:
    stated = root_of_images / name
    if images is not None:
        candidates = [folder / images / name, folder / images / stated.name]
    else:
        smaller = [folder / instead / stated.name for instead in _SMALLER_FOLDERS]
        candidates = [stated, stated.with_name(stated.name + ".png"), *smaller]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ValueError(f"its image is not there: {candidates[0]}")


def _natural_key(name: str) -> str:
    """Return a key that sorts frame_2 before frame_10."""
    return re.sub(r"\d+", lambda number: number[0].zfill(12), name)
