""".spz, Niantic's compressed scenes, about a tenth of a .ply: all versions in, version 3 out.

A header and one stream per attribute, as in `load-spz.cc` of nianticlabs/spz. Up to version 3 one
gzip stream is around everything; in version 4 each attribute is a Zstandard frame of its own, and
a table behind the header has their lengths. Its axes are OpenGL's: ours, turned half about x.
"""

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.gaussians import Gaussians
from nps_cli.errors import NpsError
from nps_cli.formats.scene_file import (
    PIECE,
    SceneFile,
    Source,
    damaged,
    expansion_limit,
)
from nps_cli.formats.spz_bits import (
    flip_signs,
    pack_harmonics,
    pack_positions,
    pack_rotations,
    to_bytes,
    to_floats,
    unpack_half_positions,
    unpack_positions,
    unpack_rotations,
    unpack_rotations_v2,
)

MAGIC, VERSION = b"NGSP", 3
HEADER = struct.Struct("<4sIIBBBB")  # magic, version, count, SH degree, fractional bits, flags, -
TABLE_HEADER = struct.Struct("<I12x")  # of version 4: where the table of streams begins
TABLE_ENTRY = struct.Struct("<QQ")  # compressed and decompressed length
LAST_VERSION, HAS_EXTENSIONS = 4, 2
MAX_SH_DEGREE = 3  # that is written
MAX_READ_SH_DEGREE = 4
POSITION_BITS = 24
MAX_FRACTIONAL_BITS = 20  # of a position; fewer where the scene is large
MAX_READ_FRACTIONAL_BITS = 30
COLOR_SCALE = 0.15  # of the degree 0 coefficient: leaves room for colors beyond [0, 1]
LOG_SCALE_STEPS, MIN_LOG_SCALE = 16, -10  # steps per unit of the natural logarithm
MAX_WINDOW = 1 << 27  # of a Zstandard frame, as its command-line tool has it


def encode_spz(gaussians: Gaussians, sh_degree: int = MAX_SH_DEGREE) -> Iterator[bytes]:
    """Yield a file in pieces, harmonics cut to `sh_degree`.

    Raises NpsError if a Gaussian is too far away.
    """
    degree = min(gaussians.sh_degree, sh_degree, MAX_SH_DEGREE)
    fraction = _fraction_bits(gaussians.means)
    compressor = zlib.compressobj(6, wbits=31)  # a gzip stream, without a time
    header = HEADER.pack(MAGIC, VERSION, len(gaussians), degree, fraction, 0, 0)
    yield compressor.compress(header)
    for stream in range(5 + (degree > 0)):
        for piece in gaussians.chunks(PIECE):
            packed = _pack(piece, stream, degree, fraction)
            yield compressor.compress(np.ascontiguousarray(packed).tobytes())
    yield compressor.flush()


def _pack(gaussians: Gaussians, stream: int, degree: int, fraction: int) -> np.ndarray:
    """Return the bytes of one attribute, by its place in the file."""
    match stream:
        case 0:
            return pack_positions(gaussians.means, fraction)
        case 1:
            return to_bytes(gaussians.opacities * 255)
        case 2:
            return to_bytes((COLOR_SCALE * gaussians.harmonics[:, :, 0] + 0.5) * 255)
        case 3:
            log_scales = gaussians.scales.clamp(min=1e-12).log()
            return to_bytes((log_scales - MIN_LOG_SCALE) * LOG_SCALE_STEPS)
        case 4:
            return pack_rotations(gaussians.rotations)
        case _:
            rest = gaussians.harmonics[:, :, 1 : (degree + 1) ** 2].mT
            return pack_harmonics(rest * flip_signs(degree).to(rest))


