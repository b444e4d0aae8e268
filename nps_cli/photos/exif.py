"""EXIF tags to a focal length in pixels, and where it came from. Functions of a dict."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Source = Literal["exif-35mm", "exif-sensor", "given", "guessed", "estimated"]

MAKE, MODEL, ORIENTATION = 0x010F, 0x0110, 0x0112
FOCAL, FOCAL_35MM, DIGITAL_ZOOM = 0x920A, 0xA405, 0xA404
PIXELS_X, PIXELS_Y = 0xA002, 0xA003
PLANE_X, PLANE_Y, PLANE_UNIT = 0xA20E, 0xA20F, 0xA210
FOCAL_PLANE_DIAGONAL = 0x0205  # in mm; of Olympus' maker note, no EXIF tag of its own

FILM_DIAGONAL_MM = math.hypot(36, 24)
PLAUSIBLE_35MM = (8.0, 1600.0)  # fisheye to telescope; anything else is an error in the file
MAX_FRAME_ASPECT = 2.5  # no camera has a longer frame; panoramas have
MAX_ENLARGEMENT = 4.0  # of a crop, after it was cut
GUESSED_35MM = 28.0  # main cameras of phones: 24 to 30
MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # inch, the default; cm; mm; micrometer
SENSOR_DIAGONAL_MM = {  # phones that write a focal length and no 35 mm equivalent
    "iPhone 4": 5.68,
    "iPhone 4S": 5.68,
    "GT-I9100": 5.68,  # Galaxy S II
    "D6503": 7.7,  # Xperia Z2
    "D6603": 7.7,  # Xperia Z3
    "E5823": 7.7,  # Xperia Z5 Compact
    "E6653": 7.7,  # Xperia Z5
}


@dataclass(frozen=True)
class CameraFacts:
    """The facts that EXIF gives about a camera; None where it is silent or absurd.

    Sizes are as stored, before the orientation is applied; so are the focal plane's axes.
    """

    make: str | None = None
    model: str | None = None
    focal_mm: float | None = None
    focal_35mm: float | None = None
    digital_zoom: float = 1.0
    frame_px: tuple[float, float] | None = None  # (width, height) when the photo was taken
    plane_px_per_mm: tuple[float, float] | None = None  # (x, y), at frame_px
    sensor_diagonal_mm: float | None = None


def read_camera_facts(tags: Mapping[int, object]) -> CameraFacts:
    """Collect the camera's facts from EXIF tags of the main and the Exif directory."""
    unit = MM_PER_UNIT.get(_plain_int(tags.get(PLANE_UNIT, 2)), 0.0)
    plane = _both(_in_range(tags.get(PLANE_X), 0, 1e9), _in_range(tags.get(PLANE_Y), 0, 1e9))
    frame = _both(_in_range(tags.get(PIXELS_X), 0, 1e6), _in_range(tags.get(PIXELS_Y), 0, 1e6))
    digital_zoom = _in_range(tags.get(DIGITAL_ZOOM), 1, 100)
    return CameraFacts(
        make=_text(tags.get(MAKE)),
        model=_text(tags.get(MODEL)),
        focal_mm=_in_range(tags.get(FOCAL), 0, 5000),
        focal_35mm=_in_range(tags.get(FOCAL_35MM), *PLAUSIBLE_35MM),
        digital_zoom=digital_zoom or 1.0,
        frame_px=frame,
        plane_px_per_mm=(plane[0] / unit, plane[1] / unit) if plane and unit else None,
        sensor_diagonal_mm=_in_range(tags.get(FOCAL_PLANE_DIAGONAL), 2, 100),
    )


def focal_in_pixels(facts: CameraFacts, size: tuple[int, int]) -> tuple[float, Source]:
    """Return the focal length in pixels of a photo of this (height, width), and its source.

    In this order: the 35 mm equivalent, by the diagonal rule (it covers digital zoom already);
    the focal length in mm and the sensor's size, times the digital zoom; a guess, a phone's main
    camera.

    A photo whose aspect differs from the frame that the EXIF describes was cropped afterwards.
    Then the focal length is that of the frame. Whether the crop was shrunk as well is not recorded:
    one that spans at least half the frame in either direction is taken to be at full resolution
    (what the editors of phones do), a smaller one to be the largest crop of its aspect, shrunk
    (what web sites do). Its place is not recorded either, and taken to be the center.
    """
    height, width = size
    frame_width, frame_height, shrink = _frame(facts, width, height)
    diagonal_px = math.hypot(frame_width, frame_height) * shrink
    px_per_35mm = diagonal_px / FILM_DIAGONAL_MM
    if facts.focal_35mm:
        return facts.focal_35mm * px_per_35mm, "exif-35mm"
    sensor_diagonal = _sensor_diagonal_mm(facts, (frame_width, frame_height))
    if facts.focal_mm and sensor_diagonal:
        focal_px = facts.focal_mm * facts.digital_zoom * diagonal_px / sensor_diagonal
        if _in_range(focal_px / px_per_35mm, *PLAUSIBLE_35MM):
            return focal_px, "exif-sensor"
    return GUESSED_35MM * math.hypot(width, height) / FILM_DIAGONAL_MM, "guessed"


def is_panoramic(size: tuple[float, float]) -> bool:
    """Return whether a picture of this size is longer than the frame of any camera."""
    return max(size) > MAX_FRAME_ASPECT * min(size)


def _frame(facts: CameraFacts, width: int, height: int) -> tuple[float, float, float]:
    """Return the (width, height) of the frame that EXIF describes, and its later reduction.

    A frame of a shape that no camera has, or much smaller than the photo, is an error in the file:
    the photo itself is the frame.
    """
    if not facts.frame_px or is_panoramic(facts.frame_px):
        return width, height, 1.0
    long, short = max(facts.frame_px), min(facts.frame_px)
    frame = (long, short) if width >= height else (short, long)
    if abs(width / height * frame[1] / frame[0] - 1) < 0.02:
        return width, height, 1.0
    kept = max(width / frame[0], height / frame[1])
    if kept > MAX_ENLARGEMENT:
        return width, height, 1.0
    return *frame, 1.0 if 0.5 <= kept <= 1 else kept


def _sensor_diagonal_mm(facts: CameraFacts, frame: tuple[float, float]) -> float | None:
    """Return it by the focal plane's resolution if that makes sense, as told, or by the table."""
    if facts.plane_px_per_mm:
        width, height = facts.frame_px or frame
        sides = width / facts.plane_px_per_mm[0], height / facts.plane_px_per_mm[1]
        if min(sides) >= 1.5 and max(sides) <= 70:
            return math.hypot(*sides)
    return facts.sensor_diagonal_mm or SENSOR_DIAGONAL_MM.get(facts.model or "")


def _in_range(value: object, least: float, most: float) -> float | None:
    """Return the value as a positive number in range, or None; EXIF may hold anything."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if 0 < number and least <= number <= most else None


def _both(first: float | None, second: float | None) -> tuple[float, float] | None:
    return (first, second) if first and second else None


def _plain_int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _text(value: object) -> str | None:
    """Return at most 60 printable characters: some cameras pad, and some files are malicious."""
    if not isinstance(value, str):
        return None
    kept = "".join(character for character in value if character.isprintable())
    return kept.strip()[:60] or None
