"""Facts about training: it learns, it goes on exactly where it stopped, and its export loads."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from models.data.augmentation import augment, mirror
from models.data.procedural import WorldBatch, generate
from models.data.textures import noise_textures
from models.geometry.views import Views
from models.network.noposplat import SMALL, Prediction
from models.stereo.network import StereoConfig
from models.training.config import TrainConfig
from models.training.loop import LOG, train
from models.training.losses import center_loss, render_loss
from models.training.network import EMBEDDED, NetworkTraining, score_network
from models.training.run import CHECKPOINT, export, next_worlds, resume, save, start, take_step
from models.training.stereo import StereoTraining, score_stereo
from models.weights import load_network, load_stereo

CPU = torch.device("cpu")
TINY = NetworkTraining(
    network=replace(
        SMALL, encoder_width=64, encoder_depth=1, decoder_width=64, decoder_depth=2,
        attention_head_width=16, trunk_widths=(8, 8, 8, 8), fusion_width=8,
    ),
    sizes=((32, 48),), batch=2, warmup_steps=2, learning_rate=4e-3, total_steps=100,
)  # fmt: skip
TINY_STEREO = StereoTraining(
    network=StereoConfig(
        steps=32, widths=(8, 16), feature_widths=(16, 16, 16), feature_channels=8
    ),
    sizes=((32, 48), (48, 32)), batch=2, reuse=2, kept=2,
    warmup_steps=2, learning_rate=1e-2, total_steps=100, artifacts=0.0, seed=2,
)  # fmt: skip
both_parts = pytest.mark.parametrize("config", [TINY, TINY_STEREO], ids=["network", "stereo"])


@pytest.fixture(scope="module")
def textures() -> torch.Tensor:
    return noise_textures(6, 16, torch.Generator().manual_seed(0))


def truth(worlds: WorldBatch, factor: float = 1.0) -> Prediction:
    """A perfect answer, `factor` times as large."""
    means = worlds.cameras.unproject(worlds.depth) * factor
    shape = means.shape[:-1]
    pixel = worlds.depth[..., None] / worlds.images.shape[-1] * factor * 0.6
    return Prediction(
        means=means,
        scales=pixel.expand(*shape, 3),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(*shape, 4),
        harmonics=((worlds.images.movedim(2, -1) - 0.5) / 0.28209479)[..., None],
        opacities=torch.full(shape, 0.95),
    )


@pytest.mark.parametrize(("config", "left"), [(TINY, 0.75), (TINY_STEREO, 0.95)])
def test_the_loss_falls_on_a_fixed_batch(config: TrainConfig, left: float, textures: torch.Tensor):
    run = start(config, CPU)
    worlds = next_worlds(run, textures)

    def total() -> float:  # over five draws of what is random, always the same
        draws = (torch.Generator().manual_seed(seed) for seed in range(5))
        with torch.no_grad():
            return sum(float(config.loss(run.network, worlds, draw)[0]) for draw in draws)

    before = total()
    for _ in range(30):
        take_step(run, worlds)
    assert total() < left * before  # the stereo part starts as a good matcher


def test_true_centers_have_no_loss_at_any_scale(textures: torch.Tensor):
    worlds = next_worlds(start(TINY, CPU), textures)
    unit_weight = [center_loss(truth(worlds, factor), worlds) for factor in (0.5, 3.0)]
    moved = replace(truth(worlds), means=truth(worlds).means * torch.tensor([-1.0, 1, 1]))

    assert max(unit_weight) < 0.2  # only the pull towards unit scale
    assert center_loss(moved, worlds) > 0.3


def test_true_gaussians_draw_the_third_view_at_any_scale(textures: torch.Tensor):
    generator = torch.Generator().manual_seed(1)
    worlds = generate(2, 3, (48, 64), textures, generator, CPU, 0.0)
    pair = worlds[:, :2]

    right = render_loss(truth(pair, 2.0), worlds, worlds.images)
    world2cam = worlds.cameras.world2cam.clone()
    world2cam[:, 2, :3, 3] *= -1
    elsewhere = replace(worlds.cameras, world2cam=world2cam)
    wrong = render_loss(truth(pair, 2.0), replace(worlds, cameras=elsewhere), worlds.images)

    assert right < 0.5 * wrong


@both_parts
def test_a_resumed_run_continues_bit_for_bit(
    config: TrainConfig, textures: torch.Tensor, tmp_path: Path
):
    straight, stopped = start(config, CPU), start(config, CPU)
    for _ in range(3):
        take_step(straight, next_worlds(straight, textures))
    take_step(stopped, next_worlds(stopped, textures))
    save(stopped, tmp_path / CHECKPOINT)
    resumed = resume(tmp_path / CHECKPOINT, CPU)
    for _ in range(2):
        take_step(resumed, next_worlds(resumed, textures))

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


def test_a_slice_logs_and_saves_and_its_export_loads(textures: torch.Tensor, tmp_path: Path):
    run = start(replace(TINY, render_from=1), CPU)
    seen = []
    train(
        run,
        partial(next_worlds, run, textures),
        tmp_path,
        steps=2,
        log_every=1,
        on_step=seen.append,
    )
    export(run, tmp_path / "small.safetensors")
    network, about = load_network(tmp_path / "small.safetensors")
    worlds = next_worlds(run, textures)
    views = Views(worlds.images[:, :2], worlds.cameras.intrinsics[:, :2])
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]

    assert [line["step"] for line in lines] == [report.step for report in seen] == [1, 2]
    assert all(line["loss"] > 0 and line["samples_per_second"] > 0 for line in lines)
    assert (tmp_path / CHECKPOINT).is_file() and not list(tmp_path.glob(".*"))
    assert "4 pairs" in about.description
    assert (network(views).means - run.average(views).means).abs().max() < 0.02  # half precision


def test_a_stereo_export_holds_the_averaged_weights(textures: torch.Tensor, tmp_path: Path):
    run = start(TINY_STEREO, CPU)
    train(run, partial(next_worlds, run, textures), tmp_path, steps=8, log_every=8)
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
    run = start(replace(TINY, most_norm=0.0), CPU)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    take_step(run, next_worlds(run, textures))

    assert run.skipped == 1 and run.step == 1
    for name, value in before.items():
        assert torch.equal(value, run.network.state_dict()[name])
        assert torch.equal(value, run.average.state_dict()[name])


def test_the_learning_rate_rises_then_falls():
    rates = [TINY.rate(step) for step in (0, 1, 50, 100, 1000)]
    assert rates[0] < rates[1] > rates[2] > rates[3] == rates[4] > 0


def test_the_average_follows_closely_at_first_and_slowly_later():
    kept = [TINY.average_kept(step) for step in (1, 10, 1000, 100_000)]
    torch.testing.assert_close(kept, [1 / 11, 0.5, 100 / 101, 0.999])


def test_worlds_are_drawn_every_few_steps_in_turning_sizes(textures: torch.Tensor):
    run = start(TINY_STEREO, CPU)
    drawn = []
    for run.step in range(6):
        next_worlds(run, textures)
        drawn.append([tuple(worlds.depth.shape[-2:]) for worlds in run.worlds])

    wide, tall = TINY_STEREO.sizes
    assert drawn == [[wide]] * 2 + [[wide, tall]] * 2 + [[tall, wide]] * 2


def test_several_batches_are_drawn_at_a_time_and_each_is_as_large_as_asked(textures: torch.Tensor):
    config = replace(EMBEDDED["embedded-tiny"], sizes=((32, 48), (48, 32)))
    run = start(config, CPU)
    held = []
    for run.step in range(5):
        assert next_worlds(run, textures).images.shape[0] == config.batch
        held.append(list(run.worlds))

    assert [len(worlds) for worlds in held] == [2, 2, 2, 2, 3]
    assert held[0] == held[3] and held[4][0] is held[0][1]


def test_an_untrained_network_is_scored_as_a_shell(textures: torch.Tensor):
    scores = score_network(start(TINY, CPU).network, textures, (32, 32), pairs=3)
    assert 0.02 < scores.depth_error < 1
    assert set(scores.pose_auc) == {5, 10, 20}


def test_a_stereo_network_that_matches_scores_better_than_one_that_is_off(textures: torch.Tensor):
    matcher = start(replace(TINY_STEREO, network=StereoConfig(steps=32)), CPU).network
    scores = score_stereo(matcher, textures, (64, 96), pairs=4)
    with torch.no_grad():
        matcher.head.bias[0] = 1e4  # all positions as far off as it can move them
    off = score_stereo(matcher, textures, (64, 96), pairs=4)

    assert scores.depth_error < 0.5 * off.depth_error
    assert scores.far_off < off.far_off


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
