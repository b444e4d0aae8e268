"""Panoramas: pictures that were stitched from many, which no pinhole camera takes."""

import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from nps_cli.errors import NpsError
from nps_cli.photos.exif import CameraFacts, is_panoramic

CUSTOM_RENDERED, APPLE_PANORAMA = 0xA401, 6
DEFAULT_35MM = 26.0  # main cameras of phones
PROJECTION = re.compile(r"ProjectionType\W{1,9}(equirectangular|cylindrical)", re.IGNORECASE)
VIEW_DEG = 80  # of the views to cut out
MIN_DETAIL = 8.0  # gray levels: below, neither poles nor a seam can be told from a blank wall
MAX_POLE_SHARE = 0.5  # of the picture's own detail, which vanishes in a row that is one point
MAX_SEAM_RANK = 0.9  # of the step over the seam, among those between neighboring columns
SPHERE_CAMERA = re.compile(r"theta|insta360|gear 360|\b360\b", re.IGNORECASE)


def check_no_panorama(
    path: Path,
    size: tuple[int, int],
    info: Mapping[str | tuple[int, int], object],
    tags: Mapping[int, object],
    facts: CameraFacts,
    is_given: bool,
) -> None:
    """Refuse an image that its XMP, its EXIF or its shape says to be a panorama.

    Args:
        path: Of its file, for the message.
        size: Its (width, height).
        info: What Pillow found beside the pixels, XMP among it.
        tags: Its EXIF.
        facts: The camera's, of these tags.
        is_given: Someone gave intrinsics, which outweigh the shape.
    """
    xmp = _xmp_text(info)
    projection = PROJECTION.search(xmp)
    if projection and projection[1].lower() == "equirectangular":
        raise _sphere(path, size, _coverage_deg(xmp))
    is_crop = facts.frame_px is not None and not is_panoramic(facts.frame_px)
    by_shape = is_panoramic(size) and not is_crop and not is_given
    by_maker = facts.make == "Apple" and tags.get(CUSTOM_RENDERED) == APPLE_PANORAMA
    if projection or by_maker or by_shape:
        raise _cylinder(path, size, facts.focal_35mm or DEFAULT_35MM)


def check_no_sphere(
    path: Path, size: tuple[int, int], reduced: Image.Image, facts: CameraFacts
) -> None:
    """Refuse a picture twice as wide as high if its camera or its pixels tell that it is a sphere.

    The first and the last row of an equirectangular picture are one point each, and its first
    column continues its last.

    Args:
        path: Of its file, for the message.
        size: Its full (width, height).
        reduced: Its pixels.
        facts: What EXIF says about the camera.
    """
    if abs(size[0] / size[1] - 2) > 0.01:
        return
    gray = np.asarray(reduced.convert("L").resize((256, 128), Image.Resampling.BOX), np.float32)
    detail = gray[32:96].std(axis=1).mean()
    poles = gray[[0, -1]].std(axis=1).max()
    steps = np.abs(gray - np.roll(gray, -1, axis=1)).mean(axis=0)
    seam_rank = (steps[:-1] < steps[-1]).mean()
    by_pixels = detail > MIN_DETAIL and poles < MAX_POLE_SHARE * detail
    if (by_pixels and seam_rank < MAX_SEAM_RANK) or SPHERE_CAMERA.search(
        f"{facts.make} {facts.model}"
    ):
        raise _sphere(path, size, (360, 180))


def _xmp_text(info: Mapping[str | tuple[int, int], object]) -> str:
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    return xmp.decode("latin-1") if isinstance(xmp, bytes) else str(xmp)


def _coverage_deg(xmp: str) -> tuple[int, int]:
    """Return the degrees that a part of an equirectangular picture spans, (across, down)."""
    values = dict(re.findall(r"(\w+)(?:=[\"']|>)\s*(\d{1,6})\b", xmp))

    def degrees(part: str, full: str, most: int) -> int:
        share = int(values.get(part, 0)) / max(1, int(values.get(full, 0)))
        return round(most * share) if 0 < share <= 1 else most

    return (
        degrees("CroppedAreaImageWidthPixels", "FullPanoWidthPixels", 360),
        degrees("CroppedAreaImageHeightPixels", "FullPanoHeightPixels", 180),
    )


def _sphere(path: Path, size: tuple[int, int], coverage_deg: tuple[int, int]) -> NpsError:
    across, down = coverage_deg
    kind = "360-degree panorama" if across == 360 else f"panorama of {across} degrees"
    return NpsError(
        f"{path} is a {kind} ({size[0]} x {size[1]} pixels, equirectangular), which no pinhole "
        "camera takes.",
        hint=_how_to_cut(path, f"equirect:flat:ih_fov={across}:iv_fov={down}", size[0] / across),
    )


def _cylinder(path: Path, size: tuple[int, int], focal_35mm: float) -> NpsError:
    """Return the error for a phone's panorama: a cylinder around the upright phone."""
    down = 2 * math.atan(18 / focal_35mm)  # 36 mm are the long side of film, and of the phone
    across = max(size) / min(size) * 2 * math.tan(down / 2)
    across_deg, down_deg = min(360, round(math.degrees(across))), round(math.degrees(down))
    return NpsError(
        f"{path} is a panorama ({size[0]} x {size[1]} pixels), stitched from many photos, which no "
        "pinhole camera takes.",
        hint="If it is one photo that was cut, give its --fov. "
        + _how_to_cut(
            path,
            f"cylindrical:flat:ih_fov={across_deg}:iv_fov={down_deg}",
            max(size) / across_deg,
            min(VIEW_DEG, down_deg),
        ),
    )


def _how_to_cut(path: Path, projection: str, px_per_deg: float, view_deg: int = VIEW_DEG) -> str:
    side = max(64, 2 * round(px_per_deg * view_deg / 2))
    view = shlex.quote(f"{path.stem}_view.png")
    return (
        "Cut views of one thing out of panoramas from two places (yaw is the direction), and give "
        f"them with --fov {view_deg}: ffmpeg -i {shlex.quote(str(path))} -vf v360={projection}"
        f":h_fov={view_deg}:v_fov={view_deg}:yaw=0:w={side}:h={side} {view}"
    )
