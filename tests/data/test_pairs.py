import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.data.pairs import load_pairs, spread_over_scenes
from models.data.report import Report
from models.geometry.rigid import invert, se3_exponential

WIDTH, HEIGHT = 24, 16
K = [[30.0, 0, 13], [0, 20.0, 6], [0, 0, 1]]
FIRST = se3_exponential(torch.tensor([5.0, -2, 1, 0.3, 0.1, -0.2], dtype=torch.float64))
SECOND = se3_exponential(torch.tensor([4.0, -2, 1, 0.2, 0.2, -0.2], dtype=torch.float64))


def entry(**changes) -> dict:
    usual = {
        "id": "desk_0",
        "scene": "desk",
        "difficulty": "easy",
        "low_parallax": True,
        "images": ["a.png", "b.png"],
        "size": [[WIDTH, HEIGHT], [WIDTH, HEIGHT]],
        "K": [K, K],
        "w2c": [FIRST.tolist(), SECOND.tolist()],
        "targets": [
            {"image": "t.png", "size": [WIDTH, HEIGHT], "K": K, "w2c": SECOND.tolist()},
        ],
    }
    return usual | changes


def written(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(content))
    return path


def test_intrinsics_are_normalized_by_width_and_height_in_their_rows(tmp_path):
    (pair,) = load_pairs(written(tmp_path, [entry()]))
    expected = torch.tensor([[30 / 24, 0, 13 / 24], [0, 20 / 16, 6 / 16], [0, 0, 1]])
    torch.testing.assert_close(pair.views[0].camera.intrinsics, expected)
    assert pair.views[0].camera.size == (HEIGHT, WIDTH)


def test_the_world_is_the_first_views_camera_for_views_and_targets(tmp_path):
    (pair,) = load_pairs(written(tmp_path, [entry()]))
    first2second = (SECOND @ invert(FIRST)).float()
    torch.testing.assert_close(pair.views[0].camera.world2cam, torch.eye(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(pair.views[1].camera.world2cam, first2second)
    torch.testing.assert_close(pair.targets[0].camera.world2cam, first2second)


def test_three_photos_make_a_triple_and_targets_may_be_absent(tmp_path):
    triple = entry(
        images=["a.png", "b.png", "c.png"],
        size=[[WIDTH, HEIGHT]] * 3,
        K=[K] * 3,
        w2c=[FIRST.tolist(), SECOND.tolist(), SECOND.tolist()],
    )
    del triple["targets"], triple["low_parallax"], triple["difficulty"]
    (pair,) = load_pairs(written(tmp_path, [triple]))
    assert len(pair.views) == 3
    assert pair.targets == ()
    assert not pair.low_parallax


def test_a_photo_is_read_as_rgb_with_its_rows_first(tmp_path):
    picture = Image.new("RGB", (WIDTH, HEIGHT))
    picture.putpixel((WIDTH - 1, 0), (255, 51, 0))
    picture.save(tmp_path / "a.png")
    (pair,) = load_pairs(written(tmp_path, [entry()]))
    image = pair.views[0].load().image
    assert image.shape == (3, HEIGHT, WIDTH)
    torch.testing.assert_close(image[:, 0, WIDTH - 1], torch.tensor([1.0, 0.2, 0.0]))


def test_a_photo_of_another_size_than_stated_is_refused(tmp_path):
    Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "a.png")
    (pair,) = load_pairs(written(tmp_path, [entry()]))
    with pytest.raises(ValueError, match=r"a\.png is 16x24, but the list says 24x16"):
        pair.views[0].load()


@pytest.mark.parametrize("content", [None, b"not a photo"])
def test_a_photo_that_cannot_be_read_is_named(tmp_path, content: bytes | None):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    (pair,) = load_pairs(written(tmp_path, [entry()]))
    with pytest.raises(ValueError, match=r"a\.png cannot be read"):
        pair.views[0].load()


MIRROR = torch.diag(torch.tensor([-1.0, 1, 1, 1])).tolist()
LARGER = (2 * torch.eye(4)).tolist()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"images": ["a.png"]}, "1 images, not 2 or 3"),
        ({"K": [K]}, "2 images but 1 of K"),
        ({"K": [K, [[1.0, 0], [0, 1.0]]]}, "not a 3x3"),
        ({"K": [K, [[-30.0, 0, 13], [0, 20, 6], [0, 0, 1]]]}, "not a pinhole"),
        ({"w2c": [FIRST.tolist(), MIRROR]}, "not a rigid motion"),
        ({"w2c": [FIRST.tolist(), LARGER]}, "not a rigid motion"),
        ({"w2c": [FIRST.tolist(), FIRST.tolist()]}, "stand on one point"),
        ({"w2c": [FIRST.tolist(), [[True] * 4] * 4]}, "not a finite number"),
        ({"size": [[WIDTH, HEIGHT], [0, HEIGHT]]}, "size is 0 x 16"),
        ({"size": [[WIDTH, HEIGHT], None]}, "no size"),
        ({"targets": [{"image": "t.png"}]}, "has no 'size'"),
    ],
)
def test_a_wrong_entry_is_refused_by_number_name_and_reason(tmp_path, changes, complaint):
    path = written(tmp_path, [entry(id="desk_1"), entry(**changes)])
    with pytest.raises(ValueError, match=complaint) as caught:
        load_pairs(path)
    assert "entry 1 (desk_0)" in str(caught.value)


@pytest.mark.parametrize("content", [{}, [], ["a"], [[1]], 3])
def test_json_of_another_shape_is_refused(tmp_path, content):
    with pytest.raises(ValueError):
        load_pairs(written(tmp_path, content))


@pytest.mark.parametrize("content", [b"\xff\xd8\xff", b"[1, 2", b""])
def test_what_is_not_json_is_refused(tmp_path, content: bytes):
    path = tmp_path / "pairs.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not JSON"):
        load_pairs(path)


def test_an_id_used_twice_is_refused(tmp_path):
    with pytest.raises(ValueError, match="id desk_0"):
        load_pairs(written(tmp_path, [entry(), entry()]))


def test_a_limit_is_spread_evenly_over_scenes(tmp_path):
    scenes = ["desk"] * 10 + ["door"] * 2 + ["tree"] * 5
    entries = [entry(id=str(index), scene=scene) for index, scene in enumerate(scenes)]
    pairs = load_pairs(written(tmp_path, entries))

    chosen = [pair.scene for pair in spread_over_scenes(pairs, 8)]

    assert chosen == ["desk"] * 3 + ["door"] * 2 + ["tree"] * 3
    assert spread_over_scenes(pairs, 100) == pairs
    assert len({pair.scene for pair in spread_over_scenes(pairs, 2)}) == 2


def test_a_limit_takes_from_all_of_a_scene_not_only_its_beginning(tmp_path):
    pairs = load_pairs(written(tmp_path, [entry(id=str(index)) for index in range(9)]))
    assert [pair.id for pair in spread_over_scenes(pairs, 3)] == ["1", "4", "7"]


def test_a_number_that_is_none_spoils_its_own_entry_alone(tmp_path):
    nan = [[float("nan"), 0, 13], *K[1:]]
    path = written(tmp_path, [entry(), entry(id="wall_3", K=[K, nan]), entry(id="NaN", note="NaN")])
    with pytest.raises(ValueError, match=r"entry 1 \(wall_3\) is wrong: b.png: 'NaN'"):
        load_pairs(path)
    report = Report()
    assert [pair.id for pair in load_pairs(path, report)] == ["desk_0", "NaN"]
    assert report.skipped.total() == 1
