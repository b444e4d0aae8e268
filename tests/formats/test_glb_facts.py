"""What glTF says about nodes, accessors and extensions."""

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from foreign_files import FILES, assert_same, known_scene, read

from models.geometry.gaussians import transform
from models.geometry.rigid import from_wxyz, rigid_motion
from nps_cli.errors import NpsError


def glb(change: Callable[[dict[str, Any]], None], name: str = "ours.glb") -> bytes:
    """A .glb whose JSON is changed."""
    content = FILES[name](known_scene())
    (length,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + length])
    change(document)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + length :]
    head = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
    return head + text + rest


def attribute(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the accessor of an attribute."""
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    (index,) = [index for key, index in attributes.items() if key.endswith(name)]
    return document["accessors"][index]


def test_a_node_of_glTF_is_scaled_then_turned_then_moved(tmp_path: Path):
    wxyz = torch.nn.functional.normalize(torch.tensor([0.8, 0.3, -0.4, 0.2]), dim=0)
    move = torch.tensor([1.0, 2.0, -3.0])
    turn = from_wxyz(wxyz)
    node = {"mesh": 0, "scale": [2, 2, 2], "rotation": [*wxyz[1:].tolist(), float(wxyz[0])]}
    node["translation"] = move.tolist()
    matrix = torch.eye(4)
    matrix[:3, :3], matrix[:3, 3] = 2 * turn, move
    flip = torch.diag(torch.tensor([1.0, -1, -1]))  # from glTF's axes to ours
    expected = transform(known_scene(), rigid_motion(flip @ turn, flip @ move).double(), 2.0)
    for each in (node, {"mesh": 0, "matrix": matrix.T.flatten().tolist()}):
        found = read(tmp_path, "a.glb", glb(lambda d, each=each: d.update(nodes=[each])))
        assert_same(replace(found, rotations=expected.rotations), expected, 1e-5)
        assert (from_wxyz(found.rotations) - from_wxyz(expected.rotations)).abs().max() < 1e-5


def test_nodes_without_a_transformation_leave_a_scene_where_it_is(tmp_path: Path):
    flip = rigid_motion(torch.diag(torch.tensor([1.0, -1, -1])), torch.zeros(3))
    plain = transform(known_scene(), flip.double(), 1.0)
    for nodes in ([{"mesh": 0}], [{"children": [1]}, {"mesh": 0}, {"name": "camera"}]):
        found = read(tmp_path, "a.glb", glb(lambda d, n=nodes: d.update(nodes=n)))
        assert_same(replace(found, rotations=plain.rotations), plain)
    twice = read(tmp_path, "a.glb", glb(lambda d: d.update(nodes=[{"mesh": 0}, {"mesh": 0}])))
    assert len(twice) == 2 * len(plain)


@pytest.mark.parametrize("scale", [[1, 1, 2], [-1, 1, 1], [0, 0, 0], [1e200, 1e200, 1e200]])
def test_a_node_that_squeezes_or_mirrors_gaussians_is_refused(tmp_path: Path, scale):
    with pytest.raises(NpsError):
        read(tmp_path, "a.glb", glb(lambda d: d.update(nodes=[{"mesh": 0, "scale": scale}])))


def set_in(name: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: attribute(document, name).update({key: value})


@pytest.mark.parametrize(
    "change",
    [
        set_in("ROTATION", "count", 5),
        set_in("ROTATION", "count", -1),
        set_in("ROTATION", "type", "VEC3"),
        set_in("SCALE", "type", "VEC2"),
        set_in("OPACITY", "byteOffset", 10**6),
        set_in("OPACITY", "byteOffset", -(10**6)),
        set_in("OPACITY", "sparse", {}),
        set_in("POSITION", "count", 3),
        lambda document: document["bufferViews"][0].update(buffer=1),
        lambda document: document["bufferViews"][0].update(byteStride=2),
        lambda document: document["buffers"][0].update(uri="elsewhere.bin"),
        lambda document: document.update(nodes=[{"children": [0], "mesh": 0}]),
        lambda document: document.update(asset=None),
    ],
)
def test_glTF_that_points_outside_of_itself_is_damaged(tmp_path: Path, change):
    with pytest.raises(NpsError, match="damaged"):
        read(tmp_path, "a.glb", glb(change))


def test_glTF_compressed_by_an_extension_is_named(tmp_path: Path):
    def change(document):
        (primitive,) = document["meshes"][0]["primitives"]
        primitive["extensions"]["KHR_gaussian_splatting"]["extensions"] = {"X_spz": {}}

    with pytest.raises(NpsError, match="X_spz"):
        read(tmp_path, "a.glb", glb(change))


def test_normalized_bytes_in_glTF_are_shares(tmp_path: Path):
    def change(document):
        accessor = attribute(document, "OPACITY")
        accessor.update(componentType=5121, normalized=True)
        values = np.array([0, 51, 255, 102], np.uint8).tobytes()
        view = document["bufferViews"][accessor["bufferView"]]
        change.offset, change.values = view.get("byteOffset", 0), values
        view.pop("byteStride", None)

    content = bytearray(glb(change))
    start = content.index(b"BIN\0") + 4 + change.offset
    content[start : start + 4] = change.values
    found = read(tmp_path, "a.glb", bytes(content))
    torch.testing.assert_close(found.opacities, torch.tensor([0, 0.2, 1.0, 0.4]))


def test_only_degrees_whose_harmonics_are_all_there_count(tmp_path: Path):
    def change(document):
        (primitive,) = document["meshes"][0]["primitives"]
        keys = [key for key in primitive["attributes"] if key.endswith("DEGREE_1_COEF_2")]
        del primitive["attributes"][keys[0]]

    assert read(tmp_path, "a.glb", glb(change)).sh_degree == 0
