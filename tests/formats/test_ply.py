import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from models.geometry.camera import Camera
from models.geometry.gaussians import PARAMETERS, Gaussians
from models.weights import WeightsInfo
from nps_cli.errors import NpsError
from nps_cli.formats import SceneCamera, load_scene, ply, read_cameras, save_scene, scene_file


def random_scene(count: int = 50, sh_degree: int = 3) -> Gaussians:
    return Gaussians(
        means=torch.randn(count, 3),
        scales=torch.rand(count, 3) + 0.01,
        rotations=torch.nn.functional.normalize(torch.randn(count, 4), dim=-1),
        harmonics=torch.randn(count, 3, (sh_degree + 1) ** 2),
        opacities=torch.rand(count) * 0.9 + 0.05,
    )


def encode_ply(*arguments, **options) -> bytes:
    return b"".join(ply.encode_ply(*arguments, **options))


def decode_ply(content: bytes, name: str) -> tuple[Gaussians, list[str]]:
    source = scene_file.Source(io.BytesIO(content), name, len(content))
    scene = ply.open_ply(source)
    return scene_file.collect(scene, name), scene.comments


def read(content: bytes) -> Gaussians:
    return decode_ply(content, "a scene")[0]


def assert_same(first: Gaussians, second: Gaussians) -> None:
    for name in PARAMETERS:
        torch.testing.assert_close(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("sh_degree", [0, 1, 2, 3])
def test_what_is_written_is_read_back(sh_degree):
    scene = random_scene(sh_degree=sh_degree)

    assert_same(read(encode_ply(scene)), scene)


def test_the_file_is_what_the_format_says():
    scene = random_scene(sh_degree=2)

    vertex = PlyData.read(io.BytesIO(encode_ply(scene)))["vertex"]

    expected = ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    expected += [f"f_rest_{index}" for index in range(24)]
    expected += ["opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]
    assert [item.name for item in vertex.properties] == expected
    assert {item.val_dtype for item in vertex.properties} == {"f4"}
    assert vertex["y"] == pytest.approx(scene.means[:, 1].numpy())
    assert vertex["f_dc_1"] == pytest.approx(scene.harmonics[:, 1, 0].numpy())
    assert vertex["f_rest_7"] == pytest.approx(scene.harmonics[:, 0, 8].numpy())
    assert vertex["f_rest_8"] == pytest.approx(scene.harmonics[:, 1, 1].numpy())
    assert 1 / (1 + np.exp(-vertex["opacity"])) == pytest.approx(scene.opacities.numpy())
    assert np.exp(vertex["scale_2"]) == pytest.approx(scene.scales[:, 2].numpy())
    assert vertex["rot_0"] == pytest.approx(scene.rotations[:, 0].numpy())


def test_harmonics_above_degree_3_are_cut_per_channel():
    scene = random_scene(sh_degree=4)

    assert_same(read(encode_ply(scene)), replace(scene, harmonics=scene.harmonics[:, :, :16]))


@pytest.mark.parametrize("last, degree", [(0, 0), (1, 1), (3, 1), (4, 2), (8, 2), (9, 3), (15, 3)])
def test_the_default_degree_is_as_small_as_is_faithful(last, degree):
    harmonics = torch.zeros(50, 3, 25)
    harmonics[:, 1, 0] = harmonics[7, 2, last] = 1
    scene = replace(random_scene(), harmonics=harmonics)

    back = read(encode_ply(scene))

    assert back.sh_degree == degree
    torch.testing.assert_close(back.harmonics, harmonics[:, :, : (degree + 1) ** 2])


def test_a_smaller_degree_can_be_asked_for():
    scene = random_scene()

    back = read(encode_ply(scene, sh_degree=1))

    torch.testing.assert_close(back.harmonics, scene.harmonics[:, :, :4])


def test_the_ends_of_the_ranges_stay_finite():
    scene = random_scene(3)
    scene = replace(scene, opacities=torch.tensor([0, 0.5, 1]), scales=torch.zeros(3, 3))

    vertex = PlyData.read(io.BytesIO(encode_ply(scene)))["vertex"]

    assert all(np.isfinite(vertex[item.name]).all() for item in vertex.properties)
    torch.testing.assert_close(
        read(encode_ply(scene)).opacities, scene.opacities, atol=2e-6, rtol=0
    )


def test_values_that_are_not_finite_are_not_written():
    scene = random_scene()
    scene.means[[4, 9], 1] = math.nan

    with pytest.raises(ValueError, match="2 of 50"):
        encode_ply(scene)


def foreign(scene: Gaussians, **changes: object) -> np.ndarray:
    """The scene as another program might hold it: own order, doubles, no normals, extra fields."""
    vertex = PlyData.read(io.BytesIO(encode_ply(scene)))["vertex"]
    names = [item.name for item in vertex.properties if item.name not in ("nx", "ny", "nz")]
    columns = np.zeros(len(vertex), [("label", "u1"), *((name, "f8") for name in sorted(names))])
    for name in names:
        columns[name] = vertex[name]
    return columns


@pytest.mark.parametrize("text, order", [(True, "="), (False, "<"), (False, ">")])
def test_files_of_other_programs_are_read(text, order):
    scene = random_scene()
    element = PlyElement.describe(foreign(scene), "vertex")
    stream = io.BytesIO()
    PlyData([element], text=text, byte_order=order, comments=["made elsewhere"]).write(stream)

    back, comments = decode_ply(stream.getvalue(), "a scene")

    assert_same(back, scene)
    assert comments == ["made elsewhere"]


def test_other_elements_and_list_properties_are_passed_over():
    scene = random_scene()
    extra = np.array([([1, 2, 3],)], [("values", "O")])
    elements = [PlyElement.describe(foreign(scene), "vertex"), PlyElement.describe(extra, "camera")]
    stream = io.BytesIO()
    PlyData(elements).write(stream)

    assert_same(read(stream.getvalue()), scene)


def test_rotations_are_read_as_unit_quaternions():
    columns = foreign(random_scene(2))
    for name in ("rot_0", "rot_1", "rot_2", "rot_3"):
        columns[name] = [0, 5]
    stream = io.BytesIO()
    PlyData([PlyElement.describe(columns, "vertex")]).write(stream)

    expected = torch.tensor([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]])
    torch.testing.assert_close(read(stream.getvalue()).rotations, expected)


def mesh() -> bytes:
    vertices = np.zeros(3, [("x", "f4"), ("y", "f4"), ("z", "f4")])
    faces = np.array([([0, 1, 2],)], [("vertex_indices", "i4", (3,))])
    stream = io.BytesIO()
    elements = [PlyElement.describe(vertices, "vertex"), PlyElement.describe(faces, "face")]
    PlyData(elements).write(stream)
    return stream.getvalue()


def with_values(name: str, value: float) -> bytes:
    columns = foreign(random_scene())
    columns[name][:30] = value
    stream = io.BytesIO()
    PlyData([PlyElement.describe(columns, "vertex")]).write(stream)
    return stream.getvalue()


SCENE = encode_ply(random_scene())
ASCII = SCENE[: SCENE.index(b"end_header")].replace(b"binary_little_endian", b"ascii")
ASCII += b"end_header\n" + b"0 " * 62 + b"\n"
POINTS = b"ply\nformat ascii 1.0\nelement vertex 1\n" + b"".join(
    b"property float %c\n" % axis for axis in b"xyz"
)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"", "not a PLY"),
        (b"plywood\nend_header\n", "not a PLY"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a PLY"),
        (SCENE[:300], "not a PLY"),
        (SCENE[:-100], "cut short"),
        (SCENE.replace(b"vertex 50", b"vertex 10000000000000"), "cut short"),
        (SCENE.replace(b"vertex 50", b"vertex -5"), "cut short"),
        (SCENE.replace(b"vertex 50", b"vertex"), "cut short"),
        (SCENE.replace(b"binary_little_endian", b"binary_middle_endian"), "damaged"),
        (SCENE.replace(b"element vertex 50\n", b""), "damaged"),
        (b"ply\nformat ascii 1.0\nelement vertex 5\nend_header\n", "no vertices"),
        (b"ply\n" + b"comment " + bytes(2**20), "not a PLY"),
        (SCENE.replace(b"f_rest_44", b"f_rest_99"), "45 f_rest"),
        (SCENE.replace(b"f_rest_44", b"else_____"), "44 f_rest"),
        (SCENE.replace(b"opacity", b"density"), "no opacity"),
        (POINTS + b"end_header\n0 0 0\n", "no f_dc_0"),
        (ASCII.replace(b"_header\n", b"_header\nzero "), "damaged"),
        (mesh(), "face"),
        (encode_ply(random_scene(0)), "0 Gaussians"),
        (with_values("x", math.nan), "30 of 50"),
        (with_values("rot_2", math.inf), "30 of 50"),
        (with_values("scale_1", 500), "30 of 50"),
        (with_values("f_dc_0", 1e300), "30 of 50"),
    ],
)
def test_what_is_no_scene_is_named_in_one_sentence(content, expected, capfd):
    with pytest.raises(NpsError, match=expected) as caught:
        decode_ply(content, "scene.ply")

    assert "scene.ply" in str(caught.value)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_an_infinite_logit_is_an_opaque_gaussian():
    assert read(with_values("opacity", math.inf)).opacities[:30].tolist() == [1] * 30


