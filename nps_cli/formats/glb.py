""".glb: a scene inside binary glTF, by Khronos' extension KHR_gaussian_splatting.

Programs that do not know the extension show colored points. glTF's axes are OpenGL's: the scene
stays in ours, and its node turns it by half a circle about x.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.geometry.gaussians import SH_DEGREE_0, Gaussians

EXTENSION = "KHR_gaussian_splatting"
HEADER = struct.Struct("<4sII")  # magic, version, length
CHUNK_HEADER = struct.Struct("<I4s")  # chunkLength, chunkType
MODE_POINTS, TARGET_ARRAY_BUFFER = 0, 34962
COMPONENT_TYPES = {torch.float32: 5126, torch.uint8: 5121}
ACCESSOR_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
MAX_SH_DEGREE = 3
HALF_TURN_ABOUT_X_XYZW = [1.0, 0.0, 0.0, 0.0]


def save_glb(gaussians: Gaussians, path: Path, comments: Iterable[str] = ()) -> None:
    """Write a scene as float32, and point colors as bytes; comments become the asset's extras."""
    values = {name: part.detach().cpu().contiguous() for name, part in _attributes(gaussians)}
    blobs = [part.numpy().tobytes() for part in values.values()]
    buffer_views: list[dict[str, Any]] = []
    length = 0
    for blob in blobs:
        view = {"buffer": 0, "byteOffset": length, "byteLength": len(blob)}
        buffer_views.append({**view, "target": TARGET_ARRAY_BUFFER})
        length += len(blob)
    primitive = {
        "mode": MODE_POINTS,
        "attributes": {name: index for index, name in enumerate(values)},
        "extensions": {EXTENSION: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    document = {
        "asset": {"version": "2.0", "generator": "nps", "extras": {"comments": list(comments)}},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "rotation": HALF_TURN_ABOUT_X_XYZW}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": [_accessor(index, *item) for index, item in enumerate(values.items())],
        "bufferViews": buffer_views,
        "buffers": [{"byteLength": length}],
    }
    text = json.dumps(document, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    with path.open("wb") as stream:
        total_length = HEADER.size + 2 * CHUNK_HEADER.size + len(text) + length
        stream.write(HEADER.pack(b"glTF", 2, total_length))
        stream.write(CHUNK_HEADER.pack(len(text), b"JSON") + text)
        stream.write(CHUNK_HEADER.pack(length, b"BIN\0"))
        stream.writelines(blobs)


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
