""".sog, PlayCanvas' scenes as lossless WebP images in a zip: versions 1 and 2 are read, 2 written.

Every Gaussian is a pixel: positions are 16 bits of sign(x) log(1 + |x|), rotations "smallest
three", other numbers bytes, which version 2 looks up in a codebook and version 1 spreads evenly.
Harmonics of degree 1 and more come from a palette of at most 65,536 entries.
"""

import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.files.json_reader import parse_json
from models.geometry.gaussians import Gaussians
from nps_cli.errors import NpsError
from nps_cli.formats.ply import encode_ply
from nps_cli.formats.scene_file import COPY_AGAIN, PIECE, SceneFile, Source, damaged

META = "meta.json"
MAX_META_BYTES, MAX_IMAGE_BYTES = 1 << 24, 1 << 30
MIN_PIXELS, PIXELS_PER_BYTE = 1 << 22, 4  # that images may have, over the size of the file
PALETTE_COLUMNS = 64
DAMAGE = (  # what zipfile and Pillow raise
    *(RuntimeError, OSError, EOFError, SyntaxError, zlib.error),
    *(zipfile.BadZipFile, Image.DecompressionBombError),
)
FIRST_QUATERNION_TAG = 252  # of the last byte: w is the largest component; then x, y, z


def encode_sog(gaussians: Gaussians) -> Iterator[bytes]:
    """Yield a file of SH degree 0, as palettes of more take minutes; ValueError as `encode_ply`."""
    from gaussforge import GaussForge

    written = GaussForge().convert(b"".join(encode_ply(gaussians, sh_degree=0)), "ply", "sog")
    if "data" not in written:
        raise ValueError(written["error"])
    yield written["data"]


def open_sog(source: Source) -> SceneFile:
    """Return a scene; raise NpsError for other archives, and damaged ones."""
    try:
        with zipfile.ZipFile(source.file) as archive:  # type: ignore[arg-type]
            return _open_archive(archive, source)
    except zipfile.BadZipFile as error:
        raise damaged(source.name, str(error)) from error


def _open_archive(archive: zipfile.ZipFile, source: Source) -> SceneFile:
    found = [entry for entry in archive.namelist() if entry.rpartition("/")[2] == META]
    if not found:
        raise NpsError(
            f"{source.name} is a zip archive without {META}, so no .sog scene.", hint=COPY_AGAIN
        )
    folder = found[0].removesuffix(META)
    limit = max(MIN_PIXELS, PIXELS_PER_BYTE * (source.limit or 0))
    try:
        meta = parse_json(_read(archive, found[0], MAX_META_BYTES))
        version = meta.get("version", 1)
        if version not in (1, 2):
            raise ValueError(f"version {version}")
        count = int(meta["count"] if version == 2 else meta["means"]["shape"][0])

        def image(part: str, index: int = 0) -> np.ndarray:
            path = folder + meta[part]["files"][index]
            return _read_image(_read(archive, path, MAX_IMAGE_BYTES), limit)

        layers = {
            "low": image("means", 0),
            "high": image("means", 1),
            **{part: image(part) for part in ("scales", "quats", "sh0")},
        }
        palette, degree = None, 0
        if meta.get("shN"):
            layers["labels"] = image("shN", 1)
            palette, degree = _palette(meta["shN"], image("shN", 0))
        if not all(0 < count <= len(layer) for layer in layers.values()):
            raise ValueError(f"{count} Gaussians in images of fewer pixels")
        tables = {part: _table(meta[part]) for part in ("scales", "sh0")}
        low, high = (
            np.array(meta["means"][end], np.float32).reshape(3) for end in ("mins", "maxs")
        )
        opacity = _opacities(meta["sh0"])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise damaged(source.name, f"{type(error).__name__}: {error}") from error
    except DAMAGE as error:
        raise damaged(source.name, str(error)) from error
    pieces = _decode(layers, count, tables, (low, high), opacity, palette)
    return SceneFile(f".sog, version {version}", count, degree, [], pieces)


def _read(archive: zipfile.ZipFile, path: str, limit: int) -> bytes:
    with archive.open(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} is too large")
    return content


