"""Drawing, in pixels of the finished picture: text, dots, lines and photos."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

Point = tuple[float, float]
FINER = 2  # everything is drawn so many times larger, then reduced: PIL's lines are ragged
BADGE = 11  # radius of a disc with a number
BACKGROUND, DIMMED = "#14171c", 0.8  # photos are darkened, so that lines stand out


@dataclass(frozen=True)
class Panel:
    """A part of a picture, in pixels."""

    left: float
    top: float
    width: float
    height: float

    def at(self, x: float, y: float) -> Point:
        """Where coordinates in [0, 1] lie."""
        return self.left + x * self.width, self.top + y * self.height


class Canvas:
    """A picture that is being drawn."""

    def __init__(self, width: int, height: int) -> None:
        from PIL import Image, ImageDraw

        self._size = width, height
        self._image = Image.new("RGB", (width * FINER, height * FINER), BACKGROUND)
        self._pen = ImageDraw.Draw(self._image, "RGBA")

    def save(self, path: "Path") -> None:
        """Write the finished picture as PNG, whatever the path's suffix."""
        from PIL import Image

        self._image.resize(self._size, Image.Resampling.BOX).save(path, format="PNG")

    def photo(self, panel: Panel, image: "Tensor") -> None:
        """Fill a panel with a photo, [3, height, width] in [0, 1]."""
        from PIL import Image

        pixels = (image.clamp(0, 1) * 255 * DIMMED).round().byte().permute(1, 2, 0)
        size = round(panel.width * FINER), round(panel.height * FINER)
        picture = Image.fromarray(pixels.contiguous().cpu().numpy())
        corner = round(panel.left * FINER), round(panel.top * FINER)
        self._image.paste(picture.resize(size, Image.Resampling.BICUBIC), corner)

    def area(self, corners: Sequence[Point], color: str) -> None:
        """Fill a polygon."""
        self._pen.polygon([_finer(corner) for corner in corners], fill=color)

    def line(self, points: Sequence[Point], color: str, width: float = 2) -> None:
        """Draw through points."""
        points = [_finer(point) for point in points]
        self._pen.line(points, fill=color, width=round(width * FINER), joint="curve")

    def dot(self, at: Point, radius: float, color: str) -> None:
        """Draw a disc with a thin dark edge."""
        x, y = _finer(at)
        reach = radius * FINER
        self._pen.ellipse((x - reach, y - reach, x + reach, y + reach), color, BACKGROUND)

    def badge(self, at: Point, text: str, color: str) -> None:
        """Draw a disc with a number in it."""
        self.dot(at, BADGE, color)
        self._pen.text(_finer(at), text, BACKGROUND, _font(16), anchor="mm")

    def text(self, at: Point, text: str, height: int, color: str) -> None:
        """Write one line; `at` is its upper left corner."""
        self._pen.text(_finer(at), text, color, _font(height))

    def wrapped(self, text: str, height: int, width: float) -> list[str]:
        """The lines of a text of this width; a longer word is cut."""
        lines = [""]
        for word in text.split(" "):
            longer = f"{lines[-1]} {word}".strip()
            if self._fits(longer, height, width):
                lines[-1] = longer
            else:
                lines.append(self.shortened(word, height, width))
        return [line for line in lines if line]

    def shortened(self, text: str, height: int, width: float) -> str:
        """The text, with an ellipsis in place of an end that would not fit."""
        if self._fits(text, height, width):
            return text
        while text and not self._fits(text + "…", height, width):
            text = text[:-1]
        return text + "…"

    def _fits(self, text: str, height: int, width: float) -> bool:
        return bool(self._pen.textlength(text, _font(height)) <= width * FINER)


def between(ramp: Sequence[str], position: float) -> str:
    """The color at a position in [0, 1] along evenly spaced colors."""
    from PIL import ImageColor

    below = min(int(position * (len(ramp) - 1)), len(ramp) - 2)
    weight = position * (len(ramp) - 1) - below
    ends = (ImageColor.getrgb(color) for color in ramp[below : below + 2])
    channels = (round(a + (b - a) * weight) for a, b in zip(*ends, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in channels)


def pushed_apart(badges: Sequence[Point]) -> list[Point]:
    """Where to draw badges instead, so that none hides another."""
    moved = list(badges)
    for _ in range(20):
        for second in range(len(moved)):
            for first in range(second):
                (x, y), (u, v) = moved[first], moved[second]
                distance = math.dist((x, y), (u, v))
                missing = (2 * BADGE + 2 - distance) / 2
                if missing > 0:
                    dx, dy = ((u - x) / distance, (v - y) / distance) if distance else (1.0, 0.0)
                    moved[first] = x - missing * dx, y - missing * dy
                    moved[second] = u + missing * dx, v + missing * dy
    return moved


def _finer(point: Point) -> Point:
    return point[0] * FINER, point[1] * FINER


def _font(height: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(height * FINER)
