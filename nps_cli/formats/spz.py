""".spz, Niantic's compressed scenes, about a tenth of a .ply, both ways.

Written as version 3: gzip around a header and one stream per attribute, as in `load-spz.cc` of
nianticlabs/spz. Its axes are OpenGL's: ours, rotated by half a turn about x.
"""

import gzip
import math
import struct
import zlib

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.gaussians import Gaussians
from models.geometry.spherical_harmonics import turning_matrix
from nps_cli.errors import NpsError

MAGIC, VERSION = 0x5053474E, 3  # "NGSP"
HEADER = struct.Struct("<IIIBBBx")  # magic, version, count, SH degree, fractional bits, flags
MAX_SH_DEGREE = 3
POSITION_BITS = 24
MAX_FRACTIONAL_BITS = 20  # of a position; fewer where the scene is large
COLOR_SCALE = 0.15  # of the degree 0 coefficient: leaves room for colors beyond [0, 1]
LOG_SCALE_STEPS, MIN_LOG_SCALE = 16, -10  # steps per unit of the natural logarithm
ROTATION_STEPS = 511  # from 0 to 1 / sqrt(2), the largest second-largest component
SH_BITS = 5, 4, 4  # kept of coefficients of degree 1, 2, 3
CONVERT = "Convert it to .ply with the program that wrote it."
FLIP_YZ = torch.tensor([1.0, -1.0, -1.0])  # half a turn about x


def encode_spz(gaussians: Gaussians, sh_degree: int = MAX_SH_DEGREE) -> bytes:
    """Return a file's content, harmonics cut to `sh_degree`.

    Raises NpsError if a Gaussian is too far away.
    """
    degree = min(gaussians.sh_degree, sh_degree, MAX_SH_DEGREE)
    fraction = _fraction_bits(gaussians.means)
    fixed_point = (gaussians.means * FLIP_YZ.to(gaussians.means) * 2**fraction).round().int()
    log_scales = gaussians.scales.clamp(min=1e-12).log()
    rest = gaussians.harmonics[:, :, 1 : (degree + 1) ** 2].mT  # coefficient by coefficient
    rest = rest * _flip_signs(degree).to(rest)
    streams = (
        fixed_point.contiguous().cpu().numpy().astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3],
        _to_bytes(gaussians.opacities * 255),
        _to_bytes((COLOR_SCALE * gaussians.harmonics[:, :, 0] + 0.5) * 255),
        _to_bytes((log_scales - MIN_LOG_SCALE) * LOG_SCALE_STEPS),
        _pack_rotations(gaussians.rotations),
        *([_pack_harmonics(rest)] if degree else []),
    )
    header = HEADER.pack(MAGIC, VERSION, len(gaussians), degree, fraction, 0)
    content = header + b"".join(np.ascontiguousarray(stream).tobytes() for stream in streams)
    return gzip.compress(content, compresslevel=6, mtime=0)


def decode_spz(content: bytes, name: str) -> Gaussians:
    """Return a scene of version 2 or 3; raise NpsError for other or damaged files."""
    content = _decompress(content, name)
    version, count, degree, fraction = _parse_header(content, name)
    coefficients = (degree + 1) ** 2 - 1
    widths = (9, 1, 3, 3, 4 if version == VERSION else 3, 3 * coefficients)
    body = np.frombuffer(content, np.uint8, offset=HEADER.size)
    if len(body) != count * sum(widths):
        raise NpsError(
            f"{name} is cut short, or its header is damaged: {len(body)} bytes for {count} "
            "Gaussians.",
            hint="Copy it again, or make it again.",
        )
    ends = count * np.cumsum(widths[:-1])
    streams = (stream.reshape(count, -1) for stream in np.split(body, ends))
    position, opacity, color, scale, rotation, harmonics = streams
    padded = np.zeros((count, 3, 4), np.uint8)
    padded[:, :, 1:] = position.reshape(count, 3, 3)
    fixed_point = torch.from_numpy(padded.view("<i4")[:, :, 0].astype(np.float32)) / 2**8
    degree_0 = (_to_floats(color) / 255 - 0.5) / COLOR_SCALE
    rest = (_to_floats(harmonics) / 128 - 1).unflatten(1, (coefficients, 3))
    rest = rest * _flip_signs(degree)
    unpack = _unpack_rotations if version == VERSION else _unpack_rotations_v2
    return Gaussians(
        means=fixed_point / 2**fraction * FLIP_YZ,
        scales=(_to_floats(scale) / LOG_SCALE_STEPS + MIN_LOG_SCALE).exp(),
        rotations=unpack(rotation),
        harmonics=torch.cat([degree_0[:, :, None], rest.mT], dim=2),
        opacities=_to_floats(opacity)[:, 0] / 255,
    )


