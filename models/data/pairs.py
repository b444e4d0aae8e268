"""Photos whose cameras are known, in twos and threes, with further photos to predict."""

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from models.data.chunks import open_chunk
from models.data.crop import crop_camera, rescale_and_crop
from models.data.report import Report
from models.data.scenes import (
    decode,
    evenly,
    read_encoded,
    to_float,
    to_tensor,
)
from models.files.json_reader import read_json
from models.geometry.camera import Camera, from_pixels
from models.geometry.checks import check_camera, parse_matrix, parse_size
from models.geometry.rigid import invert
from models.geometry.views import View


@dataclass(frozen=True)
class PosedPhoto:
    """A photo on disk and its true camera, in the frame of its group's first view."""

    path: Path  # of the image, or of the chunk that holds it
    camera: Camera
    frame: tuple[str, int] | None = None  # in a chunk: the scene's key, and which of its frames
    shift: tuple[int, int] = (0, 0)  # pixels right and down that center the principal point

    @property
    def name(self) -> str:
        """The photo's name where it is."""
        return self.path.name if self.frame is None else f"{self.frame[0]}/{self.frame[1]:05d}"

    def load(self) -> View:
        """Read the photo.

        Raises:
            ValueError: If it cannot be read, or is not of the stated size.
        """
        return View(to_tensor(self._open()), self.camera)

    def load_cropped(self, size: tuple[int, int]) -> View:
        """Read the photo as the published evaluation does, with the intrinsics that go with it.

        Moved by `shift` (black where nothing is left), then shrunk and cropped to (height, width)
        by `rescale_and_crop`, in 8 bits; the principal point is not moved by the crop. Published
        data sets are evaluated against this image, not a crop of `load()` by other rules.

        Raises:
            ValueError: If it cannot be read, or is too small.
        """
        image, camera = self._open(), self.camera
        if any(self.shift):
            shifted = Image.new("RGB", image.size)
            shifted.paste(image, self.shift)
            image, intrinsics = shifted, camera.intrinsics.clone()
            intrinsics[:2, 2] += torch.tensor(self.shift) / torch.tensor(image.size)
            camera = replace(camera, intrinsics=intrinsics)
        cropped = crop_camera(camera, size, move_center=False)
        return View(to_float(rescale_and_crop(image, size)), cropped)

    def _open(self) -> Image.Image:
        where = f"{self.path}" if self.frame is None else f"{self.path}: {self.name}"
        try:
            if self.frame is None:
                image = decode(read_encoded(self.path))
            else:
                key, number = self.frame
                image = decode(open_chunk(self.path).scenes[key].images[number])
        except (KeyError, OSError, ValueError) as error:
            raise ValueError(f"{where} cannot be read: {error}") from error
        height, width = self.camera.size
        if image.size != (width, height):
            found = f"{image.width}x{image.height}"
            raise ValueError(f"{where} is {found}, but the list says {width}x{height}")
        return image


@dataclass(frozen=True)
class PhotoPair:
    """Two or more input photos of one place, and target photos that were not shown."""

    id: str
    scene: str
    difficulty: str
    low_parallax: bool  # its baseline's direction is ill-conditioned: not to be scored strictly
    views: tuple[PosedPhoto, ...]  # the first one's camera is the identity
    targets: tuple[PosedPhoto, ...]
    overlap: float | None = None  # as a published index states it


