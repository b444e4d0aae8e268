""".glb: a scene inside binary glTF, by Khronos' extension KHR_gaussian_splatting.

Programs that do not know the extension show colored points. glTF's axes are OpenGL's: the scene
stays in ours, and its node turns it by half a circle about x.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from models.geometry.gaussians import SH_DEGREE_0, Gaussians

EXTENSION = "KHR_gaussian_splatting"
HEADER = struct.Struct("<4sII")  # magic, version, length
CHUNK_HEADER = struct.Struct("<I4s")  # chunkLength, chunkType
MAGIC, JSON_CHUNK, BINARY_CHUNK = b"glTF", b"JSON", b"BIN\0"
MODE_POINTS = 0
ARRAY_BUFFER = {"buffer": 0, "target": 34962}
COMPONENT_TYPES = {torch.float32: 5126, torch.uint8: 5121}
ACCESSOR_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
MAX_SH_DEGREE = 3
HALF_TURN_ABOUT_X_XYZW = [1.0, 0.0, 0.0, 0.0]


def encode_glb(gaussians: Gaussians, comments: Iterable[str] = ()) -> Iterator[bytes]:
    """Yield a file in pieces: float32, point colors as bytes, comments as the asset's extras."""
    accessors, sizes = {}, []
    for index, (name, values) in enumerate(_attributes(gaussians)):
        accessors[name] = _accessor(index, name, values)
        sizes.append(values.numel() * values.element_size())
    starts = [0, *accumulate(sizes)]
    primitive = {
        "mode": MODE_POINTS,
        "attributes": {name: index for index, name in enumerate(accessors)},
        "extensions": {EXTENSION: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    document = {
        "asset": {"version": "2.0", "generator": "nps", "extras": {"comments": list(comments)}},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "rotation": HALF_TURN_ABOUT_X_XYZW}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": list(accessors.values()),
        "bufferViews": [
            {**ARRAY_BUFFER, "byteOffset": start, "byteLength": size}
            for start, size in zip(starts, sizes, strict=False)
        ],
        "buffers": [{"byteLength": starts[-1]}],
    }
    text = json.dumps(document, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    length = HEADER.size + 2 * CHUNK_HEADER.size + len(text) + starts[-1]
    yield HEADER.pack(MAGIC, 2, length) + CHUNK_HEADER.pack(len(text), JSON_CHUNK) + text
    yield CHUNK_HEADER.pack(starts[-1], BINARY_CHUNK)
    for _, values in _attributes(gaussians):
        yield values.detach().cpu().contiguous().numpy().tobytes()


def _attributes(gaussians: Gaussians) -> Iterator[tuple[str, Tensor]]:
    """Yield the extension's attributes by name: linear scales and opacities, quaternions xyzw."""
    color = 0.5 + SH_DEGREE_0 * gaussians.harmonics[:, :, 0]
    rgba = torch.cat([color.clamp(0, 1), gaussians.opacities[:, None]], dim=1)
    wxyz = torch.nn.functional.normalize(gaussians.rotations, dim=-1)
    yield "POSITION", gaussians.means
    yield "COLOR_0", (rgba * 255).round().byte()  # shown by viewers without the extension
    yield f"{EXTENSION}:ROTATION", wxyz[:, [1, 2, 3, 0]]
    yield f"{EXTENSION}:SCALE", gaussians.scales
    yield f"{EXTENSION}:OPACITY", gaussians.opacities
    for degree in range(min(gaussians.sh_degree, MAX_SH_DEGREE) + 1):
        for index in range(2 * degree + 1):
            coefficient = gaussians.harmonics[:, :, degree**2 + index]
            yield f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{index}", coefficient


def _accessor(index: int, name: str, values: Tensor) -> dict[str, Any]:
    accessor: dict[str, Any] = {
        "bufferView": index,
        "componentType": COMPONENT_TYPES[values.dtype],
        "normalized": values.dtype == torch.uint8,
        "count": len(values),
        "type": ACCESSOR_TYPES[values[0].numel()],
    }
    if name == "POSITION":  # whose bounds glTF requires
        accessor["min"], accessor["max"] = values.amin(0).tolist(), values.amax(0).tolist()
    return accessor
