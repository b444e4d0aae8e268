"""Scenes from .glb: binary glTF with Khronos' extension KHR_gaussian_splatting, of any program.

glTF's world has +y up. Scenes that came from .ply lie in it turned by half a circle about z, with
glTF's +z as forward: so write splat-transform and Niantic's tools. `nps` turns its scenes about x.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.files.json_reader import parse_json
from models.geometry.gaussians import Gaussians, transform
from models.geometry.rigid import from_wxyz, nearest_rotation, rigid_motion
from nps_cli.errors import NpsError
from nps_cli.formats.glb import (
    BINARY_CHUNK,
    CHUNK_HEADER,
    EXTENSION,
    GUESS,
    HEADER,
    JSON_CHUNK,
    MAGIC,
)
from nps_cli.formats.scene_file import PIECE, SceneFile, Source, damaged

MAX_JSON_BYTES = 1 << 26
COMPONENTS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
MAX_SH_DEGREE = 3
MAX_DEPTH = 100  # of nodes in nodes
HALF_TURN_ABOUT_X = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
HALF_TURN_ABOUT_Z = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0]))


def open_glb(source: Source) -> SceneFile:
    """Return a scene; raise NpsError for models without Gaussians, and damaged files."""
    document = _read_document(source)
    content = _read_chunk(source, BINARY_CHUNK, source.limit)
    try:
        primitives = list(_find_primitives(document))
        if not primitives:
            raise NpsError(
                f"{source.name} is a glTF model without Gaussians: nothing in it has {EXTENSION}.",
                hint="Give a scene of Gaussians, not a mesh.",
            )
        parts = [
            (_read_attributes(document, content, primitive, source.name), world)
            for primitive, world in primitives
        ]
        comments = _comments(document)
        ours = document["asset"].get("generator") == "nps"
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise damaged(source.name, f"{type(error).__name__}: {error}") from error
    degree = max(_sh_degree(values) for values, _ in parts)
    count = sum(len(values["POSITION"]) for values, _ in parts)
    home = HALF_TURN_ABOUT_X if ours else HALF_TURN_ABOUT_Z
    pieces = (
        piece
        for values, world in parts
        for piece in _decode(values, degree, home.double() @ world, source.name)
    )
    return SceneFile("glTF with " + EXTENSION, count, degree, comments, pieces)


def _read_document(source: Source) -> dict[str, Any]:
    magic, version, _ = HEADER.unpack(source.read(HEADER.size))
    if magic != MAGIC or version != 2:
        raise damaged(source.name, f"glTF of version {version}")
    text = _read_chunk(source, JSON_CHUNK, MAX_JSON_BYTES)
    try:
        document = parse_json(text)
    except ValueError as error:
        raise damaged(source.name, f"no JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("asset"), dict):
        raise damaged(source.name, "no asset")
    return document


def _read_chunk(source: Source, kind: bytes, limit: int | None) -> bytes:
    length, found = CHUNK_HEADER.unpack(source.read(CHUNK_HEADER.size))
    if found != kind or (limit is not None and length > limit):
        raise damaged(source.name, f"a chunk {found!r} of {length} bytes")
    return source.read(length)


def _find_primitives(
    document: dict[str, Any],
) -> Iterator[tuple[dict[str, Any], Float[Tensor, "4 4"]]]:
    """Yield the primitives with Gaussians of all nodes, and their poses in the glTF's world."""
    nodes = document.get("nodes", [])
    parents = {
        child: index for index, node in enumerate(nodes) for child in node.get("children", [])
    }
    for index, node in enumerate(nodes):
        if "mesh" not in node:
            continue
        for primitive in document["meshes"][node["mesh"]]["primitives"]:
            if EXTENSION in primitive.get("extensions", {}):
                yield primitive, _world_pose(nodes, parents, index)


def _world_pose(
    nodes: list[dict[str, Any]], parents: dict[int, int], index: int
) -> Float[Tensor, "4 4"]:
    pose = torch.eye(4, dtype=torch.float64)
    for _ in range(MAX_DEPTH):
        pose = _local_pose(nodes[index]) @ pose
        if index not in parents:
            return pose
        index = parents[index]
    raise ValueError("nodes that contain themselves")


def _local_pose(node: dict[str, Any]) -> Float[Tensor, "4 4"]:
    if "matrix" in node:
        return torch.tensor(node["matrix"], dtype=torch.float64).reshape(4, 4).mT
    x, y, z, w = node.get("rotation", (0.0, 0.0, 0.0, 1.0))
    scale = torch.tensor(node.get("scale", [1.0] * 3), dtype=torch.float64)
    translation = torch.tensor(node.get("translation", [0.0] * 3), dtype=torch.float64)
    rotation = from_wxyz(torch.tensor([w, x, y, z], dtype=torch.float64))
    return rigid_motion(rotation * scale, translation)