def open_spz(source: Source) -> SceneFile:
    """Return a scene of any version; raise NpsError if its header is damaged or from the future.

    Up to version 3 the source is what gzip decompresses.
    """
    header = source.read(HEADER.size)
    _, version, count, degree, fraction, flags, streams = HEADER.unpack(header)
    known = (
        1 <= version <= LAST_VERSION
        and degree <= MAX_READ_SH_DEGREE
        and fraction <= MAX_READ_FRACTIONAL_BITS
    )
    if not known:
        raise NpsError(
            f"{source.name} is an .spz that nps cannot read: version {version}, {count} Gaussians, "
            f"harmonics of degree {degree}, {fraction} fractional bits.",
            hint="Convert it to .ply with the program that wrote it.",
        )
    widths = [6 if version == 1 else 9, 1, 3, 3, 3 if version < 3 else 4]
    widths += [3 * ((degree + 1) ** 2 - 1)] if degree else []
    length = HEADER.size + count * sum(widths)
    if version < LAST_VERSION:
        source.check_length(length)
        arrays = _read_plain(source, count, widths, bool(flags & HAS_EXTENSIONS))
    elif source.limit is not None and length > expansion_limit(source.limit):
        raise damaged(source.name, f"{count} Gaussians in {source.limit} bytes")
    else:
        arrays = _read_frames(source, count, widths, streams)
    pieces = _decode(arrays, version, count, degree, fraction)
    return SceneFile(f".spz, version {version}", count, degree, [], pieces)


def _read_plain(
    source: Source, count: int, widths: list[int], has_extensions: bool
) -> Iterator[np.ndarray]:
    """Yield the attributes of versions 1 to 3: [gaussian, width] bytes."""
    for width in widths:
        yield np.frombuffer(source.read(count * width), np.uint8).reshape(count, width)
    with source.damage_named():
        if source.file.read(1) and not has_extensions:
            raise damaged(source.name, f"more bytes than those of {count} Gaussians")


def _read_frames(
    source: Source, count: int, widths: list[int], streams: int
) -> Iterator[np.ndarray]:
    """Yield the attributes of version 4, each decompressed to its known length and no further."""
    import zstandard

    (start,) = TABLE_HEADER.unpack(source.read(TABLE_HEADER.size))
    gap = start - HEADER.size - TABLE_HEADER.size
    source.check_length(start)
    if gap < 0 or streams != len(widths):
        raise damaged(source.name, f"a table of {streams} streams at byte {start}")
    source.read(gap)  # extensions
    table = [TABLE_ENTRY.unpack(source.read(TABLE_ENTRY.size)) for _ in range(streams)]
    for (compressed, length), width in zip(table, widths, strict=True):
        source.check_length(compressed)
        if length != count * width:
            raise damaged(source.name, f"a stream of {length} bytes for {count} Gaussians")
        frame = source.read(compressed)
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        with source.damage_named(), decompressor.stream_reader(frame) as reader:
            content = reader.read(length)
        if len(content) != length:
            raise damaged(source.name, "a stream is cut short")
        yield np.frombuffer(content, np.uint8).reshape(count, width)


def _decode(
    arrays: Iterator[np.ndarray], version: int, count: int, degree: int, fraction: int
) -> Iterator[Gaussians]:
    position, opacity, color, scale, rotation, *harmonics = arrays
    unpack = unpack_rotations if version >= VERSION else unpack_rotations_v2
    for start in range(0, count, PIECE):
        part = slice(start, start + PIECE)
        terms = (to_floats(color[part]) / 255 - 0.5)[:, :, None] / COLOR_SCALE
        if harmonics:
            rest = (to_floats(harmonics[0][part]) / 128 - 1).unflatten(1, (-1, 3))
            terms = torch.cat([terms, (rest * flip_signs(degree)).mT], dim=2)
        means = (
            unpack_half_positions(position[part])
            if version == 1
            else unpack_positions(position[part], fraction)
        )
        yield Gaussians(
            means=means,
            scales=(to_floats(scale[part]) / LOG_SCALE_STEPS + MIN_LOG_SCALE).exp(),
            rotations=unpack(rotation[part]),
            harmonics=terms,
            opacities=to_floats(opacity[part])[:, 0] / 255,
        )


def _fraction_bits(means: Float[Tensor, "gaussian 3"]) -> int:
    """Return the most fractional bits that leave room for the farthest Gaussian."""
    farthest = max(float(means.abs().max()) if len(means) else 0.0, 1e-3)
    fraction = POSITION_BITS - 1 - math.ceil(math.log2(farthest * (1 + 1e-6)))
    if fraction < 0:
        raise NpsError(
            f"An .spz holds nothing farther away than {2 ** (POSITION_BITS - 1)} units; this "
            f"scene has Gaussians at {farthest:.3g}.",
            hint="Write a .ply instead.",
        )
    return min(fraction, MAX_FRACTIONAL_BITS)