def test_random_damage_never_gets_past_the_one_error():
    generator = np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(SCENE)
        for place in generator.integers(0, 1500, 3):
            content[place] = generator.integers(0, 256)
        try:
            read(bytes(content))
        except NpsError:
            pass


CAMERA = SceneCamera(
    'a "strange"\nname \u65e5\u672c.jpg',
    Camera(
        intrinsics=torch.tensor([[0.7, 0, 1 / 3], [0, 0.9, 0.51], [0, 0, 1]]),
        world2cam=torch.linalg.matrix_exp(torch.diag(torch.full((3,), 1e-7), 1)),
        size=(3024, 4032),
    ),
)
WEIGHTS = WeightsInfo("small", "0123abcd", "MIT", "", {})


def test_cameras_survive_exactly_whatever_the_photo_is_called(tmp_path):
    path = tmp_path / "scene.ply"

    save_scene(random_scene(), path, [CAMERA, CAMERA], WEIGHTS)
    _, comments = load_scene(path)
    first, second = read_cameras(comments)

    for photo in (first, second):
        assert (photo.name, photo.camera.size) == (CAMERA.name, (3024, 4032))
        assert torch.equal(photo.camera.intrinsics, CAMERA.camera.intrinsics)
        assert torch.equal(photo.camera.world2cam, CAMERA.camera.world2cam)
    assert comments[0].startswith("nps ")
    assert comments[1] == 'weights {"name": "small", "sha256": "0123abcd"}'
    path.read_bytes().split(b"end_header")[0].decode("ascii")