def _read_attributes(
    document: dict[str, Any], content: bytes, primitive: dict[str, Any], name: str
) -> dict[str, np.ndarray]:
    """Return the attributes of a primitive as arrays [gaussian, width], by their short names."""
    compression = primitive["extensions"][EXTENSION].get("extensions", {})
    if compression:
        raise NpsError(
            f"{name} is glTF compressed by {', '.join(compression)}, which nps cannot read.",
            hint="Convert it to .ply with the program that wrote it.",
        )
    values = {
        key.removeprefix(EXTENSION + ":"): _read_accessor(document, content, index)
        for key, index in primitive["attributes"].items()
        if key in ("POSITION", GUESS) or key.startswith(EXTENSION + ":")
    }
    required = {"POSITION": 3, "ROTATION": 4, "SCALE": 3, "OPACITY": 1, "SH_DEGREE_0_COEF_0": 3}
    for key, width in (required | ({GUESS: 1} if GUESS in values else {})).items():
        if values[key].shape != (len(values["POSITION"]), width):
            raise ValueError(f"{key} of shape {values[key].shape}")
    return values


def _read_accessor(document: dict[str, Any], content: bytes, index: int) -> np.ndarray:
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    if view["buffer"] != 0 or "uri" in document["buffers"][0] or "sparse" in accessor:
        raise ValueError("data outside of the file")
    kind, width = np.dtype(COMPONENTS[accessor["componentType"]]), WIDTHS[accessor["type"]]
    count, stride = int(accessor["count"]), int(view.get("byteStride", kind.itemsize * width))
    start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
    last = start + (count - 1) * stride + kind.itemsize * width
    if min(start, count) < 0 or stride < kind.itemsize * width or last > len(content):
        raise ValueError(f"an accessor of {count} values that the file does not hold")
    strides = (stride, kind.itemsize)
    raw = np.ndarray((count, width), kind, content, start, strides)
    if kind.kind == "f" or not accessor.get("normalized"):
        return raw
    largest = np.float32(np.iinfo(kind).max)
    return np.maximum(raw.astype(np.float32) / largest, -1)


def _sh_degree(values: dict[str, np.ndarray]) -> int:
    """Return the last degree of which all coefficients are there."""
    degree = 0
    while degree < MAX_SH_DEGREE and all(
        values.get(f"SH_DEGREE_{degree + 1}_COEF_{index}", np.empty(0)).shape
        == values["POSITION"].shape
        for index in range(2 * degree + 3)
    ):
        degree += 1
    return degree


def _decode(
    values: dict[str, np.ndarray], degree: int, pose: Float[Tensor, "4 4"], name: str
) -> Iterator[Gaussians]:
    """Yield pieces in our world, into which `pose`, a similarity, takes them."""
    factor = float(torch.linalg.det(pose[:3, :3]).abs()) ** (1 / 3)
    rotation = pose[:3, :3] / factor if factor else pose[:3, :3]
    if not (
        pose.isfinite().all()
        and math.isfinite(factor)
        and torch.allclose(rotation, nearest_rotation(rotation), atol=1e-4)
    ):
        raise NpsError(
            f"{name} squeezes or mirrors its Gaussians by a node's scale.",
            hint="Apply the node's transformation in the program that wrote it.",
        )
    rigid = rigid_motion(nearest_rotation(rotation), pose[:3, 3])
    identity = torch.equal(rigid, torch.eye(4, dtype=torch.float64)) and factor == 1
    own = _sh_degree(values)
    names = [f"SH_DEGREE_{each}_COEF_{k}" for each in range(own + 1) for k in range(2 * each + 1)]
    for start in range(0, len(values["POSITION"]), PIECE):
        part = {
            key: torch.from_numpy(array[start : start + PIECE].astype(np.float32))
            for key, array in values.items()
        }
        harmonics = torch.stack([part[key] for key in names], dim=-1)
        missing = (degree + 1) ** 2 - harmonics.shape[2]
        piece = Gaussians(
            means=part["POSITION"],
            scales=part["SCALE"],
            rotations=torch.nn.functional.normalize(part["ROTATION"][:, [3, 0, 1, 2]], dim=-1),
            harmonics=torch.nn.functional.pad(harmonics, (0, missing)),
            opacities=part["OPACITY"][:, 0],
            guessed=part[GUESS][:, 0] > 0.5 if GUESS in part else None,
        )
        yield piece if identity else transform(piece, rigid, factor)


def _comments(document: dict[str, Any]) -> list[str]:
    comments = (document["asset"].get("extras") or {}).get("comments", [])
    return [line for line in comments if isinstance(line, str)]
