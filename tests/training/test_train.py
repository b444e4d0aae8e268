"""Facts about training: it learns, it resumes exactly where it stopped, and its export loads."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from models.data.augmentation import augment, mirror
from models.data.procedural import WorldBatch, generate
from models.geometry.camera import Camera
from models.geometry.views import Views
from models.stereo.network import StereoConfig
from models.training.batches import sample_worlds, world_batches
from models.training.config import TrainConfig
from models.training.loop import LOG, train
from models.training.network import NetworkTraining
from models.training.presets import NETWORKS
from models.training.run import CHECKPOINT, export, resume, save, start, take_step
from models.training.stereo import StereoTraining
from models.weights import load_network, load_stereo

CPU = torch.device("cpu")
TINY = NetworkTraining(
    data=(), network=replace(
        NETWORKS["anchored"], encoder_width=64, encoder_depth=1, decoder_width=64,
        decoder_depth=2, attention_head_width=16, trunk_widths=(8, 8, 8, 8), fusion_width=8,
    ),
    sizes=((32, 48),), batch=2, targets=1, averaged=True, render_from=None, center_weight=1.0,
    unit="distance", pretrained_lr_scale=1.0, recompute=False, clip_norm=1.0, artifacts=0.7,
    warmup_steps=2, learning_rate=4e-3, total_steps=100,
)  # fmt: skip
TINY_STEREO = StereoTraining(
    network=StereoConfig(
        steps=32, widths=(8, 16), feature_widths=(16, 16, 16), feature_channels=8
    ),
    sizes=((32, 48), (48, 32)), batch=2, steps_per_batch=2, buffer_size=2,
    warmup_steps=2, learning_rate=1e-2, total_steps=100, artifacts=0.0, seed=2,
)  # fmt: skip
both_parts = pytest.mark.parametrize("config", [TINY, TINY_STEREO], ids=["network", "stereo"])


@pytest.mark.parametrize(("config", "left"), [(TINY, 0.75), (TINY_STEREO, 0.95)])
def test_the_loss_falls_on_a_fixed_batch(config: TrainConfig, left: float, textures: torch.Tensor):
    run = start(config, CPU)
    batch = next(world_batches(config, textures, CPU))
    losses = [take_step(run, batch).loss for _ in range(25)]
    assert losses[-1] < left * losses[0]  # the stereo network starts as a good matcher


@both_parts
def test_a_resumed_run_continues_bit_for_bit(
    config: TrainConfig, textures: torch.Tensor, tmp_path: Path
):
    straight, stopped = start(config, CPU), start(config, CPU)
    for batch in islice(world_batches(config, textures, CPU), 3):
        take_step(straight, batch)
    take_step(stopped, next(world_batches(config, textures, CPU)))
    save(stopped, tmp_path / CHECKPOINT)
    torch.rand(7)  # the global generator plays no part
    resumed = resume(tmp_path / CHECKPOINT, CPU)
    for batch in islice(world_batches(config, textures, CPU, resumed.step), 2):
        take_step(resumed, batch)

    assert resumed.step == straight.step == 3
    assert resumed.config == config
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    for name, value in straight.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name]), name


def test_what_is_no_checkpoint_is_refused(tmp_path: Path):
    (tmp_path / CHECKPOINT).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="broken or of another version"):
        resume(tmp_path / CHECKPOINT, CPU)


def test_a_run_logs_and_saves_and_its_export_loads(textures: torch.Tensor, tmp_path: Path):
    config = replace(TINY, render_from=1)
    run, seen = start(config, CPU), []
    batches = world_batches(config, textures, CPU)
    train(run, batches, tmp_path, steps=2, log_every=1, on_report=seen.append)
    export(run, tmp_path / "small.safetensors")
    network, about = load_network(tmp_path / "small.safetensors")
    examples = next(batches).examples
    views = Views(examples.images, examples.cameras.intrinsics)
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]

    assert [line["step"] for line in lines] == [report.step for report in seen] == [1, 2]
    assert [line["details"].keys() for line in lines] == [
        {"centers"}, {"psnr", "structure", "centers"}
    ]  # fmt: skip
    assert all(line["loss"] > 0 and line["samples_per_second"] > 0 for line in lines)
    assert (tmp_path / CHECKPOINT).is_file() and not list(tmp_path.glob(".*"))
    assert "4 pairs" in about.description
    assert (network(views).means - run.average(views).means).abs().max() < 1e-4


def test_a_stereo_export_holds_the_averaged_weights(textures: torch.Tensor, tmp_path: Path):
    run = start(TINY_STEREO, CPU)
    train(run, world_batches(TINY_STEREO, textures, CPU), tmp_path, steps=8, log_every=8)
    export(run, tmp_path / "stereo.safetensors")
    network, about = load_stereo(tmp_path / "stereo.safetensors")
    line = json.loads((tmp_path / LOG).read_text())

    assert network.config == TINY_STEREO.network and about.name == "nps-stereo"
    assert line["details"].keys() == {"error", "bad2"}
    last = run.network.state_dict()
    for name, value in run.average.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, atol=1e-3, rtol=1e-3)
        assert not torch.equal(value, last[name]), f"{name} is not averaged"


def test_a_step_that_explodes_changes_nothing(textures: torch.Tensor):
    run = start(replace(TINY, max_norm=0.0), CPU)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    take_step(run, next(world_batches(run.config, textures, CPU)))

    assert run.skipped == 1 and run.step == 1
    for name, value in before.items():
        assert torch.equal(value, run.network.state_dict()[name])
        assert torch.equal(value, run.average.state_dict()[name])


def test_the_learning_rate_rises_then_falls():
    values = [TINY.learning_rate_at(step) for step in (0, 1, 50, 102, 1000)]
    assert values[0] < values[1] > values[2] > values[3] == values[4] > 0


def test_the_average_follows_closely_at_first_and_slowly_later():
    decays = [TINY.average_decay(step) for step in (1, 10, 1000, 100_000)]
    torch.testing.assert_close(decays, [1 / 11, 0.5, 100 / 101, 0.999])


@pytest.fixture
def draws(monkeypatch) -> list[tuple[int, tuple[int, int]]]:
    """The number and the size of the worlds of every draw, whose images are its number."""
    made: list[tuple[int, tuple[int, int]]] = []

    def number(count: int, views: int, size: tuple[int, int], *rest: object) -> WorldBatch:
        made.append((count, size))
        images = torch.full((count, views, 3, 2, 2), float(len(made) - 1))
        images[count // 2 :] += 0.5
        pose = torch.eye(4).expand(count, views, 4, 4)
        return WorldBatch(images, Camera(pose[..., :3, :3], pose, (2, 2)), images[:, :, 0])

    monkeypatch.setattr("models.training.batches.generate", number)
    return made


def test_worlds_are_sampled_every_few_steps_in_turning_sizes(draws, textures: torch.Tensor):
    wide, tall = TINY_STEREO.sizes
    buffers: list[set[int]] = [set() for _ in range(6)]
    for seed in range(12):
        draws.clear()
        worlds = sample_worlds(replace(TINY_STEREO, seed=seed), textures, CPU)
        for step, batch in enumerate(islice(worlds, 6)):
            buffers[step].add(int(batch.images[0, 0, 0, 0, 0]))

    assert draws == [(2, wide), (2, tall), (2, wide)]
    assert buffers == [{0}, {0}, {0, 1}, {0, 1}, {1, 2}, {1, 2}]


def test_several_batches_are_sampled_at_a_time_and_each_is_as_large_as_asked(
    draws, textures: torch.Tensor
):
    config = replace(TINY, batches_per_draw=2, steps_per_batch=2, buffer_size=3)
    buffers: list[set[float]] = [set() for _ in range(5)]
    for seed in range(24):
        draws.clear()
        worlds = sample_worlds(replace(config, seed=seed), textures, CPU)
        for step, batch in enumerate(islice(worlds, 5)):
            assert len(batch.images) == config.batch
            buffers[step].add(float(batch.images[0, 0, 0, 0, 0]))

    assert draws == [(4, config.sizes[0])] * 2
    assert buffers == [{0.0, 0.5}] * 4 + [{0.5, 1.0, 1.5}]


@pytest.mark.parametrize("config", [TINY_STEREO, replace(TINY, batches_per_draw=2)])
def test_worlds_from_any_step_on_are_those_of_a_run_from_the_first(
    config: TrainConfig, textures: torch.Tensor
):
    config = replace(config, sizes=((32, 32), (32, 48)), batch=1)
    worlds = list(islice(sample_worlds(config, textures, CPU), 9))
    for step in (1, 4, 8):
        same = next(sample_worlds(config, textures, CPU, step))
        assert torch.equal(same.images, worlds[step].images)


def test_an_untrained_network_is_scored_as_a_shell(textures: torch.Tensor):
    scores = TINY.validate(start(TINY, CPU).network, textures, pairs=3)
    assert 0.02 < scores["depth_error"] < 1
    assert scores.keys() > {"psnr", "second_error", "pose_auc_5", "pose_auc_10", "pose_auc_20"}


def test_a_stereo_network_that_matches_scores_better_than_one_that_is_off(textures: torch.Tensor):
    config = StereoTraining(network=StereoConfig(steps=32), sizes=((64, 96),))
    matcher = config.build()
    scores = config.validate(matcher, textures, pairs=2)
    with torch.no_grad():
        matcher.head.bias[0] = 1e4  # all positions as far off as it can move them
    off = config.validate(matcher, textures, pairs=2)

    assert scores["depth_error"] < 0.5 * off["depth_error"]
    assert scores["far_off"] < off["far_off"]


@pytest.mark.parametrize("axis", [0, 1])
def test_a_mirrored_world_is_seen_by_mirrored_cameras(axis: int, textures: torch.Tensor):
    worlds = generate(2, 2, (32, 48), textures, torch.Generator().manual_seed(2), CPU)
    turned = mirror(worlds, axis)
    points = turned.cameras.unproject(turned.depth).flip(2 + (1 - axis))
    expected = worlds.cameras.unproject(worlds.depth)
    expected[..., axis] *= -1

    torch.testing.assert_close(points, expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(turned.images.flip(-1 - axis), worlds.images)


def test_variations_keep_the_first_camera_the_world(textures: torch.Tensor):
    generator = torch.Generator().manual_seed(2)
    worlds = generate(1, 2, (32, 48), textures, generator, CPU)
    varied = [augment(worlds, generator) for _ in range(12)]

    assert all(torch.equal(one.cameras.world2cam[:, 0], torch.eye(4)[None]) for one in varied)
    assert len({one.images.numpy().tobytes() for one in varied}) > 5
