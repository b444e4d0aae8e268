"""Scenes as .ply in the layout of the 3DGS reference code (Kerbl et al., 2023), both ways."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.gaussians import SH_DEGREE_0, Gaussians
from nps_cli.errors import NpsError
from nps_cli.formats.compressed_ply import is_compressed, open_compressed_ply
from nps_cli.formats.ply_header import Element, Header, read_header
from nps_cli.formats.scene_file import COPY_AGAIN, PIECE, SceneFile, Source

MAX_SH_DEGREE = 3  # that other programs read
MIN_OPACITY, MAX_OPACITY = 1e-6, 1 - 1e-6  # whose logits are finite
MIN_SCALE = 1e-12  # whose logarithm is finite
MAX_UNUSUAL_BYTES = 1 << 30  # of a file that is not read in pieces
BASE_COLOR = "f_dc_0", "f_dc_1", "f_dc_2"
RGB = "red", "green", "blue"
GUESS = "guess"  # 1 for what no photo shows; there only if the scene has such Gaussians
RGB_MAX = {"u1": 255.0, "u2": 65535.0, "f4": 1.0, "f8": 1.0}
REQUIRED_PROPERTIES = (
    *("x", "y", "z"),
    *BASE_COLOR,
    "opacity",
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def encode_ply(
    gaussians: Gaussians, comments: Iterable[str] = (), sh_degree: int | None = None
) -> Iterator[bytes]:
    """Yield a file in pieces; raise ValueError if a Gaussian is not finite.

    Opacities and scales are kept a little inside their open ranges, so that every logit and
    logarithm is finite.

    Args:
        gaussians: The scene.
        comments: Lines for the header, ASCII.
        sh_degree: Degree to cut the spherical harmonics to, at most 3. By default the smallest
            that keeps all coefficients up to degree 3 that are not zero.
    """
    if sh_degree is None:
        sh_degree = max(map(_lossless_sh_degree, gaussians.chunks(PIECE)), default=0)
    terms = (min(sh_degree, MAX_SH_DEGREE, gaussians.sh_degree) + 1) ** 2
    if gaussians.guessed is not None and not gaussians.guessed.any():
        gaussians = replace(gaussians, guessed=None)
    yield _header(gaussians, terms, comments)
    for piece in gaussians.chunks(PIECE):
        yield _encode_piece(piece, terms)


def _encode_piece(gaussians: Gaussians, terms: int) -> bytes:
    columns = torch.cat(
        [
            gaussians.means,
            torch.zeros_like(gaussians.means),  # normals, unused
            gaussians.harmonics[:, :, 0],
            gaussians.harmonics[:, :, 1:terms].flatten(1),  # all of red, of green, of blue
            gaussians.opacities.clamp(MIN_OPACITY, MAX_OPACITY).logit()[:, None],
            gaussians.scales.clamp(min=MIN_SCALE).log(),
            torch.nn.functional.normalize(gaussians.rotations, dim=-1),
            *([] if gaussians.guessed is None else [gaussians.guessed[:, None]]),
        ],
        dim=1,
    )
    values = columns.detach().cpu().numpy().astype("<f4", copy=False)
    nonfinite = int((~np.isfinite(values)).any(axis=1).sum())
    if nonfinite:
        raise ValueError(f"{nonfinite} of {len(values)} Gaussians have values that are not finite")
    return values.tobytes()


def _header(gaussians: Gaussians, terms: int, comments: Iterable[str]) -> bytes:
    names = [*("x", "y", "z", "nx", "ny", "nz", *BASE_COLOR)]
    names += [f"f_rest_{index}" for index in range(3 * (terms - 1))]
    names += ["opacity", *REQUIRED_PROPERTIES[7:]]
    names += [] if gaussians.guessed is None else [GUESS]
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {comment}" for comment in comments]
    lines += [f"element vertex {len(gaussians)}", *(f"property float {name}" for name in names)]
    if any("\n" in line or "\r" in line for line in lines):
        raise ValueError("a comment of a PLY file is one line")
    return ("\n".join(lines) + "\nend_header\n").encode("ascii")


def _lossless_sh_degree(gaussians: Gaussians) -> int:
    harmonics = gaussians.harmonics[:, :, : (MAX_SH_DEGREE + 1) ** 2]
    used = (harmonics != 0).any(dim=1).any(dim=0).nonzero()
    return math.isqrt(int(used.max())) if len(used) else 0


def open_ply(source: Source) -> SceneFile:
    """Return a scene; raise NpsError for PLY files that hold none, and damaged ones.

    Any order and type of properties, binary or ascii, with or without normals; SH of any degree;
    red, green and blue instead of the constant harmonic; PlayCanvas' compressed layout.
    """
    header = read_header(source)
    if is_compressed(header):
        return open_compressed_ply(source, header)
    vertex = _check_vertex(header, source.name)
    degree = _check_properties(vertex, source.name)
    before = header.elements[: header.elements.index(vertex)]
    unusual = not header.order or any(element.has_lists for element in (*before, vertex))
    if unusual:
        for element in header.elements:
            source.check_length(element.count)
        rows = _rows_of_plyfile(source, header)
    else:
        row = header.row(vertex)
        skipped = sum(element.count * header.row(element).itemsize for element in before)
        source.check_length(skipped + vertex.count * row.itemsize)
        rows = _rows(source, skipped, vertex.count, row)
    pieces = (_to_gaussians(row, vertex, degree) for row in rows)
    return SceneFile("PLY", vertex.count, degree, header.comments, pieces)


def _rows(source: Source, skipped: int, count: int, row: np.dtype) -> Iterator[np.ndarray]:
    """Yield the rows of the vertex element behind `skipped` bytes, `PIECE` at a time."""
    while skipped:
        skipped -= len(source.read(min(skipped, PIECE)))
    for start in range(0, count, PIECE):
        content = source.read(min(PIECE, count - start) * row.itemsize)
        yield np.frombuffer(content, row)


def _rows_of_plyfile(source: Source, header: Header) -> Iterator[np.ndarray]:
    """Yield the rows of the vertex element of a file that plyfile has to read: text, or lists."""
    from plyfile import PlyData

    with source.damage_named():
        body = source.file.read(MAX_UNUSUAL_BYTES + 1)
    if len(body) > MAX_UNUSUAL_BYTES:
        raise NpsError(
            f"{source.name} is a PLY file of text, or with lists, of more than a gigabyte.",
            hint="Convert it to a binary PLY file with the program that wrote it.",
        )
    try:
        data = PlyData.read(BytesIO(header.text + body))["vertex"].data
    except Exception as error:  # plyfile lets through whatever its parsing raises
        reason = str(error) or type(error).__name__
        raise NpsError(
            f"{source.name} is a damaged PLY file ({reason}).", hint=COPY_AGAIN
        ) from error
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def _check_vertex(header: Header, name: str) -> Element:
    """Return the vertex element; raise NpsError, with what the file is, if it has no Gaussians."""
    vertex, face = header.element("vertex"), header.element("face")
    if vertex is None or not vertex.properties:
        held = ", ".join(sorted({element.name for element in header.elements})) or "nothing"
        raise NpsError(
            f"{name} is a PLY file without Gaussians: it holds {held}, and no vertices.",
            hint="Give a scene of Gaussians.",
        )
    if face is not None and face.count:
        raise NpsError(
            f"{name} is a mesh of {face.count:,} faces (element face), not a scene of Gaussians.",
            hint="Give a scene of Gaussians.",
        )
    return vertex


def _check_properties(vertex: Element, name: str) -> int:
    """Return the SH degree; raise NpsError, with what the file is, for other than Gaussians."""
    found = vertex.properties
    scalars = {key for key, kind in found.items() if kind is not None}
    required = {*REQUIRED_PROPERTIES}
    if not {*BASE_COLOR} <= scalars and {*RGB} <= scalars:
        required = required - {*BASE_COLOR} | {*RGB}
    missing = [key for key in (*REQUIRED_PROPERTIES, *RGB) if key in required - scalars]
    if missing == ["scale_2"]:
        raise NpsError(
            f"{name} holds flat Gaussians, as 2DGS writes them: there is no scale_2.",
            hint="A scene of 3D Gaussians is needed.",
        )
    if missing:
        whole = {*REQUIRED_PROPERTIES[6:]} <= {*missing}
        what = f"is a point cloud of {vertex.count:,} points" if whole else "holds no Gaussians"
        raise NpsError(
            f"{name} {what}: there is no {', '.join(missing)}.",
            hint="A Gaussian scene is needed, not a point cloud or a mesh.",
        )
    return _rest_degree(scalars, name)


def _rest_degree(scalars: set[str], name: str) -> int:
    """Return the degree that the f_rest properties fill; raise NpsError if they fill none."""
    count = sum(key.startswith("f_rest_") for key in scalars)
    degree = math.isqrt(count // 3 + 1) - 1
    rest = {f"f_rest_{index}" for index in range(count)}
    if count != 3 * ((degree + 1) ** 2 - 1) or not rest <= scalars:
        raise NpsError(
            f"{name} has {count} f_rest properties.",
            hint="Harmonics of degree 0, 1, 2, 3 have 0, 9, 24, 45 of them.",
        )
    return degree


def _to_gaussians(rows: np.ndarray, vertex: Element, degree: int) -> Gaussians:
    def stack(*keys: str) -> Tensor:
        with np.errstate(over="ignore", invalid="ignore"):  # such values are found later
            columns = [rows[key].astype(np.float32) for key in keys]
        return torch.from_numpy(np.stack(columns, axis=-1))

    rotations = stack("rot_0", "rot_1", "rot_2", "rot_3")
    rotations[(rotations == 0).all(dim=1), 0] = 1
    harmonics = _base_color(stack, vertex)[:, :, None]
    if degree:
        rest = stack(*(f"f_rest_{index}" for index in range(3 * ((degree + 1) ** 2 - 1))))
        harmonics = torch.cat([harmonics, rest.unflatten(1, (3, -1))], dim=2)
    return Gaussians(
        means=stack("x", "y", "z"),
        scales=stack("scale_0", "scale_1", "scale_2").exp(),
        rotations=torch.nn.functional.normalize(rotations, dim=-1),
        harmonics=harmonics,
        opacities=stack("opacity")[:, 0].sigmoid(),
        guessed=stack(GUESS)[:, 0] > 0.5 if vertex.properties.get(GUESS) else None,
    )


def _base_color(stack: Callable[..., Tensor], vertex: Element) -> Float[Tensor, "gaussian 3"]:
    """Return the constant harmonic, from its own properties or from red, green and blue."""
    if {*BASE_COLOR} <= vertex.properties.keys():
        return stack(*BASE_COLOR)
    largest = RGB_MAX.get(str(vertex.properties["red"]), 255.0)
    return (stack(*RGB) / largest - 0.5) / SH_DEGREE_0
