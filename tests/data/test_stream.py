from itertools import islice

import pytest
import torch
from chunk_factory import make_root

from models.data.report import Report
from models.data.settings import SETTINGS, DataSettings, GapCurriculum
from models.data.stream import ExampleStream, examples, open_source

OWN = SETTINGS["own"]


@pytest.fixture
def root(tmp_path):
    return make_root(tmp_path / "set", scenes=6, per_chunk=2)


def stream(root, settings=OWN, **changes) -> ExampleStream:
    source = open_source(root, settings, Report())
    usual = {"sources": (source,), "size": (24, 24), "batch": 2, "seed": 7}
    return ExampleStream(**usual | changes)


def take(count, *arguments, **more):
    return list(islice(examples(*arguments, **more), count))


def same(first, second) -> bool:
    def tensors(batch) -> list[torch.Tensor]:
        cameras = (batch.cameras, batch.target_cameras)
        poses = [tensor for each in cameras for tensor in (each.intrinsics, each.world2cam)]
        return [batch.images, batch.target_images, batch.scale, *poses]

    pairs = zip(tensors(first), tensors(second), strict=True)
    return first.keys == second.keys and all(torch.equal(*pair) for pair in pairs)


def broken(root, change, chunk="000000.torch"):
    path = root / "train" / chunk
    entries = torch.load(path, weights_only=True)
    change(entries)
    torch.save(entries, path)


def test_a_resumed_stream_goes_on_with_the_same_examples(root):
    whole = take(5, stream(root), Report())
    resumed = take(2, stream(root), Report(), first_step=3)
    assert same(whole[3], resumed[0]) and same(whole[4], resumed[1])
    assert not same(whole[0], whole[3])


def test_workers_draw_the_same_examples(root):
    report = Report()
    here, there = take(3, stream(root), Report()), take(3, stream(root), report, workers=2)
    assert all(map(same, here, there))
    assert report.used["example"] == 6


def test_every_scene_is_seen_once_an_epoch_in_another_order(root):
    keys = [key for batch in take(9, stream(root), Report()) for key in batch.keys]
    epochs = [keys[:6], keys[6:12], keys[12:]]
    assert all(sorted(epoch) == list("abcdef") for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_another_seed_draws_other_examples(root):
    assert not same(stream(root).sample(0)[0], stream(root, seed=8).sample(0)[0])


def test_two_processes_share_the_batch_that_one_would_draw(root):
    whole, _ = stream(root, batch=4).sample(3)
    parts = [stream(root, rank=rank, processes=2).sample(3)[0] for rank in (0, 1)]
    assert parts[0].keys + parts[1].keys == whole.keys
    torch.testing.assert_close(torch.cat([part.images for part in parts]), whole.images)


def test_data_sets_are_mixed_with_a_batch_of_each(root, tmp_path):
    short = DataSettings(GapCurriculum((1, 1), (1, 1)))
    long = DataSettings(GapCurriculum((5, 5), (5, 5)))
    sources = tuple(open_source(root, settings, Report()) for settings in (short, long))
    batch, _ = stream(root, sources=sources, batch=3).sample(0)
    torch.testing.assert_close(batch.scale, torch.tensor([0.1] * 3 + [0.5] * 3))


def test_the_gap_follows_the_step(root):
    growing = DataSettings(GapCurriculum((1, 1), (8, 8), steps=70))
    scales = [stream(root, growing).sample(step)[0].scale for step in (0, 30, 70, 500)]
    assert torch.cat(scales).tolist() == pytest.approx([0.1] * 2 + [0.4] * 2 + [0.8] * 4)


def test_three_context_views_begin_and_end_with_the_outermost(root):
    batch, _ = stream(root, views=3, batch=6).sample(100_000)
    centers = batch.cameras.center.norm(dim=-1)
    assert batch.images.shape[1] == 3
    torch.testing.assert_close(centers[:, [0, 2]], torch.tensor([[0.0, 1.0]] * 6))
    assert ((centers[:, 1] > 0) & (centers[:, 1] < 1)).all()


def test_half_of_the_examples_are_mirrored_unless_that_is_off(root):
    def to_the_left(**more) -> float:
        sampled, _ = stream(root, batch=40, **more).sample(0)
        return float((sampled.cameras.center[:, 1, 0] < 0).float().mean())

    assert 0.2 < to_the_left() < 0.8
    assert to_the_left(flip=False) == 0


def test_what_cannot_be_used_is_replaced_counted_and_named(root):
    def harm(entries):
        entries[0]["cameras"][:, 6:] = torch.nan  # a: no pose
        entries[1]["cameras"][:, 6:] = entries[1]["cameras"][0, 6:].clone()  # b: one spot

    def cut(entries):
        entries[0]["images"] = [image[:50] for image in entries[0]["images"]]  # c: undecodable
        entries[1]["cameras"][3, 6] = torch.nan  # d: one bad frame

    broken(root, harm)
    broken(root, cut, "000001.torch")
    (root / "train" / "000002.torch").write_bytes(b"")  # e and f: a truncated chunk
    report = Report()
    keys = {key for batch in take(9, stream(root), report) for key in batch.keys}
    assert keys == {"d"}
    assert report.used["example"] == 18
    reasons = {skipped.where: skipped.why for skipped in report.skipped}
    assert "too few" in reasons["000000.torch:a"]
    assert "baseline is 0" in reasons["000000.torch:b"]
    assert "cannot be decoded" in reasons["000001.torch:c"]
    assert "not finite" in reasons["000001.torch:d:3"]
    assert "not in its chunk" in reasons["000002.torch:e"]
    assert "truncated" in reasons["train/000002.torch"]


def test_the_examples_after_a_bad_scene_do_not_depend_on_the_workers(root):
    broken(root, lambda entries: entries[0].update(images=[], cameras=torch.zeros(0, 18)))
    assert all(
        map(same, take(4, stream(root), Report()), take(4, stream(root), Report(), workers=1))
    )


def test_a_scene_that_the_index_puts_into_the_wrong_chunk_is_named(root):
    path = root / "train" / "index.json"
    path.write_text(path.read_text().replace('"a": "000000', '"a": "000001'))
    report = Report()
    keys = [key for batch in take(6, stream(root), report) for key in batch.keys]
    assert "a" not in keys
    assert "000001.torch:a" in {skipped.where for skipped in report.skipped}


@pytest.mark.parametrize("workers", [0, 1])
def test_data_without_any_usable_example_ends_the_stream_with_a_reason(root, workers):
    too_long = DataSettings(GapCurriculum((50, 50), (50, 50)))
    with pytest.raises(ValueError, match=r"^no example in .* can be used.*too few"):
        take(1, stream(root, too_long), Report(), workers=workers)
