"""Triangle meshes of real things, and where packets of rays hit them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.data.procedural.atlas import Atlas, build_atlas
from models.data.scenes import decode
from models.files.arrays import read_arrays

CLUSTER_SIZE = 32  # triangles that lie close together and are culled as one
MAX_TRIANGLES = 2_000  # of a mesh: those with more are left out
_MAX_CLUSTERS = 400_000  # paired with packets at a time: bounds the memory
_TEXTURE_PX = 96  # pixels along the sides of meshes' own textures
_MIN_OPACITY = 0.3  # faces less opaque than this are left out
_LARGEST = 2**40  # of any number in a file
_WIDTHS: dict[str, tuple[int, ...]] = {  # of a row of each array
    **{"verts": (3,), "uvs": (2,), "faces": (3,), "face_mat": (), "v_off": (), "f_off": ()},
    **{"mat_off": (), "mat_kd": (3,), "mat_alpha": (), "mat_tex": ()},
    **{"tex_blob": (), "tex_off": ()},
}


@dataclass(frozen=True)
class Meshes:
    """Triangles of many meshes, each in a box of its own from -1 to 1 along every axis.

    Axes are those of worlds: y down. Every mesh has whole clusters, filled up with copies.
    """

    corners: Float[Tensor, "triangle 3 3"]
    uvs: Float[Tensor, "triangle 3 2"]
    material: Int[Tensor, " triangle"]
    centers: Float[Tensor, "cluster 3"]
    extents: Float[Tensor, "cluster 3"]
    first: Int[Tensor, " mesh"]  # cluster
    count: Int[Tensor, " mesh"]  # of clusters
    half: Float[Tensor, "mesh 3"]  # half sizes in meters
    color: Float[Tensor, "material 3"]
    texture_index: Int[Tensor, " material"]  # which texture of the atlas; -1: none
    atlas: Atlas

    def to(self, device: torch.device) -> "Meshes":
        """Copy to a device."""
        others = {name: value for name, value in vars(self).items() if name != "atlas"}
        moved = {name: value.to(device) for name, value in others.items()}
        return Meshes(**moved, atlas=self.atlas.to(device))

    def find(
        self,
        low: float | int,
        high: float | int,
        tallest: float | int = 1e9,
        triangles: int = MAX_TRIANGLES,
    ) -> Int[Tensor, " found"]:
        """Return indices of meshes whose longest side, in meters, is within bounds; or all.

        Small things need few triangles: every ray near one is intersected with all of them.
        """
        longest = 2 * self.half.amax(1)
        good = (longest >= low) & (longest <= high) & (2 * self.half[:, 1] <= tallest)
        good &= self.count * CLUSTER_SIZE < triangles + CLUSTER_SIZE
        return (good if good.any() else ~good).nonzero()[:, 0]


def load_meshes(file: Path) -> Meshes:
    """Read meshes packed as arrays.

    The .npz holds, for all meshes one after the other: `verts` (meters; y up, standing on y = 0)
    with `uvs` (v up; beyond 0 to 1 a texture repeats), `faces` with three numbers of vertices and
    `face_mat` with one of a material each, both counted from the mesh's first. `v_off`, `f_off`
    and `mat_off` say where each mesh begins, and end with the total. A material has a color
    `mat_kd`, an opacity `mat_alpha` and a number of a texture `mat_tex`, or -1. Texture i is the
    JPEG in `tex_blob` from `tex_off[i]` to `tex_off[i + 1]`. No side of a face is its back.

    Raises:
        ValueError: If it is no such file.
    """
    try:
        data = read_arrays(file, _WIDTHS)
        _check(data)
        textures = _read_textures(data)
        read = [_read_mesh(data, index) for index in range(len(data["v_off"]) - 1)]
    except ValueError as error:
        raise ValueError(f"{file} is no file of meshes ({error})") from error
    parts = [part for part in read if part is not None]
    if not parts:
        raise ValueError(f"{file} has no mesh of {MAX_TRIANGLES} triangles or fewer")
    corners, uvs, material, half = (list(each) for each in zip(*parts, strict=True))
    count = torch.tensor([len(part) // CLUSTER_SIZE for part in corners])
    triangles = torch.from_numpy(np.concatenate(corners))
    groups = triangles.view(-1, CLUSTER_SIZE * 3, 3)
    low, high = groups.amin(1), groups.amax(1)
    return Meshes(
        corners=triangles,
        uvs=torch.from_numpy(np.concatenate(uvs)),
        material=torch.from_numpy(np.concatenate(material)),
        centers=(low + high) / 2,
        extents=(high - low) / 2,
        first=count.cumsum(0) - count,
        count=count,
        half=torch.from_numpy(np.stack(half)),
        color=torch.from_numpy(data["mat_kd"].astype(np.float32)),
        texture_index=torch.from_numpy(data["mat_tex"].astype(np.int64)),
        atlas=build_atlas(textures),
    )


def _check(data: dict[str, np.ndarray]) -> None:
    """Raise ValueError if arrays are not of the stated shapes, or point outside of each other."""
    for name, width in _WIDTHS.items():
        array = data[name]
        if array.dtype.kind not in "iuf" or not array.ndim or array.shape[1:] != width:
            raise ValueError(f"{name} has shape {array.shape} of {array.dtype}")
        low, high = float(array.min(initial=0)), float(array.max(initial=0))
        if not -_LARGEST <= low <= high <= _LARGEST:  # nor NaN
            raise ValueError(f"{name} has a number that is not finite, or far too large")
    ends = {"v_off": "verts", "f_off": "faces", "mat_off": "mat_kd", "tex_off": "tex_blob"}
    for name, of in ends.items():
        offsets = data[name]
        if not len(offsets) or offsets[0] < 0 or (np.diff(offsets) < 0).any():
            raise ValueError(f"{name} does not ascend")
        if offsets.dtype.kind == "f" or offsets[-1] > len(data[of]):
            raise ValueError(f"{name} points behind {of}")
    if not len(data["v_off"]) == len(data["f_off"]) == len(data["mat_off"]):
        raise ValueError("v_off, f_off and mat_off differ in length")
    same = (("verts", "uvs"), ("faces", "face_mat"), ("mat_kd", "mat_alpha"), ("mat_kd", "mat_tex"))
    for one, other in same:
        if len(data[one]) != len(data[other]):
            raise ValueError(f"{one} and {other} differ in length")
    textures = data["mat_tex"]
    if len(textures) and not -1 <= textures.min() <= textures.max() < len(data["tex_off"]) - 1:
        raise ValueError("mat_tex points at no texture")


def _read_mesh(
    data: dict[str, np.ndarray], index: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Read corners, texture coordinates, materials and half extent; None if there are too many."""
    vertices = slice(data["v_off"][index], data["v_off"][index + 1])
    chosen = slice(data["f_off"][index], data["f_off"][index + 1])
    material = data["face_mat"][chosen].astype(np.int64) + int(data["mat_off"][index])
    if material.size and not 0 <= material.min() <= material.max() < len(data["mat_kd"]):
        raise ValueError(f"a face of mesh {index} has no such material")
    solid = data["mat_alpha"][material] >= _MIN_OPACITY
    faces, material = data["faces"][chosen][solid].astype(np.int64), material[solid]
    if faces.size and not 0 <= faces.min() <= faces.max() < vertices.stop - vertices.start:
        raise ValueError(f"a face of mesh {index} has no such vertex")
    if not 0 < len(faces) <= MAX_TRIANGLES:
        return None
    points = data["verts"][vertices].astype(np.float32) * np.array([1, -1, -1], np.float32)
    low, high = points[faces].min((0, 1)), points[faces].max((0, 1))
    half = np.maximum((high - low) / 2, 2e-3)
    corners = ((points - (low + high) / 2) / half)[faces]
    order = _morton_order(corners.mean(1))
    order = np.concatenate([order, np.repeat(order[-1:], -len(order) % CLUSTER_SIZE)])
    uvs = data["uvs"][vertices].astype(np.float32) * np.array([1, -1], np.float32)
    return corners[order], uvs[faces][order], material[order], half


