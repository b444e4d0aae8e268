import zipfile
from pathlib import Path

import numpy as np
import pytest
from mesh_factory import write_meshes

from models.data.procedural.meshes import load_meshes

NONE = dict.fromkeys(("v_off", "f_off", "mat_off"), np.zeros(1, np.int32))


@pytest.mark.parametrize("change", [NONE, {"mat_alpha": np.zeros(2)}])
def test_a_file_without_meshes_is_an_error(tmp_path: Path, change: dict):
    with pytest.raises(ValueError, match="no mesh of"):
        load_meshes(write_meshes(tmp_path / "meshes.npz", **change))


@pytest.mark.parametrize(
    "change",
    [
        {"verts": np.full((16, 3), np.nan)},
        {"verts": np.zeros(16)},
        {"verts": np.full((16, 3), 1e300)},
        {"faces": np.full((24, 3), 8)},
        {"face_mat": np.full(24, 2)},
        {"v_off": np.array([0, 16, 8])},
        {"v_off": np.array([0, 8, 1 << 40])},
        {"v_off": np.array([0, -(2**63), 16])},
        {"f_off": np.array([0, 24])},
        {"mat_tex": np.array([-1, 1])},
        {"mat_alpha": np.zeros(1)},
        {"tex_blob": np.zeros(4000, np.uint8)},
        {"mat_kd": np.array(["a", "b"])},
        {"face_mat": np.array(1.5)},
    ],
    ids=lambda change: "{}-{}".format(*next((k, v.flat[-1]) for k, v in change.items())),
)
def test_a_file_of_broken_meshes_is_refused(tmp_path: Path, change: dict):
    with pytest.raises(ValueError, match="no file of meshes"):
        load_meshes(write_meshes(tmp_path / "meshes.npz", **change))


def test_a_file_that_unpacks_to_far_more_than_it_is_is_refused(tmp_path: Path):
    file = tmp_path / "meshes.npz"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("verts.npy", "w", force_zip64=True) as entry:
            for _ in range(9):
                entry.write(bytes(1 << 26))
    with pytest.raises(ValueError, match="unpacks to 603,979,776 bytes"):
        load_meshes(file)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no file of meshes"):
        load_meshes(file)
