"""The frame that screenshots and letterboxed pictures share: it is no part of the scene."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MAX_COPY_ERROR = 2 / 255  # color difference of copies; noise makes photos differ by more
MAX_DIFFERENT_OUTSIDE = 0.2  # of a row or column of the frame: clocks and texts may change
MIN_DIFFERENT_INSIDE = 0.6  # of the pixels of what the photos show
EDGE_SHARE = 0.015  # of the long side, over which scaling and JPEG blur a straight edge
MIN_WINDOW_PX = 64
MAX_PLAIN_STD = 0.01  # of a frame of one color


@dataclass(frozen=True)
class Window:
    """A part of an image, in pixels."""

    top: int
    left: int
    size: tuple[int, int]  # (height, width)

    def scaled(self, factor: float) -> "Window":
        """Return the window of the image resized by a factor."""
        height, width = self.size
        return Window(
            round(self.top * factor),
            round(self.left * factor),
            (round(height * factor), round(width * factor)),
        )

    def cut(self, image: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 _height _width"]:
        """Return this part of an image."""
        height, width = self.size
        return image[:, self.top : self.top + height, self.left : self.left + width]


def find_inside_frame(images: Sequence[Float[Tensor, "3 height width"]]) -> Window | None:
    """Return the part of images of one size that is not a frame which all of them share.

    Frames are copies with straight edges around what differs almost everywhere, by noise at least.
    One of a single color has the same width on opposite sides: else it may be an overexposed sky,
    or the background of a rendering. None where there is no frame.
    """
    height, width = images[0].shape[-2:]
    others = torch.stack(list(images[1:]))
    differs = ((others - images[0]).abs().amax(1) > MAX_COPY_ERROR).all(0)
    top, bottom = _range_of_most(differs.float().mean(1))
    left, right = _range_of_most(differs[top:bottom].float().mean(0))
    window = Window(top, left, (bottom - top, right - left))
    margin = math.ceil(EDGE_SHARE * max(height, width))
    gaps = (top, height - bottom), (left, width - right)
    inside = differs[top:bottom, left:right].float()
    if min(window.size) < MIN_WINDOW_PX or max(map(max, gaps)) <= margin:
        return None
    is_frame = torch.ones_like(differs)
    is_frame[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin] = False
    changed = (differs & is_frame).float()
    is_plain = float(images[0][:, is_frame].std(1).max()) < MAX_PLAIN_STD
    if (
        float(inside.mean()) < MIN_DIFFERENT_INSIDE
        or max(float(changed.mean(axis).max()) for axis in (0, 1)) > MAX_DIFFERENT_OUTSIDE
        or (is_plain and any(abs(one - other) > margin for one, other in gaps))
    ):
        return None
    return window


def _range_of_most(shares: Float[Tensor, " line"]) -> tuple[int, int]:
    """Return the first and one after the last line with at least half the largest share."""
    full: Bool[Tensor, " line"] = shares >= shares.max() / 2
    lines = full.nonzero()
    return int(lines[0]), int(lines[-1]) + 1
