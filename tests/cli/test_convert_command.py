import json
from pathlib import Path

import pytest
import torch

from models.geometry.camera import Camera, transform_camera
from models.geometry.gaussians import Gaussians, keep_strongest, transform
from models.geometry.rigid import se3_exponential, turn_up_to
from nps_cli.formats import SceneCamera, load_scene, read_cameras, save_scene

INTRINSICS = torch.tensor([[1.0, 0, 0.5], [0, 1.5, 0.5], [0, 0, 1]])
POSE = se3_exponential(torch.tensor([0.1, -0.2, 0.05, 0.1, 0.05, -0.1]))


@pytest.fixture
def scene(tmp_path: Path, tiny_scene: Gaussians) -> Path:
    path = tmp_path / "scene.ply"
    camera = SceneCamera("left.jpg", Camera(INTRINSICS, POSE, (32, 48)))
    save_scene(tiny_scene, path, [camera], comments=['weights {"name": "small"}', "made by hand"])
    return path


@pytest.mark.parametrize("suffix", ["ply", "spz", "splat", "glb"])
def test_a_scene_changes_its_format(nps, tmp_path: Path, scene: Path, suffix: str):
    ran = nps("convert", scene, tmp_path / f"new.{suffix}")

    assert ran.code == 0 and "384 of 384" in ran.err
    assert len(load_scene(tmp_path / f"new.{suffix}")[0]) == 384


def test_cameras_and_comments_stay_once(nps, tmp_path: Path, scene: Path):
    nps("convert", scene, tmp_path / "a.glb")
    nps("convert", tmp_path / "a.glb", tmp_path / "b.ply")

    _, comments = load_scene(tmp_path / "b.ply")

    assert [line.split()[0] for line in comments] == ["nps", "view", "weights", "made"]
    assert torch.equal(read_cameras(comments)[0].camera.world2cam, POSE)


def test_a_box_keeps_what_is_in_it(nps, tmp_path: Path, scene: Path, tiny_scene: Gaussians):
    ran = nps("convert", scene, tmp_path / "a.ply", "--crop=-9,-9,0,0,0,9", "--json")

    found, _ = load_scene(tmp_path / "a.ply")
    assert json.loads(ran.out) == {"out": str(tmp_path / "a.ply"), "gaussians": 96, "before": 384}
    assert (found.means[:, :2] < 0).all()


def test_faint_and_small_gaussians_are_left_out(nps, tmp_path: Path, tiny_scene: Gaussians):
    tiny_scene.opacities[:100] = 0.1
    tiny_scene.scales[200:] = 0.01
    save_scene(tiny_scene, tmp_path / "scene.ply")

    nps("convert", tmp_path / "scene.ply", tmp_path / "a.ply", "--min-opacity", 0.5)
    nps("convert", tmp_path / "scene.ply", tmp_path / "b.ply", "--max-gaussians", 100)

    assert len(load_scene(tmp_path / "a.ply")[0]) == 284
    kept, _ = load_scene(tmp_path / "b.ply")
    assert torch.equal(kept.means, tiny_scene.means[100:200])
    assert keep_strongest(tiny_scene, 384) is tiny_scene


@pytest.mark.parametrize(
    "axis, index, sign",
    [("x", 0, 1), ("y", 1, 1), ("z", 2, 1), ("-x", 0, -1), ("-y", 1, -1), ("-z", 2, -1)],
)
def test_up_turns_to_an_axis(axis: str, index: int, sign: int):
    turn = turn_up_to(axis)

    up = turn @ torch.tensor([0.0, -1.0, 0.0, 1.0])
    assert up[index] == sign and torch.linalg.det(turn) == 1


def test_the_photos_see_the_same_after_a_turn_and_a_scale(nps, tmp_path: Path, scene: Path):
    from models.render import render

    nps("convert", scene, tmp_path / "a.ply", "--up", "z", "--scale", 3)

    gaussians, comments = load_scene(tmp_path / "a.ply")
    moved = read_cameras(comments)[0].camera
    before, comments = load_scene(scene)
    expected = render(before, read_cameras(comments)[0].camera).color
    assert before.means[:, 2].min() == 2 and gaussians.means[:, 1].min() == 6
    torch.testing.assert_close(render(gaussians, moved).color, expected, atol=2e-3, rtol=0)


def test_a_camera_follows_any_similarity(tiny_scene: Gaussians):
    motion = se3_exponential(torch.tensor([0.4, 0.5, -0.2, 0.3, -0.2, 0.6]))
    camera = Camera(INTRINSICS, POSE, (32, 48))

    before, depth = camera.project(tiny_scene.means)
    moved = transform_camera(camera, motion, 2.0)
    after, twice = moved.project(transform(tiny_scene, motion, 2.0).means)

    torch.testing.assert_close(after, before)
    torch.testing.assert_close(twice, 2 * depth)


def test_a_scene_goes_through_a_pipe(nps, scene: Path):
    ran = nps("convert", "-", "-", stdin=scene.read_bytes())

    assert ran.code == 0 and ran.out_bytes.startswith(b"ply\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.obj"], 2, "not known"),
        (["scene.ply", "--force"], 1, "is read"),
        (["a.ply", "--crop", "1,2,3"], 2, "X0,Y0,Z0"),
        (["a.ply", "--crop", "0,0,0,1,nan,1"], 2, "X0,Y0,Z0"),
        (["a.ply", "--crop", "50,50,50,60,60,60"], 1, "None of the 384"),
        (["a.ply", "--up", "w"], 2, "up"),
        (["a.ply", "--scale", "0"], 2, "scale"),
        (["-", "--json"], 2, "stdout"),
    ],
)
def test_what_cannot_be_is_refused(
    nps, monkeypatch, tmp_path: Path, scene: Path, arguments: list[str], code: int, words: str
):
    monkeypatch.chdir(tmp_path)

    ran = nps("convert", scene, *arguments)

    assert ran.code == code and words in ran.err
    assert {path.name for path in tmp_path.iterdir()} == {"scene.ply"}
