""".glb: a scene inside binary glTF, by Khronos' extension KHR_gaussian_splatting.

Programs that do not know the extension show colored points. glTF's axes are OpenGL's: the scene
stays in ours, and its node turns it by half a circle about x.
"""

import json
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from nps_cli.formats.scene_file import PIECE

EXTENSION = "KHR_gaussian_splatting"
HEADER = struct.Struct("<4sII")  # magic, version, length
CHUNK_HEADER = struct.Struct("<I4s")  # chunkLength, chunkType
MAGIC, JSON_CHUNK, BINARY_CHUNK = b"glTF", b"JSON", b"BIN\0"
MODE_POINTS = 0
GUESS = "_GUESS"  # glTF leaves names with an underscore to applications
ARRAY_BUFFER = {"buffer": 0, "target": 34962}
COMPONENT_TYPES = {torch.float32: 5126, torch.uint8: 5121}
ACCESSOR_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
MAX_SH_DEGREE = 3
HALF_TURN_ABOUT_X_XYZW = [1.0, 0.0, 0.0, 0.0]


def encode_glb(gaussians: Gaussians, comments: Iterable[str] = ()) -> Iterator[bytes]:
    """Yield a file in pieces: float32, point colors as bytes, comments as the asset's extras."""
    attributes, accessors, sizes = _attributes(gaussians), {}, []
    for index, (name, encode) in enumerate(attributes.items()):
        example = encode(gaussians.at(slice(1)))
        accessors[name] = _accessor(index, len(gaussians), example)
        sizes.append(len(gaussians) * example.nbytes)
    bounds = gaussians.means.aminmax(dim=0)  # which glTF requires
    accessors["POSITION"] |= {"min": bounds.min.tolist(), "max": bounds.max.tolist()}
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
    for encode in attributes.values():
        for piece in gaussians.chunks(PIECE):
            yield encode(piece).detach().cpu().contiguous().numpy().tobytes()


def _attributes(scene: Gaussians) -> dict[str, Callable[[Gaussians], Tensor]]:
    """Return the extension's attributes by name: linear scales and opacities, quaternions xyzw."""
    attributes: dict[str, Callable[[Gaussians], Tensor]] = {
        "POSITION": lambda gaussians: gaussians.means,
        "COLOR_0": _point_colors,
        f"{EXTENSION}:ROTATION": _quaternions_xyzw,
        f"{EXTENSION}:SCALE": lambda gaussians: gaussians.scales,
        f"{EXTENSION}:OPACITY": lambda gaussians: gaussians.opacities,
    }
    for degree in range(min(scene.sh_degree, MAX_SH_DEGREE) + 1):
        for index in range(2 * degree + 1):
            name = f"{EXTENSION}:SH_DEGREE_{degree}_COEF_{index}"
            attributes[name] = partial(_coefficients, degree**2 + index)
    if scene.guessed is not None:
        attributes[GUESS] = lambda gaussians: torch.as_tensor(gaussians.guessed).float()
    return attributes


def _point_colors(gaussians: Gaussians) -> Tensor:
    """Return what viewers without the extension show."""
    color = 0.5 + SH_DEGREE_0 * gaussians.harmonics[:, :, 0]
    rgba = torch.cat([color.clamp(0, 1), gaussians.opacities[:, None]], dim=1)
    return (rgba * 255).round().byte()


def _quaternions_xyzw(gaussians: Gaussians) -> Tensor:
    return torch.nn.functional.normalize(gaussians.rotations, dim=-1)[:, [1, 2, 3, 0]]


def _coefficients(term: int, gaussians: Gaussians) -> Tensor:
    return gaussians.harmonics[:, :, term]


def _accessor(index: int, count: int, example: Tensor) -> dict[str, Any]:
    return {
        "bufferView": index,
        "componentType": COMPONENT_TYPES[example.dtype],
        "normalized": example.dtype == torch.uint8,
        "count": count,
        "type": ACCESSOR_TYPES[example[0].numel()],
    }