def _read_image(content: bytes, limit: int) -> np.ndarray:
    """Return the pixels, [pixel, 4] bytes, row by row; check the size before decoding."""
    with Image.open(io.BytesIO(content)) as image:
        if image.width * image.height > limit:
            raise ValueError(f"an image of {image.width} x {image.height} pixels")
        pixels = np.asarray(image.convert("RGBA"))
    return pixels.reshape(-1, 4)


def _table(part: dict[str, Any]) -> np.ndarray:
    """Return the values of bytes: [256, 3], a column per channel."""
    if "codebook" in part:
        codebook = np.array(part["codebook"], np.float32).reshape(-1)[:256]
        return np.repeat(np.resize(codebook, 256)[:, None], 3, axis=1)
    low, high = (np.array(part[end], np.float32).reshape(-1)[:3] for end in ("mins", "maxs"))
    return low + np.linspace(0, 1, 256, dtype=np.float32)[:, None] * (high - low)


def _opacities(part: dict[str, Any]) -> np.ndarray:
    """Return the opacities of bytes, [256]; version 1 stores logits."""
    shares = np.linspace(0, 1, 256, dtype=np.float32)
    if "codebook" in part:
        return shares
    low, high = float(part["mins"][3]), float(part["maxs"][3])
    return torch.from_numpy(low + shares * (high - low)).sigmoid().numpy()


def _palette(part: dict[str, Any], image: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the palette, [entry, 3, coefficient] in floats, and its SH degree."""
    if "codebook" in part:
        degree = int(part["bands"])
        values = np.resize(np.array(part["codebook"], np.float32), 256)
    else:
        degree = round(math.sqrt(int(part["shape"][1]) / 3 + 1)) - 1
        values = np.linspace(float(part["mins"]), float(part["maxs"]), 256, dtype=np.float32)
    if not 1 <= degree <= 3:
        raise ValueError(f"harmonics of degree {degree}")
    terms = (degree + 1) ** 2 - 1
    whole = len(image) // (PALETTE_COLUMNS * terms) * PALETTE_COLUMNS
    if not whole:
        raise ValueError("a palette without entries")
    entries = image[: whole * terms, :3].reshape(whole, terms, 3)
    return values[entries].transpose(0, 2, 1), degree


def _decode(
    layers: dict[str, np.ndarray],
    count: int,
    tables: dict[str, np.ndarray],
    bounds: tuple[np.ndarray, np.ndarray],
    opacities: np.ndarray,
    palette: np.ndarray | None,
) -> Iterator[Gaussians]:
    channels = np.arange(3)
    low, high = bounds
    for start in range(0, count, PIECE):
        part = {key: layer[start : min(start + PIECE, count)] for key, layer in layers.items()}
        fixed = part["high"][:, :3].astype(np.float32) * 256 + part["low"][:, :3]
        logs = torch.from_numpy(low + fixed / np.float32(65535) * (high - low))
        harmonics = tables["sh0"][part["sh0"][:, :3], channels][:, :, None]
        if palette is not None:
            label = part["labels"][:, :2].astype(np.int64) @ (1, 256)
            rest = palette[np.minimum(label, len(palette) - 1)]
            harmonics = np.concatenate([harmonics, rest], axis=2)
        yield Gaussians(
            means=logs.sign() * logs.abs().expm1(),
            scales=torch.from_numpy(tables["scales"][part["scales"][:, :3], channels]).exp(),
            rotations=_unpack_rotations(part["quats"]),
            harmonics=torch.from_numpy(harmonics),
            opacities=torch.from_numpy(opacities[part["sh0"][:, 3]]),
        )


def _unpack_rotations(packed: np.ndarray) -> Tensor:
    """Return unit quaternions wxyz; those with an unknown tag are identities."""
    tag = packed[:, 3].astype(np.int64) - FIRST_QUATERNION_TAG
    three = (packed[:, :3].astype(np.float32) / 127.5 - 1) / np.float32(math.sqrt(2))
    rest = np.sqrt(np.maximum(1 - np.square(three).sum(axis=1, keepdims=True), 0))
    place = np.array([[3, 0, 1, 2], [0, 3, 1, 2], [0, 1, 3, 2], [0, 1, 2, 3]])[np.maximum(tag, 0)]
    wxyz = np.take_along_axis(np.concatenate([three, rest], axis=1), place, axis=1)
    wxyz[tag < 0] = 1, 0, 0, 0
    return torch.nn.functional.normalize(torch.from_numpy(wxyz), dim=-1)