def load_pairs(path: Path, report: Report | None = None) -> list[PhotoPair]:
    """Read a list of pairs from a JSON file; photos lie relative to it and are not read yet.

    Every entry has `id`, `images`, `size` ([width, height] each), `K` (in pixels) and `w2c`, and
    may have `scene`, `difficulty`, `low_parallax` and `targets` (a list of `image`, `size`, `K`,
    `w2c`). Everything else is ignored.

    Args:
        path: The file.
        report: Grows by "pair"s used and skipped: wrong entries are then left out, unless all
            are wrong. Without it the first one is an error.

    Raises:
        ValueError: If the file is not such a list; says which entry and what is wrong with it.
    """
    entries = read_json(path, nan_as_text=True)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path} does not hold a list of pairs")
    pairs: dict[str, PhotoPair] = {}
    wrong = []
    for index, entry in enumerate(entries):
        try:
            pair = _parse_pair(entry, path.parent)
            if pair.id in pairs:
                raise ValueError(f"more than one entry has the id {pair.id}")
            pairs[pair.id] = pair
        except (KeyError, TypeError, ValueError) as error:
            name = entry.get("id") if isinstance(entry, dict) else None
            what = f"has no {error}" if isinstance(error, KeyError) else f"is wrong: {error}"
            wrong.append(f"entry {index} ({name}) {what}")
            if report is not None:
                report.skip("pair", f"entry {index} ({name})", what)
    if wrong and (report is None or not pairs):
        raise ValueError(f"{path}: {wrong[0]}")
    if report is not None:
        report.use("pair", len(pairs))
    return list(pairs.values())


def spread_over_scenes(pairs: list[PhotoPair], limit: int) -> list[PhotoPair]:
    """Choose at most `limit` pairs, in their order, as evenly over scenes as they allow."""
    scenes = defaultdict(list)
    for pair in pairs:
        scenes[pair.scene].append(pair)
    counts = Counter[str]()
    while sum(counts.values()) < min(limit, len(pairs)):
        open_scenes = [scene for scene in scenes if counts[scene] < len(scenes[scene])]
        counts.update(evenly(open_scenes, limit - sum(counts.values())))
    chosen = {pair.id for scene in scenes for pair in evenly(scenes[scene], counts[scene])}
    return [pair for pair in pairs if pair.id in chosen]


def _parse_pair(entry: Any, folder: Path) -> PhotoPair:
    images = entry["images"]
    if not all(isinstance(entry[key], list) for key in ("images", "size", "K", "w2c")):
        raise ValueError("images, size, K and w2c are not all lists")
    if len(images) not in (2, 3):
        raise ValueError(f"it lists {len(images)} images, not 2 or 3")
    for key in ("size", "K", "w2c"):
        if len(entry[key]) != len(images):
            raise ValueError(f"it has {len(images)} images but {len(entry[key])} of {key}")
    photos = zip(images, entry["size"], entry["K"], entry["w2c"], strict=True)
    first = parse_matrix(entry["w2c"][0], 4, 4)
    views = tuple(_parse_photo(folder, first, *photo) for photo in photos)
    rounding = 1e-6 * first[:3, 3].norm()
    if not all(view.camera.world2cam[:3, 3].norm() > rounding for view in views[1:]):
        raise ValueError("its cameras stand on one point")
    return PhotoPair(
        id=str(entry["id"]),
        scene=str(entry.get("scene", "unnamed")),
        difficulty=str(entry.get("difficulty", "unrated")),
        low_parallax=bool(entry.get("low_parallax", False)),
        views=views,
        targets=tuple(
            _parse_photo(folder, first, *(target[name] for name in ("image", "size", "K", "w2c")))
            for target in entry.get("targets", [])
        ),
    )


def _parse_photo(
    folder: Path, first: Float[Tensor, "4 4"], image: Any, size: Any, intrinsics_px: Any, pose: Any
) -> PosedPhoto:
    if not isinstance(image, str) or not isinstance(size, list) or len(size) != 2:
        raise ValueError(f"{shortened(image)} is no name, or {shortened(size)} no size")
    try:
        matrix, world2cam = parse_matrix(intrinsics_px, 3, 3), parse_matrix(pose, 4, 4)
        height_width = parse_size(*size)
        camera = Camera(from_pixels(matrix, height_width), world2cam, height_width)
        check_camera(camera)
    except ValueError as error:
        stated = f"K {intrinsics_px!r:.200}, w2c {pose!r:.200}"
        raise ValueError(f"{image}: {error} ({stated})") from error
    relative = (world2cam @ invert(first)).float()
    return PosedPhoto(folder / image, replace(camera.float(), world2cam=relative))
