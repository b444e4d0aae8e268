"""Decoded pixels of any type and color space to 8-bit sRGB, quietly."""

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

MIN_OPACITY = 0.9  # of the most opaque pixel: below a pixel is transparent
STDERR = threading.Lock()


def to_8_bit(image: Image.Image) -> Image.Image:
    """Bring any pixel type to L, RGB, RGBA or CMYK."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.nan_to_num(np.asarray(image, np.float32))
        ranges = (1, 255, 65535) if image.mode == "F" else (65535,)
        full = next((most for most in ranges if values.max() <= most), values.max())
        return Image.fromarray((values.clip(0) * (255 / full) + 0.5).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert colors by the ICC profile if it is usable, and put what is transparent on white."""
    color = image.convert("RGB") if image.mode == "RGBA" else image
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile or b""))
        srgb = ImageCms.createProfile("sRGB")
        color = ImageCms.profileToProfile(color, source, srgb, outputMode="RGB") or color
    except (ImageCms.PyCMSError, OSError, ValueError):
        color = color.convert("RGB")
    if image.mode == "RGBA":
        white = Image.new("RGB", image.size, "white")
        color = Image.composite(color, white, image.getchannel("A"))
    return color


def opaque_part(image: Image.Image) -> Image.Image | None:
    """Return which pixels are not transparent, in 1-bit pixels; None where all of them are not.

    Soft edges, whose colors are mixed with what is behind, count as transparent.
    """
    if image.mode != "RGBA":
        return None
    alpha = np.array(image.getchannel("A"))
    opaque = alpha >= max(1.0, MIN_OPACITY * alpha.max())
    return None if opaque.all() else Image.fromarray(opaque)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep what Pillow and exifread have to say about odd files off stderr."""
    loggers = logging.getLogger("PIL"), logging.getLogger("exifread")
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def without_native_stderr() -> Iterator[None]:
    """Silence libtiff, which writes to the process's stderr itself; one thread at a time."""
    with STDERR:
        kept = os.dup(2)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            os.close(nowhere)
