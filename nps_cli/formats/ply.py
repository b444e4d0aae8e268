"""Scenes as .ply in the layout of the 3DGS reference code (Kerbl et al., 2023), both ways."""

import math
import re
from collections.abc import Iterable
from dataclasses import fields
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.geometry.gaussians import Gaussians
from nps_cli.errors import NpsError

MAX_SH_DEGREE = 3  # that other programs read
MIN_OPACITY, MAX_OPACITY = 1e-6, 1 - 1e-6  # whose logits are finite
MIN_SCALE = 1e-12  # whose logarithm is finite
REQUIRED_PROPERTIES = (
    *("x", "y", "z"),
    *("f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def encode_ply(
    gaussians: Gaussians, comments: Iterable[str] = (), sh_degree: int | None = None
) -> bytes:
    """Return a file's content; raise ValueError if a Gaussian is not finite.

    Opacities and scales are kept a little inside their open ranges, so that every logit and
    logarithm is finite.

    Args:
        gaussians: The scene.
        comments: Lines for the header, ASCII.
        sh_degree: Degree to cut the spherical harmonics to, at most 3. By default the smallest
            that keeps all coefficients up to degree 3 that are not zero.
    """
    if sh_degree is None:
        sh_degree = _lossless_sh_degree(gaussians.harmonics)
    rest = gaussians.harmonics[:, :, 1 : (min(sh_degree, MAX_SH_DEGREE) + 1) ** 2].flatten(1)
    columns = torch.cat(
        [
            gaussians.means,
            torch.zeros_like(gaussians.means),  # normals, unused
            gaussians.harmonics[:, :, 0],
            rest,  # all of red, all of green, all of blue
            gaussians.opacities.clamp(MIN_OPACITY, MAX_OPACITY).logit()[:, None],
            gaussians.scales.clamp(min=MIN_SCALE).log(),
            torch.nn.functional.normalize(gaussians.rotations, dim=-1),
        ],
        dim=1,
    )
    values = columns.detach().cpu().numpy().astype("<f4")
    nonfinite = int((~np.isfinite(values)).any(axis=1).sum())
    if nonfinite:
        raise ValueError(f"{nonfinite} of {len(values)} Gaussians have values that are not finite")
    return _header(len(values), rest.shape[1], comments) + values.tobytes()


def decode_ply(content: bytes, name: str) -> tuple[Gaussians, list[str]]:
    """Return a scene and the comments of its header; raise NpsError for other or damaged files.

    Any order and type of properties, binary or ascii, with or without normals; SH of any degree.
    """
    header, body = _split_header(content, name)
    comments = [
        line.removeprefix("comment").strip() for line in header if _keyword(line) == "comment"
    ]
    table = _read_float_table(header, body)
    if table is None:
        _check_counts(header, len(body), name)
        table = _read_with_plyfile(content, name)
    return _to_gaussians(*table, name), comments


def _header(count: int, rest: int, comments: Iterable[str]) -> bytes:
    names = [*("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2")]
    names += [f"f_rest_{index}" for index in range(rest)]
    names += ["opacity", *REQUIRED_PROPERTIES[7:]]
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {comment}" for comment in comments]
    lines += [f"element vertex {count}", *(f"property float {name}" for name in names)]
    if any("\n" in line or "\r" in line for line in lines):
        raise ValueError("a comment of a PLY file is one line")
    return ("\n".join(lines) + "\nend_header\n").encode("ascii")


def _lossless_sh_degree(harmonics: Float[Tensor, "gaussian 3 sh"]) -> int:
    used = (harmonics[:, :, : (MAX_SH_DEGREE + 1) ** 2] != 0).any(dim=1).any(dim=0).nonzero()
    return math.isqrt(int(used.max())) if len(used) else 0


def _split_header(content: bytes, name: str) -> tuple[list[str], bytes]:
    """Return the header's lines, and the content after it."""
    end = content.find(b"end_header")
    line_end = content.find(b"\n", end)
    if content[:3] != b"ply" or content[3:4] not in (b"\n", b"\r") or end < 0 or line_end < 0:
        raise NpsError(f"{name} is not a PLY file.", hint="Give a scene written by `nps`.")
    header = content[:end].decode("ascii", errors="replace").splitlines()
    return [line.strip() for line in header], content[line_end + 1 :]


def _keyword(line: str) -> str:
    return line.split(maxsplit=1)[0] if line else ""


def _read_float_table(header: list[str], body: bytes) -> tuple[list[str], np.ndarray] | None:
    """Return names and values if the file is one element of little-endian floats, else None.

    Nearly all programs write such files, and plyfile takes far longer to read them.
    """
    lines = [line for line in header[1:] if _keyword(line) not in ("comment", "obj_info", "")]
    if len(lines) < 3 or lines[0] != "format binary_little_endian 1.0":
        return None
    element, *properties = (line.split() for line in lines[1:])
    floats = all(len(words) == 3 and words[:2] == ["property", "float"] for words in properties)
    if element[:2] != ["element", "vertex"] or not floats:
        return None
    if len(body) != _count(element) * len(properties) * 4:
        return None
    values = np.frombuffer(body, "<f4").reshape(-1, len(properties))
    return [words[2] for words in properties], values


def _check_counts(header: list[str], length: int, name: str) -> None:
    """Raise NpsError for more elements than bytes, before memory is allocated for them."""
    for words in (line.split() for line in header):
        if words[:1] == ["element"] and not 0 <= _count(words) <= length:
            raise NpsError(
                f"{name} is cut short, or its header is damaged: `{' '.join(words)}`.",
                hint="Copy it again, or make it again.",
            )


def _count(element: list[str]) -> int:
    """Return the count of a line such as `element vertex 100`; -1 if the line is malformed."""
    return int(element[2]) if re.fullmatch(r"\w+ \w+ \d{1,15}", " ".join(element)) else -1


def _read_with_plyfile(content: bytes, name: str) -> tuple[list[str], np.ndarray]:
    """Return names and values of all scalar_names properties of any PLY file."""
    from plyfile import PlyData

    try:
        elements = PlyData.read(BytesIO(content)).elements
        vertex = next((element for element in elements if element.name == "vertex"), None)
        names = {element.name for element in elements}
    except Exception as error:  # plyfile lets through whatever its parsing raises
        reason = str(error) or type(error).__name__
        raise NpsError(
            f"{name} is a damaged PLY file ({reason}).", hint="Copy it again, or make it again."
        ) from error
    if vertex is None or {"chunk", "face"} & names:
        raise NpsError(
            f"{name} is a PLY file of another kind, with {', '.join(sorted(names)) or 'nothing'}.",
            hint="A Gaussian scene is needed, not a mesh or a compressed scene.",
        )
    scalar_names = [item.name for item in vertex.properties if not hasattr(item, "len_dtype")]
    with np.errstate(over="ignore"):  # infinities are found later
        columns = [vertex[key].astype(np.float32) for key in scalar_names]
    return scalar_names, np.stack(columns, axis=-1)


def _to_gaussians(names: list[str], values: np.ndarray, name: str) -> Gaussians:
    missing = [key for key in REQUIRED_PROPERTIES if key not in names]
    if missing:
        raise NpsError(
            f"{name} holds points but no Gaussians: there is no {', '.join(missing)}.",
            hint="A Gaussian scene is needed, not a point cloud or a mesh.",
        )
    if len(values) == 0:
        raise NpsError(f"{name} is empty: 0 Gaussians.", hint="Make the scene again.")

    def stack(*keys: str) -> Tensor:
        return torch.from_numpy(values[:, [names.index(key) for key in keys]])

    harmonics = stack("f_dc_0", "f_dc_1", "f_dc_2")[:, :, None]
    if rest := _rest_properties(names, name):
        harmonics = torch.cat([harmonics, stack(*rest).unflatten(1, (3, -1))], dim=2)
    rotations = stack("rot_0", "rot_1", "rot_2", "rot_3")
    rotations[(rotations == 0).all(dim=1), 0] = 1
    gaussians = Gaussians(
        means=stack("x", "y", "z"),
        scales=stack("scale_0", "scale_1", "scale_2").exp(),
        rotations=torch.nn.functional.normalize(rotations, dim=-1),
        harmonics=harmonics,
        opacities=stack("opacity")[:, 0].sigmoid(),
    )
    _check_finite(gaussians, name)
    return gaussians


def _rest_properties(names: list[str], name: str) -> list[str]:
    """Return the f_rest properties in order; raise NpsError if they fill no SH degree."""
    count = sum(key.startswith("f_rest_") for key in names)
    rest = [f"f_rest_{index}" for index in range(count)]
    degree = math.isqrt(count // 3 + 1) - 1
    if count != 3 * ((degree + 1) ** 2 - 1) or not set(rest) <= set(names):
        raise NpsError(
            f"{name} has {count} f_rest properties.",
            hint="Harmonics of degree 0, 1, 2, 3 have 0, 9, 24, 45 of them.",
        )
    return rest


def _check_finite(gaussians: Gaussians, name: str) -> None:
    for field in fields(gaussians):
        values = getattr(gaussians, field.name).reshape(len(gaussians), -1)
        nonfinite = int((~values.isfinite()).any(dim=1).sum())
        if nonfinite:
            raise NpsError(
                f"{name}: {field.name} of {nonfinite} of {len(gaussians)} Gaussians are not "
                "finite.",
                hint="The file is damaged; make it again.",
            )
