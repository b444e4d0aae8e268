import json
import os
import pickle

import pytest
import torch
from chunk_factory import SHAPE, encode, make_root, make_scene

from models.data.chunks import open_chunk, read_index, write_chunks
from models.data.report import Report
from models.data.scenes import decode, to_tensor
from models.geometry.checks import find_bad_cameras


def the_chunk(root):
    return root / "train" / "000000.torch"


def rewritten(root, change):
    """The first chunk of a root after `change` has had its entries in hand."""
    entries = torch.load(the_chunk(root), weights_only=True)
    change(entries)
    torch.save(entries, the_chunk(root))
    return open_chunk(the_chunk(root))


def test_a_scene_comes_back_as_it_was_written(tmp_path):
    scene = make_scene("a")
    write_chunks([scene], tmp_path)
    chunk = open_chunk(tmp_path / "000000.torch")
    found = chunk.scenes["a"]
    assert not chunk.skipped
    assert all(torch.equal(*images) for images in zip(found.images, scene.images, strict=True))
    torch.testing.assert_close(found.intrinsics, scene.intrinsics)
    torch.testing.assert_close(found.world2cam, scene.world2cam)


def test_cameras_are_written_where_the_published_layout_has_them(tmp_path):
    scene = make_scene("a")
    write_chunks([scene], tmp_path)
    (entry,) = torch.load(tmp_path / "000000.torch", weights_only=True)
    assert set(entry) == {"key", "url", "timestamps", "cameras", "images"}
    row = entry["cameras"][3]
    torch.testing.assert_close(row[:6], torch.tensor([0.9, 1.6, 0.5, 0.5, 0, 0]))
    torch.testing.assert_close(row[6:].view(3, 4), scene.world2cam[3, :3])


def test_a_frame_is_decoded_to_rgb_between_0_and_1():
    image = to_tensor(decode(make_scene("a").images[3]))
    assert image.shape == (3, *SHAPE) and image.dtype == torch.float32
    assert (image[:, :, 0] == 30 / 255).all()


def test_scenes_are_divided_into_chunks_that_the_index_names(tmp_path):
    root = make_root(tmp_path, scenes=5, per_chunk=2)
    index = json.loads((root / "train" / "index.json").read_text())
    assert index["a"] == index["b"] == "000000.torch" and index["e"] == "000002.torch"
    report = Report()
    keys = read_index(root / "train", report)
    assert keys == {"000000.torch": ["a", "b"], "000001.torch": ["c", "d"], "000002.torch": ["e"]}
    (root / "train" / "index.json").unlink()
    assert read_index(root / "train", report) == keys
    assert not report.skipped


def test_two_scenes_of_one_key_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="the key a"):
        write_chunks([make_scene("a"), make_scene("a")], tmp_path)


class Malice:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [None, 2, 5])
def test_a_pickle_with_code_in_it_is_refused_and_never_run(tmp_path, protocol):
    trap = tmp_path / "trap"
    path = tmp_path / "000000.torch"
    if protocol is None:
        torch.save([{"key": Malice(trap)}], path)
    else:
        path.write_bytes(pickle.dumps([Malice(trap)], protocol=protocol))
    chunk = open_chunk(path)
    assert not trap.exists()
    assert not chunk.scenes
    (skipped,) = chunk.skipped
    assert skipped.kind == "chunk" and "000000.torch" in skipped.where
    assert protocol is not None or "mkdir, which was not done" in skipped.why


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_truncated_chunk_is_named_and_yields_nothing(tmp_path, kept):
    root = make_root(tmp_path)
    content = the_chunk(root).read_bytes()
    the_chunk(root).write_bytes(content[: int(kept * len(content))])
    chunk = open_chunk(the_chunk(root))
    assert not chunk.scenes
    assert [skipped.where for skipped in chunk.skipped] == ["train/000000.torch"]
    assert "truncated" in chunk.skipped[0].why


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda entry: entry.pop("cameras"), "no 'cameras'"),
        (lambda entry: entry.update(cameras=entry["cameras"][:-1]), "12 images, but cameras of"),
        (lambda entry: entry.update(cameras=None), "12 images, but cameras of"),
        (lambda entry: entry["images"].__setitem__(0, torch.zeros(3)), "not a row of bytes"),
        (lambda entry: entry.update(key=7), "key is no text"),
        (lambda entry: entry.update(key="b"), "its key is there twice"),
    ],
)
def test_a_broken_scene_is_named_and_the_others_are_read(tmp_path, change, why):
    chunk = rewritten(make_root(tmp_path), lambda entries: change(entries[0]))
    assert "b" in chunk.scenes and "a" not in chunk.scenes
    (skipped,) = chunk.skipped
    assert skipped.kind == "scene" and why in skipped.why


