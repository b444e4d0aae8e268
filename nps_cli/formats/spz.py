""".spz, Niantic's compressed scenes, about a tenth of a .ply, both ways.

Version 3, which every reader knows: gzip around a header and one stream after another for each
kind of value. Its axes are OpenGL's: ours, turned by half a circle about x.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.gaussians import Gaussians
from models.geometry.spherical_harmonics import turning_matrix
from nps_cli.errors import NpsError

MAGIC, VERSION = 0x5053474E, 3  # "NGSP"
HEADER = struct.Struct("<IIIBBBx")  # magic, version, count, degree, fractional bits, flags
MOST_DEGREE = 3
POSITION_BITS = 24
MOST_FRACTION = 20  # bits behind the point; fewer where the scene is large
COLOR_SCALE = 0.15  # of the constant harmonic's coefficient: leaves room for colors beyond [0, 1]
SCALE_STEPS, LEAST_LOG_SCALE = 16, -10  # per natural logarithm
ROTATION_STEPS = 511  # between zero and the most that a second largest component can be
SH_BITS = 5, 4, 4  # of the harmonics of degree 1, 2, 3
TURN = torch.tensor([1.0, -1.0, -1.0])  # half a circle about x


def save_spz(gaussians: Gaussians, path: Path) -> None:
    """Write a scene: see `pack_spz`."""
    path.write_bytes(pack_spz(gaussians))


def pack_spz(gaussians: Gaussians, sh_degree: int = MOST_DEGREE) -> bytes:
    """A scene as a file's content: values rounded to 20 bytes, or with harmonics more.

    Harmonics are cut to `sh_degree`. Raises NpsError where a Gaussian is too far away.
    """
    degree = min(gaussians.sh_degree, sh_degree, MOST_DEGREE)
    fraction = _fraction_bits(gaussians.means)
    fixed = (gaussians.means * TURN.to(gaussians.means) * 2**fraction).round().int().contiguous()
    log_scales = gaussians.scales.clamp(min=1e-12).log()
    rest = gaussians.harmonics[:, :, 1 : (degree + 1) ** 2].mT  # coefficient by coefficient
    rest = rest * _turned_signs(degree).to(rest)
    streams = (
        fixed.cpu().numpy().astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3],
        _to_bytes(gaussians.opacities * 255),
        _to_bytes((COLOR_SCALE * gaussians.harmonics[:, :, 0] + 0.5) * 255),
        _to_bytes((log_scales - LEAST_LOG_SCALE) * SCALE_STEPS),
        _pack_rotations(gaussians.rotations),
        *([_round_harmonics(rest)] if degree else []),
    )
    header = HEADER.pack(MAGIC, VERSION, len(gaussians), degree, fraction, 0)
    content = header + b"".join(np.ascontiguousarray(stream).tobytes() for stream in streams)
    return gzip.compress(content, compresslevel=6, mtime=0)


def load_spz(path: Path) -> Gaussians:
    """Read a scene of version 2 or 3."""
    header, body = _open(path)
    version, count, degree, fraction = header
    coefficients = (degree + 1) ** 2 - 1
    widths = (9, 1, 3, 3, 4 if version == VERSION else 3, 3 * coefficients)
    if len(body) != count * sum(widths):
        raise NpsError(
            f"{path} is cut short, or its header is damaged: {len(body)} bytes for {count} "
            "Gaussians.",
            hint="Copy it again, or make it again.",
        )
    streams, start = [], 0
    for width in widths:
        part = np.frombuffer(body, np.uint8, count * width, start).reshape(count, width)
        streams.append(part)
        start += count * width
    position, opacity, color, scale, rotation, rest = streams
    padded = np.zeros((count, 3, 4), np.uint8)
    padded[:, :, 1:] = position.reshape(count, 3, 3)
    fixed = torch.from_numpy(padded.view("<i4")[:, :, 0].astype(np.float32)) / 2**8
    constant = (_to_floats(color) / 255 - 0.5) / COLOR_SCALE
    further = (_to_floats(rest) / 128 - 1).unflatten(1, (coefficients, 3))
    further = further * _turned_signs(degree)
    unpack = _unpack_rotations if version == VERSION else _unpack_short_rotations
    return Gaussians(
        means=fixed / 2**fraction * TURN,
        scales=(_to_floats(scale) / SCALE_STEPS + LEAST_LOG_SCALE).exp(),
        rotations=unpack(rotation),
        harmonics=torch.cat([constant[:, :, None], further.mT], dim=2),
        opacities=_to_floats(opacity)[:, 0] / 255,
    )


def _open(path: Path) -> tuple[tuple[int, int, int, int], bytes]:
    """Version, count, degree and bits behind the point, and what follows."""
    content = path.read_bytes()
    try:
        content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        newer = content[:4] == MAGIC.to_bytes(4, "little")
        raise NpsError(
            f"{path} is an .spz of a version that nps cannot read."
            if newer
            else f"{path} is no .spz file, or damaged.",
            hint="Convert it to .ply with the program that wrote it.",
        ) from error
    if len(content) < HEADER.size:
        raise NpsError(f"{path} is cut short.", hint="Copy it again, or make it again.")
    magic, version, count, degree, fraction, _ = HEADER.unpack_from(content)
    if magic != MAGIC or version not in (2, VERSION) or degree > MOST_DEGREE or not count:
        raise NpsError(
            f"{path} is an .spz that nps cannot read: version {version}, {count} Gaussians, "
            f"harmonics of degree {degree}.",
            hint="Convert it to .ply with the program that wrote it.",
        )
    return (version, count, degree, fraction), content[HEADER.size :]


def _fraction_bits(means: Float[Tensor, "gaussian 3"]) -> int:
    """As many as leave room for the farthest Gaussian."""
    farthest = max(float(means.abs().max()) if len(means) else 0.0, 1e-3)
    fraction = POSITION_BITS - 1 - math.ceil(math.log2(farthest * (1 + 1e-6)))
    if fraction < 0:
        raise NpsError(
            f"An .spz holds nothing farther away than {2 ** (POSITION_BITS - 1)} units; this "
            f"scene has Gaussians at {farthest:.3g}.",
            hint="Write a .ply instead.",
        )
    return min(fraction, MOST_FRACTION)


def _turned_signs(degree: int) -> Float[Tensor, "coefficient 1"]:
    """Signs that the turn of the axes gives to all harmonics but the constant one."""
    return turning_matrix(torch.diag(TURN), degree).diagonal()[1:, None].round()


def _to_bytes(values: Tensor) -> np.ndarray:
    return values.detach().round().clamp(0, 255).byte().cpu().numpy()


def _to_floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _round_harmonics(rest: Float[Tensor, "gaussian coefficient 3"]) -> np.ndarray:
    """Bytes of which only the first few bits count: the rest compresses to nothing."""
    bits = [bits for degree, bits in enumerate(SH_BITS, start=1) for _ in range(2 * degree + 1)]
    step = 2.0 ** (8 - torch.tensor(bits[: rest.shape[1]], device=rest.device))[:, None]
    return _to_bytes(((rest * 128 + 128) / step).round() * step)


def _pack_rotations(rotations: Float[Tensor, "gaussian 4"]) -> np.ndarray:
    """Two bits for which component is the largest, and ten for each of the others, xyzw."""
    wxyz = torch.nn.functional.normalize(rotations.detach().cpu().double(), dim=-1)
    xyzw = wxyz[:, [1, 2, 3, 0]] * torch.cat([TURN, torch.ones(1)]).double()
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
    return _to_wxyz(xyzw.scatter(1, largest[:, None], rest[:, None]))


def _unpack_short_rotations(packed: np.ndarray) -> Float[Tensor, "gaussian 4"]:
    """Version 2: a byte for x, y and z each; w is not negative."""
    xyz = _to_floats(packed) / 127.5 - 1
    rest = (1 - xyz.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt()
    return _to_wxyz(torch.cat([xyz, rest], dim=1))


def _to_wxyz(xyzw: Float[Tensor, "gaussian 4"]) -> Float[Tensor, "gaussian 4"]:
    """In our axes and our order."""
    xyzw = torch.cat([xyzw[:, :3] * TURN, xyzw[:, 3:]], dim=1)
    return torch.nn.functional.normalize(xyzw[:, [3, 0, 1, 2]], dim=-1)
