"""A photo file of any kind to an upright `Photo` with intrinsics."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from nps_cli.errors import NpsError
from nps_cli.photos.exif import (
    ORIENTATION,
    CameraFacts,
    focal_in_pixels,
    read_camera_facts,
)
from nps_cli.photos.intrinsics import GivenIntrinsics, pinhole
from nps_cli.photos.opening import (
    check_aspect,
    check_resolution,
    open_image,
    reduced_size,
    too_large,
)
from nps_cli.photos.panorama import check_no_panorama, check_no_sphere
from nps_cli.photos.photo import Photo, shared_window
from nps_cli.photos.pixels import (
    opaque_part,
    to_8_bit,
    to_srgb,
    without_native_stderr,
    without_warnings,
)
from nps_cli.photos.stereo import stereo_frames
from nps_cli.photos.tags import orientation_of, read_file_tags, read_tags

WORKING_SIDE_PX = 1024
MIN_OPAQUE = 0.01  # share of a photo that is not transparent
MAX_THREADS = 2  # one per photo of a pair; each may hold a whole decoded photo
TO_UPRIGHT = {  # what undoes each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_photos(
    paths: Sequence[str | Path],
    given: GivenIntrinsics | None = None,
    max_side: int = WORKING_SIDE_PX,
    *,
    side_by_side: bool = False,
) -> list[Photo]:
    """Load photos, each with its own size and camera; what a person said about those wins.

    A stereo photo (.mpo, spatial .heic) is two. Photos with a guessed focal length share a focal
    group if one camera may have taken them: same make, model and size, in either orientation. A
    frame that all share is left out: the bars of screenshots, letterboxes.

    Args:
        paths: Of their files, decoded at the same time in threads.
        given: What a person said about their cameras.
        max_side: Larger images are reduced by averaging to this long side.
        side_by_side: The left half of every file is one photo, and the right half another.
    """
    wanted = _Wanted(max_side, bool(given) and given != GivenIntrinsics(), side_by_side)
    photos = _load_files(paths, wanted)
    window = shared_window(photos)
    if window is None:
        return _with_cameras(photos, given)
    larger = max(photos[0].camera.size) / max(window.size)
    photos = _load_files(paths, replace(wanted, max_side=math.ceil(max_side * larger)))
    window = shared_window(photos) or window
    if given is not None and given.file is not None:  # for the whole files
        return [photo.inside(window) for photo in _with_cameras(photos, given)]
    return _with_cameras([photo.inside(window) for photo in photos], given)


def _with_cameras(photos: list[Photo], given: GivenIntrinsics | None) -> list[Photo]:
    """Return photos with the given intrinsics, or with the groups of those that are guessed."""
    sizes, names = [photo.camera.size for photo in photos], [photo.name for photo in photos]
    matrices = given and given.for_photos(sizes, names)
    if not matrices:
        return _with_focal_groups(photos)
    import torch

    return [
        replace(
            photo,
            camera=replace(photo.camera, intrinsics=torch.tensor(matrix), focal_group=None),
            intrinsics_source="given",
        )
        for photo, matrix in zip(photos, matrices, strict=True)
    ]


def _with_focal_groups(photos: list[Photo]) -> list[Photo]:
    """Number the physical cameras of photos with a guessed focal length."""
    numbers: dict[tuple[object, ...], int] = {}
    grouped = []
    for photo in photos:
        if photo.intrinsics_source == "guessed":
            key = (*sorted(photo.camera.size), photo.facts.make, photo.facts.model)
            camera = replace(photo.camera, focal_group=numbers.setdefault(key, len(numbers)))
            photo = replace(photo, camera=camera)
        grouped.append(photo)
    return grouped


def load_photo(path: Path, max_side: int = WORKING_SIDE_PX) -> Photo:
    """Load a photo with the intrinsics that its EXIF gives, or else a guess.

    The first frame of an animation, the left picture of a stereo photo, the largest preview of a
    raw file. A truncated file is refused unless its decoder finds every pixel.

    Args:
        path: JPEG, PNG, WebP, TIFF, HEIC, AVIF, raw, or what else Pillow decodes by itself.
        max_side: Larger images are reduced by averaging to this long side.
    """
    with without_warnings():
        return _load_file(path, _Wanted(max_side))[0]


@dataclass(frozen=True)
class _Wanted:
    """The way in which files are to be loaded: see `load_photos`."""

    max_side: int
    is_given: bool = False  # someone gave intrinsics
    side_by_side: bool = False


def _load_files(paths: Sequence[str | Path], wanted: _Wanted) -> list[Photo]:
    with without_warnings(), ThreadPoolExecutor(max_workers=MAX_THREADS) as pool:
        loaded = pool.map(lambda path: _load_file(Path(path), wanted), paths)
        return [photo for photos in loaded for photo in photos]


def _load_file(path: Path, wanted: _Wanted) -> list[Photo]:
    """Return the one photo of a file, or the left and the right one."""
    with _decoding(path), open_image(path) as file:
        tags = {} if file.filename else read_file_tags(path)  # of a raw file around its preview
        photos = []
        for frame in (0,) if wanted.side_by_side else stereo_frames(path, file):
            if frame:
                file.seek(frame)
            tags = tags | read_tags(file)
            photos += _decode(path, file, tags, wanted)
    if len(photos) == 1:
        return photos
    names = [f"{path.stem}-{side}{path.suffix}" for side in ("left", "right")]
    return [replace(photo, name=name) for photo, name in zip(photos, names, strict=True)]


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Say in one sentence what is wrong with a file that cannot be decoded."""
    try:
        yield
    except NpsError:
        raise
    except UnidentifiedImageError as error:
        raise NpsError(
            f"{path} is not an image, or it is damaged or of an unknown kind.",
            hint="Export the photo as JPEG, PNG or HEIC.",
        ) from error
    except Image.DecompressionBombError as error:
        raise too_large(path) from error
    except Exception as error:  # decoders raise anything at all on damaged files
        raise NpsError(
            f"{path} cannot be decoded ({_first_line(error)}).",
            hint="The file is damaged or cut short: copy it again, or export it as JPEG.",
        ) from error


