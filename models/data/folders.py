"""Folders of posed images, as nerfstudio, COLMAP and DL3DV leave them, to sequences for chunks."""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from models.camera import from_pixels
from models.data import colmap, nerfstudio
from models.data.posed import PosedImage
from models.data.report import Report
from models.data.scenes import Scene, decode, find_bad_frames, read_encoded, read_size

_QUALITY = 95  # of JPEGs, where an image is shrunk
_SMALLER = ("images_4", "images_8", "images_2")  # DL3DV comes with one of these, and not the full


@dataclass(frozen=True)
class PosedFolder:
    """A folder with images and the file or folder that tells their cameras."""

    key: str
    folder: Path
    cameras: Path


def find_folders(root: Path) -> list[PosedFolder]:
    """All folders of posed images at and below one, by path; keys are paths relative to it.

    A transforms.json comes before a COLMAP model (`sparse/0`, `sparse`, `colmap/sparse/0` or the
    folder itself).
    """
    found = []
    for name, folders, _ in os.walk(root):
        folder = Path(name)
        cameras = _find_cameras(folder)
        if cameras is not None:
            relative = folder.relative_to(root).as_posix()
            key = root.resolve().name if relative == "." else relative
            found.append(PosedFolder(key, folder, cameras))
            folders.clear()
        folders[:] = [each for each in folders if not each.startswith(("images", "."))]
    return sorted(found, key=lambda scene: _natural(scene.key))


def read_folder(
    scene: PosedFolder, report: Report, images: str | None = None, short_side: int | None = None
) -> Scene:
    """Read a folder's images, in order of their names, and their cameras.

    Args:
        scene: Where it is.
        report: Grows by "frame"s used and skipped, and by notes.
        images: Look for images in this folder inside the scene's, in place of where they are said
            to be.
        short_side: Shrink images until this is their shorter side; those that are smaller, and
            all without it, are taken over byte by byte.

    Raises:
        ValueError: If it has no two frames that can be used, or cannot be read at all.
    """
    if scene.cameras.is_dir():
        posed, base = colmap.read_model(scene.cameras), scene.folder / "images"
    else:
        posed, base = nerfstudio.read_transforms(scene.cameras), scene.folder
    if any(image.distorted for image in posed):
        report.note("lens distortion was left out", scene.key)
    frames = list(_read_frames(scene, posed, base, report, images, short_side))
    if len(frames) < 2:
        raise ValueError(f"{len(frames)} of its {len(posed)} frames can be used")
    report.use("frame", len(frames))
    intrinsics = [from_pixels(image.intrinsics_px, image.size).float() for image, _ in frames]
    world2cam = [image.world2cam.float() for image, _ in frames]
    encoded = tuple(content for _, content in frames)
    return Scene(scene.key, encoded, torch.stack(intrinsics), torch.stack(world2cam))


def _read_frames(
    scene: PosedFolder,
    posed: list[PosedImage],
    base: Path,
    report: Report,
    images: str | None,
    short_side: int | None,
) -> Iterator[tuple[PosedImage, UInt8[Tensor, " _bytes"]]]:
    for image in sorted(posed, key=lambda image: _natural(image.name)):
        try:
            if bad := find_bad_frames(image.intrinsics_px[None], image.world2cam[None]):
                raise ValueError(bad[0])
            path = _find_image(scene.folder, base, image.name, images)
            encoded = _shrink(read_encoded(path), short_side)
        except (OSError, ValueError) as error:
            report.skip("frame", f"{scene.key}:{image.name}", str(error))
            continue
        yield image, encoded


def _find_cameras(folder: Path) -> Path | None:
    if (folder / nerfstudio.FILE).is_file():
        return folder / nerfstudio.FILE
    for name in ("sparse/0", "sparse", "colmap/sparse/0", "."):
        if colmap.is_model(folder / name):
            return folder / name
    return None


def _find_image(folder: Path, base: Path, name: str, images: str | None) -> Path:
    stated = base / name
    if images is not None:
        candidates = [folder / images / name, folder / images / stated.name]
    else:
        smaller = [folder / instead / stated.name for instead in _SMALLER]
        candidates = [stated, stated.with_name(stated.name + ".png"), *smaller]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ValueError(f"its image is not there: {candidates[0]}")


def _shrink(encoded: UInt8[Tensor, " _bytes"], short_side: int | None) -> UInt8[Tensor, " _bytes"]:
    height, width = read_size(encoded)
    if short_side is None or min(height, width) <= short_side:
        return encoded
    scale = short_side / min(height, width)
    size = round(width * scale), round(height * scale)
    file = io.BytesIO()
    decode(encoded).resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=_QUALITY)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def _natural(name: str) -> str:
    """Orders frame_2 before frame_10."""
    return re.sub(r"\d+", lambda number: number[0].zfill(12), name)
