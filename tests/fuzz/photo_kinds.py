"""Damaged photos, and pictures that show nothing."""

import io
import math
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from fuzz.damage import TEXTS, damaged_bytes
from fuzz.kinds import Case, kind
from hypothesis.strategies import DataObject, binary, integers, sampled_from
from PIL import ExifTags, Image, ImageDraw
from PIL.TiffImagePlugin import IFDRational


@kind("photo")
def photo(folder: Path) -> Case:
    image = Image.effect_noise((40, 30), 50).convert("RGB")
    contents = {}
    for suffix in ("JPEG", "PNG", "WEBP", "TIFF"):
        stream = io.BytesIO()
        image.save(stream, suffix, exif=tags().tobytes())
        contents[suffix.lower()] = stream.getvalue()
    exif = tags().tobytes()

    def case(data: DataObject, case_folder: Path) -> list[str]:
        action = data.draw(sampled_from(("bytes", "exif", "tags", "size")))
        suffix = "png" if action == "size" else data.draw(sampled_from(tuple(contents)))
        path = case_folder / f"case.{suffix}"
        if action == "bytes":
            path.write_bytes(data.draw(damaged_bytes(contents[suffix])))
        elif action == "size":
            path.write_bytes(resized_png(data, contents["png"]))
        else:
            changed = data.draw(damaged_bytes(exif)) if action == "exif" else strange_tags(data)
            try:
                with warnings.catch_warnings(action="ignore"):
                    image.save(path, suffix, exif=changed)
            except Exception:  # more than Pillow writes
                image.save(path, suffix)
        return ["inspect", str(path), "--json"]

    return case


def tags() -> Image.Exif:
    """Return what a phone writes."""
    found = Image.Exif()
    found[ExifTags.Base.Make], found[ExifTags.Base.Model] = "Maker", "Phone 5"
    found[ExifTags.Base.Orientation] = 6
    details = found.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.FocalLength] = IFDRational(57, 10)
    details[ExifTags.Base.FocalLengthIn35mmFilm] = 26
    details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight] = 40, 30
    return found


def strange_tags(data: DataObject) -> Image.Exif:
    found = tags()
    details = found.get_ifd(ExifTags.IFD.Exif)
    rationals = (IFDRational(1, 0), IFDRational(0, 0), IFDRational(-1, 3), IFDRational(2**32 - 1))
    values = (*rationals, *TEXTS, 0, 9, 65_535, b"\xff" * 9, (1, 2, 3), (IFDRational(1, 0),) * 2)
    names = ("FocalLength", "FocalLengthIn35mmFilm", "FocalPlaneXResolution", "ExifImageWidth")
    for _ in range(data.draw(integers(1, 3))):
        tag = data.draw(sampled_from((*names, "Make", "Model", "Orientation", "DigitalZoomRatio")))
        place = found if tag in ("Make", "Model", "Orientation") else details
        place[ExifTags.Base[tag]] = data.draw(sampled_from(values))
    return found


def resized_png(data: DataObject, content: bytes) -> bytes:
    """Return a picture that claims another size, depth or kind of colors."""
    sides = (0, 1, 40, 30, 4000, 20_000, 65_536, 2**31 - 1)
    width, height = data.draw(sampled_from(sides)), data.draw(sampled_from(sides))
    rest = data.draw(sampled_from((b"\x08\x02\0\0\0", b"\x10\x06\0\0\1"))) or data.draw(binary())
    header = b"IHDR" + struct.pack(">II", width, height) + rest
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


@kind("pictures")
def pictures(folder: Path) -> Case:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)

    def case(data: DataObject, case_folder: Path) -> list[str]:
        paths = []
        size = [data.draw(sampled_from((1, 8, 33, 64, 96, 160))) for _ in range(2)]
        shown = data.draw(sampled_from(("noise", "noise", "flat", "ramp", "stripes", "dots")))
        for place in range(data.draw(sampled_from((2, 2, 3)))):
            if not data.draw(integers(0, 5)):
                size = size[::-1]
            picture = drawn(shown, noise, tuple(size), place * data.draw(integers(-9, 9)))
            if shown == "noise" and data.draw(integers(0, 1)):
                cut_out(data, picture)
            paths.append(case_folder / f"{place}.png")
            picture.save(paths[-1])
        return ["pose", *map(str, paths), "--json"]

    return case


def drawn(shown: str, noise: np.ndarray, size: tuple[int, int], moved: int) -> Image.Image:
    """Draw a picture whose content is moved to the right by some pixels."""
    width, height = size
    x, y = np.meshgrid(np.arange(width) - moved, np.arange(height))
    match shown:
        case "noise":
            large = np.asarray(Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC))
            pixels = large[y % 240, x % 320]
        case "flat":
            pixels = np.full((height, width, 3), moved % 256)
        case "ramp":
            pixels = np.stack([x, y, x + y], axis=-1)
        case "stripes":
            pixels = np.repeat(255 * (x // 4 % 2)[..., None], 3, axis=-1)
        case _:
            pixels = np.repeat(255 * ((x % 16 < 3) & (y % 16 < 3))[..., None], 3, axis=-1)
    return Image.fromarray(pixels.astype(np.uint8)).convert("RGBA")


def cut_out(data: DataObject, picture: Image.Image) -> None:
    """Make all but a part of a picture transparent, or even."""
    width, height = picture.size
    box = [data.draw(sampled_from((0.0, 0.2, 0.5))), data.draw(sampled_from((0.5, 0.7, 1.0)))]
    corners = [math.floor(share * side) for share in box for side in (width, height)]
    mask = Image.new("L", picture.size, 255)
    ImageDraw.Draw(mask).ellipse(corners, fill=0)
    fill = data.draw(sampled_from(((0, 0, 0, 0), (255, 255, 255, 255), (9, 99, 9, 255))))
    picture.paste(Image.new("RGBA", picture.size, fill), mask=mask)
