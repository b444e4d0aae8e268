""".ksplat, the scenes of GaussianSplats3D (mkkellogg), version 0.1, all three levels; read only.

Sections of Gaussians, one record each. Above level 0 positions have 16 bits around the centers of
buckets, scales and rotations are half-precision; colors and opacities are bytes at every level.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from nps_cli.errors import NpsError
from nps_cli.formats.scene_file import PIECE, SceneFile, Source, damaged

HEADER_BYTES, SECTION_BYTES = 4096, 1024
HEADER = struct.Struct("<BB2xI8xIH14xff")  # major, minor, sections, Gaussians, level, SH range
SECTION = struct.Struct("<IIIIfHxxIxxxxIIH")
DEFAULT_SH_RANGE = -1.5, 1.5
DEFAULT_STEPS = 32767  # of a position, from a bucket's center to its side
MAX_SECTIONS = 4096
SH_COUNTS = 0, 9, 24, 45


@dataclass(frozen=True)
class Section:
    """The header of a section: counts, and how positions are quantized around its buckets."""

    count: int
    capacity: int  # records that the section has room for
    bucket_size: int  # Gaussians of a full bucket
    buckets: int
    block: float  # side of a bucket's cube
    bucket_bytes: int
    steps: int
    full_buckets: int
    partial_buckets: int
    sh_degree: int


def open_ksplat(source: Source) -> SceneFile:
    """Return a scene; raise NpsError for other versions, and damaged files."""
    header = source.read(HEADER_BYTES)
    major, minor, sections, count, level, low, high = HEADER.unpack_from(header)
    if (major, minor) != (0, 1) or level > 2:
        raise NpsError(
            f"{source.name} is a .ksplat of version {major}.{minor}, level {level}, which nps "
            "cannot read.",
            hint="Convert it to .ply with the program that wrote it.",
        )
    if sections > MAX_SECTIONS:
        raise damaged(source.name, f"{sections} sections")
    raw = source.read(sections * SECTION_BYTES)
    table = [Section(*SECTION.unpack_from(raw, index * SECTION_BYTES)) for index in range(sections)]
    if sum(section.count for section in table) != count or any(
        section.count > section.capacity or section.sh_degree >= len(SH_COUNTS) for section in table
    ):
        raise damaged(source.name, "sections that do not fit together")
    source.check_length(sum(section.capacity for section in table))
    degree = max((section.sh_degree for section in table if section.count), default=0)
    sh_range = (low or DEFAULT_SH_RANGE[0], high or DEFAULT_SH_RANGE[1])
    pieces = (
        piece for section in table for piece in _decode(source, section, level, degree, sh_range)
    )
    return SceneFile(".ksplat", count, degree, [], pieces)


def _record(level: int, sh_degree: int) -> np.dtype:
    number, position = ("<f2", "<u2") if level else ("<f4", "<f4")
    harmonics = {0: "<f4", 1: "<f2", 2: "u1"}[level]
    return np.dtype(
        [
            ("mean", position, 3),
            ("scale", number, 3),
            ("rotation", number, 4),
            ("color", "u1", 4),
            ("sh", harmonics, SH_COUNTS[sh_degree]),
        ]
    )


def _decode(
    source: Source, section: Section, level: int, degree: int, sh_range: tuple[float, float]
) -> Iterator[Gaussians]:
    record = _record(level, section.sh_degree)
    lengths = (
        4 * section.partial_buckets,
        section.bucket_bytes * section.buckets,
        section.capacity * record.itemsize,
    )
    source.check_length(sum(lengths))
    partial = np.frombuffer(source.read(lengths[0]), "<u4")
    centers = np.frombuffer(source.read(lengths[1]), "<f4")
    bucket = _buckets(section, partial, source.name) if level else None
    if bucket is not None and centers.size < 3 * section.buckets:
        raise damaged(source.name, f"buckets of {section.bucket_bytes} bytes")
    for start in range(0, section.count, PIECE):
        stop = min(start + PIECE, section.count)
        records = np.frombuffer(source.read((stop - start) * record.itemsize), record)
        means = records["mean"].astype(np.float32)
        if bucket is not None:
            steps = section.steps or DEFAULT_STEPS
            offset = (means - steps) * np.float32(section.block / 2 / steps)
            means = offset + centers.reshape(section.buckets, -1)[bucket[start:stop], :3]
        yield _to_gaussians(records, means, section.sh_degree, degree, sh_range)
    rest = section.capacity - section.count
    while rest > 0:
        source.read(min(rest, PIECE) * record.itemsize)
        rest -= PIECE


def _buckets(section: Section, partial: np.ndarray, name: str) -> np.ndarray:
    """Return the bucket of every Gaussian: the full ones first, then those partly filled."""
    full = section.full_buckets * section.bucket_size
    if full + int(partial.sum(dtype=np.int64)) < section.count or full > section.capacity:
        raise damaged(name, "buckets with fewer Gaussians than their section")
    sizes = np.concatenate([np.full(section.full_buckets, section.bucket_size), partial])
    bucket = np.repeat(np.arange(len(sizes)), sizes.astype(np.int64))[: section.count]
    if section.count and bucket.max() >= section.buckets:
        raise damaged(name, "more buckets than centers")
    return bucket


def _to_gaussians(
    records: np.ndarray, means: np.ndarray, own: int, degree: int, sh_range: tuple[float, float]
) -> Gaussians:
    color = torch.from_numpy(records["color"].astype(np.float32) / 255)
    rotations = torch.from_numpy(records["rotation"].astype(np.float32))
    rotations[(rotations == 0).all(dim=1), 0] = 1
    harmonics = torch.zeros(len(records), 3, (degree + 1) ** 2)
    harmonics[:, :, 0] = (color[:, :3] - 0.5) / SH_DEGREE_0
    sh = torch.from_numpy(records["sh"].astype(np.float32))
    if records.dtype["sh"].base == np.uint8:
        sh = sh_range[0] + sh / 255 * (sh_range[1] - sh_range[0])
    for each in range(1, own + 1):  # degree by degree: red, then green, then blue
        first, terms = 3 * (each**2 - 1), 2 * each + 1
        part = sh[:, first : first + 3 * terms]
        harmonics[:, :, each**2 : (each + 1) ** 2] = part.unflatten(1, (3, terms))
    return Gaussians(
        means=torch.from_numpy(means),
        scales=torch.from_numpy(records["scale"].astype(np.float32)),
        rotations=torch.nn.functional.normalize(rotations, dim=-1),
        harmonics=harmonics,
        opacities=color[:, 3],
    )