def test_a_chunk_that_is_no_list_is_named(tmp_path):
    torch.save({"key": "a"}, tmp_path / "000000.torch")
    (skipped,) = open_chunk(tmp_path / "000000.torch").skipped
    assert "holds a dict" in skipped.why


def test_an_index_that_names_a_chunk_that_is_not_there_is_reported(tmp_path):
    root = make_root(tmp_path)
    (root / "train" / "000001.torch").unlink()
    report = Report()
    assert read_index(root / "train", report) == {"000000.torch": ["a", "b"]}
    assert report.summary() == "2 scenes skipped"
    assert "000001.torch, which is not there" in report.lines()[1]


@pytest.mark.parametrize("content", ["[", "[]", '{"a": 1}'])
def test_an_index_that_is_none_is_refused(tmp_path, content):
    root = make_root(tmp_path)
    (root / "train" / "index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json"):
        read_index(root / "train", Report())


def test_a_folder_without_chunks_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"no \.torch chunks"):
        read_index(tmp_path, Report())


def test_cameras_that_cannot_be_are_found_and_say_why():
    scene = make_scene("a")
    world2cam, intrinsics = scene.world2cam.clone(), scene.intrinsics.clone()
    world2cam[1, 0, 3] = torch.nan
    world2cam[2, :3, :3] *= 2
    world2cam[3, 0] *= -1
    intrinsics[4, 0, 0] = 0
    intrinsics[5, 0, 2] = torch.inf
    bad = find_bad_cameras(intrinsics, world2cam)
    assert sorted(bad) == [1, 2, 3, 4, 5]
    assert "not finite" in bad[1] and "rigid" in bad[2] and "rigid" in bad[3]
    assert "pinhole" in bad[4] and "pinhole" in bad[5]


@pytest.mark.parametrize("cut", [0, 20, 0.6])
def test_bytes_that_are_no_whole_image_are_refused(cut):
    scene = make_scene("a")
    whole = scene.images[0]
    noise = torch.randint(256, (64, 64, 3)).to(torch.uint8).numpy()
    whole = encode(noise, "JPEG")
    scene = type(scene)("a", (whole[: int(cut * len(whole)) if cut < 1 else cut],),
                        scene.intrinsics[:1], scene.world2cam[:1])  # fmt: skip
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode(scene.images[0])


def test_a_report_counts_what_was_used_and_what_was_not_by_kind():
    report = Report()
    report.use("scene", 3)
    for time in range(2):
        report.skip("scene", "a", f"its poses are bad, {time}")
    report.skip("frame", "b:3", "dark")
    assert report.summary() == "3 of 4 scenes, 1 frame skipped"
    assert report.lines(limit=1)[1:] == ["frame b:3: dark", "and 1 more"]
    assert report.to_dict()["skipped"][1] == {
        "kind": "scene", "where": "a", "why": "its poses are bad, 0", "times": 2
    }  # fmt: skip


def test_every_draw_of_an_example_counts_and_every_scene_once():
    report = Report()
    report.use("example", 4)
    for _ in range(3):
        report.skip("example", "a", "its baseline is 0")
        report.skip("scene", "b", "it has no 'key'")
    assert report.summary() == "4 of 7 examples, 1 scene skipped"


def test_an_image_that_repeats_its_only_byte_six_billion_times_is_named(tmp_path):
    def stretch(entries):
        entries[0]["images"][0] = torch.zeros(1, dtype=torch.uint8).expand(6_000_000_000)
        entries[1]["cameras"] = torch.zeros(1, 1).expand(12, 18)

    chunk = rewritten(make_root(tmp_path), stretch)
    assert "larger than the bytes" in " ".join(each.why for each in chunk.skipped)
    assert not {"a", "b"} & chunk.scenes.keys()