def _decode(
    path: Path, file: ImageFile.ImageFile, tags: dict[int, object], wanted: _Wanted
) -> list[Photo]:
    """Return the photo of an opened file, or those of its halves."""
    facts = read_camera_facts(tags)
    count = 2 if wanted.side_by_side else 1
    if count == 2:
        facts = replace(facts, frame_px=None)  # EXIF counts both halves, or one
    size = file.width // count, file.height
    check_resolution(path, size, wanted.max_side)
    check_no_panorama(path, size, file.info, tags, facts, wanted.is_given)
    check_aspect(path, size)
    working = reduced_size(size, wanted.max_side)
    turn = None if file.filename else tags.get(ORIENTATION)
    found = file.info.get("original_orientation") or orientation_of(file, turn)
    found = found if found in range(1, 9) else None
    file.draft(None, (count * working[0], working[1]))
    with without_native_stderr() if file.format == "TIFF" else nullcontext():
        file.load()
    orientation = orientation_of(file, turn)  # once loaded: some decoders apply it themselves
    pixels, profile = to_8_bit(file), file.info.get("icc_profile")
    photos = []
    for half in range(count):
        width = pixels.width // count
        part = pixels.crop((half * width, 0, (half + 1) * width, pixels.height))
        part = (pixels if count == 1 else part).resize(working, Image.Resampling.HAMMING)
        image, opaque = to_srgb(part, profile), opaque_part(part)
        if opaque is not None and np.asarray(opaque).mean() < MIN_OPAQUE:
            raise NpsError(
                f"{path} is transparent everywhere, or almost.",
                hint="Save the cut-out anew, with its object filling the picture, or as JPEG.",
            )
        if not wanted.is_given:
            check_no_sphere(path, size, image, facts)
        photo = _photo(path.name, image, opaque, size, facts, orientation)
        photos.append(replace(photo, orientation=found))
    return photos


def _photo(
    name: str,
    image: Image.Image,
    opaque: Image.Image | None,
    size: tuple[int, int],
    facts: CameraFacts,
    orientation: int | None,
) -> Photo:
    """Turn an image upright, and give it the camera of its full (width, height)."""
    width, height = size
    if orientation in TO_UPRIGHT:
        image = image.transpose(TO_UPRIGHT[orientation])
        opaque = opaque and opaque.transpose(TO_UPRIGHT[orientation])
        width, height = (width, height) if orientation < 5 else (height, width)
    focal_px, source = focal_in_pixels(facts, (height, width))
    import torch  # takes a second: what is no photo has been refused by now

    from models.geometry.camera import Camera

    return Photo(
        name=name,
        image=torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float() / 255,
        camera=Camera(
            intrinsics=torch.tensor(pinhole(focal_px, (height, width))),
            world2cam=torch.eye(4),
            size=(height, width),
            focal_group=0 if source == "guessed" else None,
        ),
        intrinsics_source=source,
        orientation=orientation,
        facts=facts,
        mask=None if opaque is None else torch.from_numpy(np.array(opaque)),
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