def test_a_scene_of_another_program_has_no_cameras():
    assert read_cameras(["Generated by something", "view from above"]) == []


VIEW = (
    'view {"photo": "a", "width": 640, "height": 480, '
    '"intrinsics": [[0.75, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], '
    '"world2cam": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]]}'
)


def test_a_whole_camera_is_read():
    (photo,) = read_cameras([VIEW])

    assert photo.camera.size == (480, 640)


@pytest.mark.parametrize(
    "comment",
    [
        'view {"photo": "a.jpg"',
        'view {"photo": "a.jpg"}',
        'view {"photo": "a", "width": 1, "height": 1, "intrinsics": [[1]], "world2cam": [[1]]}',
        VIEW.replace("640", "0"),
        VIEW.replace("640", "-5"),
        VIEW.replace("0.75", "0.0"),
        VIEW.replace("0.75", "1e300"),
        VIEW.replace("[0, 0, 1, 3]", "[0, 0, 9, 3]"),
        VIEW.replace("[0, 0, 1, 3]", "[0, 0, 1, NaN]"),
        VIEW.replace("[0, 0, 1, 3]", "[0, 0, 1, 1e30]"),
        VIEW.replace("[0, 0, 0, 1]", "[0, 0, 1, 1]"),
        VIEW.replace("640", "9" * 5000),
        VIEW + "[" * 100_000,
    ],
)
def test_a_damaged_camera_is_an_error_with_a_hint(comment):
    with pytest.raises(NpsError, match="damaged"):
        read_cameras([comment])


def test_other_suffixes_are_refused_by_name(tmp_path):
    with pytest.raises(NpsError, match=r"scene\.xyz"):
        save_scene(random_scene(), tmp_path / "scene.xyz")


def test_a_missing_scene_is_named(tmp_path):
    with pytest.raises(NpsError, match=r"nowhere\.ply.*No such file"):
        load_scene(tmp_path / "nowhere.ply")