def _decompress(content: bytes, name: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        newer = content[:4] == MAGIC.to_bytes(4, "little")
        problem = (
            "an .spz of a version that nps cannot read" if newer else "no .spz file, or damaged"
        )
        raise NpsError(f"{name} is {problem}.", hint=CONVERT) from error


def _parse_header(content: bytes, name: str) -> tuple[int, int, int, int]:
    """Return version, count, SH degree and fractional bits."""
    if len(content) < HEADER.size:
        raise NpsError(f"{name} is cut short.", hint="Copy it again, or make it again.")
    magic, version, count, degree, fraction, _ = HEADER.unpack_from(content)
    if magic != MAGIC or version not in (2, VERSION) or degree > MAX_SH_DEGREE or not count:
        raise NpsError(
            f"{name} is an .spz that nps cannot read: version {version}, {count} Gaussians, "
            f"harmonics of degree {degree}.",
            hint=CONVERT,
        )
    return version, count, degree, fraction


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


def _flip_signs(degree: int) -> Float[Tensor, "coefficient 1"]:
    """Return the signs that the flip of axes gives to the harmonics of degree 1 and more."""
    return turning_matrix(torch.diag(FLIP_YZ), degree).diagonal()[1:, None].round()


def _to_bytes(values: Tensor) -> np.ndarray:
    return values.detach().round().clamp(0, 255).byte().cpu().numpy()


def _to_floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _pack_harmonics(rest: Float[Tensor, "gaussian coefficient 3"]) -> np.ndarray:
    """Return bytes with only their leading `SH_BITS` set, so that gzip removes the others."""
    bits = [bits for degree, bits in enumerate(SH_BITS, start=1) for _ in range(2 * degree + 1)]
    step = 2.0 ** (8 - torch.tensor(bits[: rest.shape[1]], device=rest.device))[:, None]
    return _to_bytes(((rest * 128 + 128) / step).round() * step)


def _pack_rotations(rotations: Float[Tensor, "gaussian 4"]) -> np.ndarray:
    """Pack quaternions "smallest three": 2 bits for the largest component, 10 for each other."""
    wxyz = torch.nn.functional.normalize(rotations.detach().cpu().double(), dim=-1)
    xyzw = wxyz[:, [1, 2, 3, 0]] * torch.cat([FLIP_YZ, torch.ones(1)]).double()
    largest = xyzw.abs().argmax(dim=1)
    xyzw = xyzw * xyzw.gather(1, largest[:, None]).sign()
    steps = (xyzw.abs() * math.sqrt(2) * ROTATION_STEPS).round().long()
    fields = steps | ((xyzw < 0).long() << 9)
    packed = largest
    for component in range(4):
        shifted = (packed << 10) | fields[:, component]
        packed = torch.where(largest == component, packed, shifted)
    return packed.numpy().astype("<u4").view(np.uint8)


def _unpack_rotations(packed: np.ndarray) -> Float[Tensor, "gaussian 4"]:
    bits = torch.from_numpy(np.ascontiguousarray(packed).view("<u4")[:, 0].astype(np.int64))
    largest = bits >> 30
    xyzw = torch.zeros(len(bits), 4)
    for component in reversed(range(4)):
        here = largest != component
        value = (bits & 511) / (math.sqrt(2) * ROTATION_STEPS)
        signed = torch.where((bits >> 9) & 1 == 1, -value, value)
        xyzw[:, component] = torch.where(here, signed, xyzw[:, component])
        bits = torch.where(here, bits >> 10, bits)
    rest = (1 - xyzw.square().sum(dim=1)).clamp(min=0).sqrt()
    return _from_opengl_xyzw(xyzw.scatter(1, largest[:, None], rest[:, None]))


def _unpack_rotations_v2(packed: np.ndarray) -> Float[Tensor, "gaussian 4"]:
    """Unpack version 2: a byte for x, y and z each; w is not negative."""
    xyz = _to_floats(packed) / 127.5 - 1
    rest = (1 - xyz.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt()
    return _from_opengl_xyzw(torch.cat([xyz, rest], dim=1))


def _from_opengl_xyzw(xyzw: Float[Tensor, "gaussian 4"]) -> Float[Tensor, "gaussian 4"]:
    """Return unit quaternions in our axes, wxyz."""
    xyzw = torch.cat([xyzw[:, :3] * FLIP_YZ, xyzw[:, 3:]], dim=1)
    return torch.nn.functional.normalize(xyzw[:, [3, 0, 1, 2]], dim=-1)