def _morton_order(points: np.ndarray) -> np.ndarray:
    """Sort points along the Z-order curve (Morton codes), where neighbors are close."""
    cells = ((points.clip(-1, 1) + 1) * 511.5).astype(np.int64)
    key = np.zeros(len(points), np.int64)
    for bit in range(10):
        for axis in range(3):
            key |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(key, kind="stable")


def _read_textures(data: dict[str, np.ndarray]) -> Float[Tensor, "texture 3 height width"]:
    pictures = []
    for start, end in zip(data["tex_off"][:-1], data["tex_off"][1:], strict=True):
        encoded = torch.from_numpy(data["tex_blob"][start:end].astype(np.uint8))
        image = decode(encoded)
        small = np.asarray(image.resize((_TEXTURE_PX, _TEXTURE_PX)), np.float32) / 255
        pictures.append(small.transpose(2, 0, 1))
    return torch.from_numpy(np.stack(pictures or [np.zeros((3, 1, 1), np.float32)]))  # never none


def intersect_meshes(
    meshes: Meshes,
    mesh: Int[Tensor, " pair"],
    planes: Float[Tensor, "pair 4 4"],
    start: Float[Tensor, "pair 3"],
    direction: Float[Tensor, "pair 3 ray"],
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Intersect packets of rays with meshes, after frustum culling of clusters and triangles.

    Rays are in the box of their pair's mesh, as are the `planes` of each packet's frustum: normals
    inward, and offsets.

    Returns:
        Tuples of indices of pairs, indices of triangles of their meshes, and t of every ray, inf
        where it misses.
    """
    parts = []
    for chosen in _split(meshes.count[mesh].cumsum(0)):
        pair, cluster = _clusters_in_frustum(meshes, mesh[chosen], planes[chosen])
        pair, triangle = _triangles_in_frustum(meshes, pair, cluster, planes[chosen])
        at_once = max(1, 2_000_000 // direction.shape[-1]) * (16 if mesh.is_cuda else 1)
        for one, other in zip(pair.split(at_once), triangle.split(at_once), strict=True):
            which = one + chosen.start
            t = _intersect_triangles(meshes.corners[other], start[which], direction[which])
            parts.append((which, other - meshes.first[mesh[which]] * CLUSTER_SIZE, t))
    return parts


def _split(total: Tensor) -> list[slice]:
    """Split pairs, by their cumulative numbers of clusters, into runs of bounded size."""
    if not len(total):
        return []
    group = torch.div(total, _MAX_CLUSTERS, rounding_mode="floor")
    sizes = torch.unique_consecutive(group, return_counts=True)[1].tolist()
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _clusters_in_frustum(meshes: Meshes, mesh: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
    """Return pairs and clusters whose boxes reach into the pair's frustum."""
    count = meshes.count[mesh]
    pair = torch.arange(len(mesh), device=mesh.device).repeat_interleave(count)
    within = torch.arange(len(pair), device=mesh.device) - (count.cumsum(0) - count)[pair]
    cluster = meshes.first[mesh][pair] + within
    normal = planes[..., :3]
    reach = (normal[pair] @ meshes.centers[cluster][..., None])[..., 0] + planes[pair, :, 3]
    reach = reach + (normal.abs()[pair] @ meshes.extents[cluster][..., None])[..., 0]
    near = (reach >= 0).all(1)
    return pair[near], cluster[near]


def _triangles_in_frustum(
    meshes: Meshes, pair: Tensor, cluster: Tensor, planes: Tensor
) -> tuple[Tensor, Tensor]:
    """Return pairs and triangles that reach into the pair's frustum."""
    corners = meshes.corners.view(-1, CLUSTER_SIZE * 3, 3)[cluster]
    side = planes[pair, :, :3] @ corners.mT + planes[pair, :, 3:]
    near = (side.unflatten(-1, (CLUSTER_SIZE, 3)).amax(-1) >= 0).all(1)
    row, column = near.nonzero(as_tuple=True)
    return pair[row], cluster[row] * CLUSTER_SIZE + column


def _intersect_triangles(
    corners: Tensor, start: Tensor, direction: Tensor
) -> Float[Tensor, "hit ray"]:
    """Return t of rays in triangles, by Cramer's rule (Möller and Trumbore, 1997)."""
    corner, edge, other = corners[:, 0], *(corners[:, 1:] - corners[:, :1]).unbind(1)
    normal = torch.linalg.cross(edge, other)
    to_start = start - corner
    rows = [normal, torch.linalg.cross(to_start, other), torch.linalg.cross(edge, to_start)]
    along, u, v = (torch.stack(rows, dim=1) @ direction).unbind(1)
    inverse = 1 / torch.where(along.abs() < 1e-12, 1e-12, along)
    t, u, v = -(to_start * normal).sum(-1, keepdim=True) * inverse, u * inverse, v * inverse
    return torch.where((u >= 0) & (v >= 0) & (u + v <= 1) & (t > 1e-4), t, torch.inf)


def barycentric(
    corners: Float[Tensor, "point 3 3"], position: Float[Tensor, "point 3"]
) -> Float[Tensor, "point 3"]:
    """Return the barycentric coordinates of points on triangles."""
    edge, other = (corners[:, 1:] - corners[:, :1]).unbind(1)
    offset = position - corners[:, 0]
    a, b, c = ((x * y).sum(-1) for x, y in ((edge, edge), (edge, other), (other, other)))
    d, e = (offset * edge).sum(-1), (offset * other).sum(-1)
    scale = 1 / (a * c - b * b).clamp_min(1e-20)
    u, v = (c * d - b * e) * scale, (a * e - b * d) * scale
    return torch.stack([1 - u - v, u, v], dim=-1)
