"""Scenes as compressed .ply, which PlayCanvas' SuperSplat and splat-transform write; read only.

Chunks of 256 Gaussians share bounds, between which positions and scales (logarithms) have 10 or 11
bits and colors 8; rotations are "smallest three" with 10 bits each.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from nps_cli.errors import NpsError
from nps_cli.formats.ply_header import Element, Header
from nps_cli.formats.scene_file import COPY_AGAIN, PIECE, SceneFile, Source

CHUNK = 256
PACKED = "packed_position", "packed_rotation", "packed_scale", "packed_color"
BITS = {"packed_position": (11, 10, 11), "packed_scale": (11, 10, 11), "packed_color": (8,) * 4}
BOUNDS = {"packed_position": "xyz", "packed_scale": ("scale_x", "scale_y", "scale_z")}
SH_RANGE = 8.0  # of a coefficient, around zero


def is_compressed(header: Header) -> bool:
    """Return True if the vertices of a PLY file are packed."""
    vertex = header.element("vertex")
    return vertex is not None and {*PACKED} <= vertex.properties.keys()


def open_compressed_ply(source: Source, header: Header) -> SceneFile:
    """Return a scene behind its header; raise NpsError if an element is missing or cut short."""
    vertex, chunk, sh = (header.element(name) for name in ("vertex", "chunk", "sh"))
    known = {f"{end}_{axis}" for end in ("min", "max") for part in BOUNDS.values() for axis in part}
    if (
        vertex is None
        or chunk is None
        or not header.order
        or chunk.count < -(-vertex.count // CHUNK)
        or not known <= chunk.properties.keys()
        or any(vertex.properties[key] != "u4" for key in PACKED)
        or any(element.has_lists for element in header.elements)
    ):
        raise NpsError(
            f"{source.name} is a compressed PLY file of an unknown layout.", hint=COPY_AGAIN
        )
    degree = _sh_degree(sh, vertex, source.name)
    rows = [header.row(element) for element in header.elements]
    source.check_length(
        sum(each.count * row.itemsize for each, row in zip(header.elements, rows, strict=True))
    )
    pieces = _decode(source, header, rows, degree)
    return SceneFile("compressed PLY", vertex.count, degree, header.comments, pieces)


def _sh_degree(sh: Element | None, vertex: Element, name: str) -> int:
    if sh is None or not sh.properties:
        return 0
    degree = math.isqrt(len(sh.properties) // 3 + 1) - 1
    rest = {f"f_rest_{index}": "u1" for index in range(3 * ((degree + 1) ** 2 - 1))}
    if sh.count != vertex.count or sh.properties != rest:
        raise NpsError(f"{name} has an element sh of an unknown layout.", hint=COPY_AGAIN)
    return degree


def _decode(
    source: Source, header: Header, rows: list[np.dtype], degree: int
) -> Iterator[Gaussians]:
    tables = {
        element.name: np.frombuffer(source.read(element.count * row.itemsize), row)
        for element, row in zip(header.elements, rows, strict=True)
    }
    vertices, chunks = tables["vertex"], tables["chunk"]
    for start in range(0, len(vertices), PIECE):
        part = slice(start, start + PIECE)
        bounds = chunks[np.arange(start, min(start + PIECE, len(vertices))) // CHUNK]
        rest = tables["sh"][part] if degree else None
        yield _to_gaussians(vertices[part], bounds, rest)


def _to_gaussians(vertices: np.ndarray, bounds: np.ndarray, sh: np.ndarray | None) -> Gaussians:
    def unpack(key: str) -> np.ndarray:
        return _between(_unpack(vertices[key], BITS[key]), bounds, tuple(BOUNDS[key]))

    rgba = _unpack(vertices["packed_color"], BITS["packed_color"])
    rgb, opacity = rgba[:, :3], rgba[:, 3]
    if "min_r" in (bounds.dtype.names or ()):
        rgb = _between(rgb, bounds, ("r", "g", "b"))
    harmonics = torch.from_numpy((rgb - 0.5) / SH_DEGREE_0)[:, :, None]
    if sh is not None:
        steps = np.stack([sh[name] for name in sorted(sh.dtype.names or (), key=_index)], axis=-1)
        share = np.where(steps == 255, 1, np.where(steps == 0, 0, (steps + np.float32(0.5)) / 256))
        rest = torch.from_numpy(((share - 0.5) * SH_RANGE).astype(np.float32))
        harmonics = torch.cat([harmonics, rest.unflatten(1, (3, -1))], dim=2)
    return Gaussians(
        means=torch.from_numpy(unpack("packed_position")),
        scales=torch.from_numpy(unpack("packed_scale")).exp(),
        rotations=_unpack_rotations(vertices["packed_rotation"]),
        harmonics=harmonics,
        opacities=torch.from_numpy(opacity.copy()),
    )


def _index(name: str) -> int:
    return int(name.removeprefix("f_rest_"))


def _unpack(packed: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Return the fields of 32-bit words, the highest first, each over its largest value."""
    shift, fields = 32, []
    for width in bits:
        shift -= width
        largest = (1 << width) - 1
        fields.append((packed >> shift & largest).astype(np.float32) / np.float32(largest))
    return np.stack(fields, axis=-1)


def _between(shares: np.ndarray, bounds: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
    low, high = (
        np.stack([bounds[f"{end}_{axis}"] for axis in axes], axis=-1).astype(np.float32)
        for end in ("min", "max")
    )
    with np.errstate(over="ignore", invalid="ignore"):  # such values are found later
        return low * (1 - shares) + high * shares


def _unpack_rotations(packed: np.ndarray) -> Tensor:
    """Return unit quaternions wxyz: 2 bits say which component is left out, as the largest."""
    largest = torch.from_numpy((packed >> 30).astype(np.int64))
    fields = [(packed >> shift & 1023).astype(np.float32) / 1023 for shift in (20, 10, 0)]
    three = torch.from_numpy((np.stack(fields, axis=-1) - 0.5) * np.float32(math.sqrt(2)))
    rest = (1 - three.square().sum(dim=1, keepdim=True)).clamp(min=0).sqrt()
    place = torch.tensor([[3, 0, 1, 2], [0, 3, 1, 2], [0, 1, 3, 2], [0, 1, 2, 3]])[largest]
    wxyz = torch.cat([three, rest], dim=1).gather(1, place)
    return torch.nn.functional.normalize(wxyz, dim=-1)
