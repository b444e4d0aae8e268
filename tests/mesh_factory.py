"""A small file of packed meshes."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def _arrays() -> dict[str, np.ndarray]:
    """A 60 x 40 x 20 cm box of twelve triangles, and a table of 90 cm with a texture."""
    corner = np.array([[x, y, z] for x in (-1, 1) for y in (0, 2) for z in (-1, 1)], np.float16)
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = [[a, b, c] for a, b, c, _ in quads] + [[a, c, d] for a, _, c, d in quads]
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), (250, 10, 10)).save(picture, "JPEG")
    data = {
        "verts": np.concatenate([corner * [0.3, 0.2, 0.1], corner * [0.45, 0.4, 0.3]]),
        "uvs": np.zeros((16, 2)), "faces": np.array(faces * 2), "face_mat": np.zeros(24),
        "v_off": np.array([0, 8, 16]), "f_off": np.array([0, 12, 24]),
        "mat_off": np.array([0, 1, 2]),
        "mat_kd": np.array([[0.2, 0.4, 0.6], [1, 1, 1]]), "mat_alpha": np.ones(2),
        "mat_tex": np.array([-1, 0]), "tex_blob": np.frombuffer(picture.getvalue(), np.uint8),
        "tex_off": np.array([0, len(picture.getvalue())]),
    }  # fmt: skip
    types = {"faces": np.uint16, "face_mat": np.uint8, "mat_tex": np.int16, "verts": np.float16}
    return {name: value.astype(types.get(name, value.dtype)) for name, value in data.items()}


MESHES = _arrays()


def write_meshes(file: Path, **changes: np.ndarray) -> Path:
    """Write the file, some of whose arrays are others."""
    np.savez(file, **{**MESHES, **changes})
    return file
