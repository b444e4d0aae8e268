"""Facts about training: it learns, it goes on exactly where it stopped, and its export loads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.camera import unproject
from models.data.procedural import WorldBatch, generate
from models.data.textures import noise_textures
from models.losses import center_loss, render_loss
from models.network.noposplat import SMALL, Prediction
from models.train import (
    CHECKPOINT,
    LOG,
    TrainConfig,
    draw_worlds,
    export,
    learning_rate,
    resume,
    save,
    score,
    start,
    take_step,
    train,
)
from models.views import Views
from models.weights import load_network

CPU = torch.device("cpu")
TINY = TrainConfig(
    network=replace(
        SMALL, encoder_width=64, encoder_depth=1, decoder_width=64, decoder_depth=2,
        attention_head_width=16, trunk_widths=(8, 8, 8, 8), fusion_width=8,
    ),
    size=(32, 48), batch=2, warmup_steps=2, learning_rate=4e-3, total_steps=100,
)  # fmt: skip


@pytest.fixture(scope="module")
def textures() -> torch.Tensor:
    return noise_textures(6, 16, torch.Generator().manual_seed(0))


def truth(worlds: WorldBatch, factor: float = 1.0) -> Prediction:
    """A perfect answer, `factor` times as large."""
    means = unproject(worlds.depth, worlds.cam2world, worlds.intrinsics) * factor
    shape = means.shape[:-1]
    pixel = worlds.depth[..., None] / worlds.images.shape[-1] * factor * 0.6
    return Prediction(
        means=means,
        scales=pixel.expand(*shape, 3),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(*shape, 4),
        harmonics=((worlds.images.movedim(2, -1) - 0.5) / 0.28209479)[..., None],
        opacities=torch.full(shape, 0.95),
    )


def first_views(worlds: WorldBatch, count: int) -> WorldBatch:
    return WorldBatch(*(value[:, :count] for value in vars(worlds).values()))


def test_the_loss_falls_on_a_fixed_batch(textures: torch.Tensor):
    run = start(TINY, CPU)
    worlds = draw_worlds(run, textures)
    losses = [take_step(run, worlds)[0] for _ in range(40)]
    assert sum(losses[-5:]) / 5 < 0.75 * losses[0]


def test_true_centers_have_no_loss_at_any_scale(textures: torch.Tensor):
    worlds = draw_worlds(start(TINY, CPU), textures)
    unit_weight = [center_loss(truth(worlds, factor), worlds) for factor in (0.5, 3.0)]
    moved = replace(truth(worlds), means=truth(worlds).means * torch.tensor([-1.0, 1, 1]))

    assert max(unit_weight) < 0.2  # only the pull towards unit scale
    assert center_loss(moved, worlds) > 0.3


def test_true_gaussians_draw_the_third_view_at_any_scale(textures: torch.Tensor):
    generator = torch.Generator().manual_seed(1)
    worlds = generate(2, 3, (48, 64), textures, generator, CPU, 0.0)
    pair = first_views(worlds, 2)

    right = render_loss(truth(pair, 2.0), worlds, worlds.images)
    elsewhere = worlds.cam2world.clone()
    elsewhere[:, 2, :3, 3] *= -1
    wrong = render_loss(truth(pair, 2.0), replace(worlds, cam2world=elsewhere), worlds.images)

    assert right < 0.5 * wrong


def test_a_resumed_run_continues_bit_for_bit(textures: torch.Tensor, tmp_path: Path):
    straight, stopped = start(TINY, CPU), start(TINY, CPU)
    for _ in range(3):
        take_step(straight, draw_worlds(straight, textures))
    take_step(stopped, draw_worlds(stopped, textures))
    save(stopped, tmp_path / CHECKPOINT)
    resumed = resume(tmp_path / CHECKPOINT, CPU)
    for _ in range(2):
        take_step(resumed, draw_worlds(resumed, textures))

    assert resumed.step == straight.step == 3
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_a_slice_logs_and_saves_and_its_export_loads(textures: torch.Tensor, tmp_path: Path):
    run = start(replace(TINY, render_from=1), CPU)
    seen = []
    train(run, textures, tmp_path, steps=2, log_every=1, on_step=seen.append)
    export(run, tmp_path / "small.safetensors")
    network, about = load_network(tmp_path / "small.safetensors")
    worlds = draw_worlds(run, textures)
    views = Views(worlds.images[:, :2], worlds.intrinsics[:, :2])
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]

    assert [line["step"] for line in lines] == [report.step for report in seen] == [1, 2]
    assert all(line["loss"] > 0 and line["samples_per_second"] > 0 for line in lines)
    assert (tmp_path / CHECKPOINT).is_file() and not list(tmp_path.glob("*.part"))
    assert "4 pairs" in about.description
    difference = (network(views).means - run.network.eval()(views).means).abs()
    assert difference.max() < 0.02  # half precision


def test_a_step_that_explodes_changes_nothing(textures: torch.Tensor):
    run = start(replace(TINY, most_norm=0.0), CPU)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    take_step(run, draw_worlds(run, textures))

    assert run.skipped == 1 and run.step == 1
    assert all(torch.equal(before[name], value) for name, value in run.network.state_dict().items())


def test_the_learning_rate_rises_then_falls():
    rates = [learning_rate(TINY, step) for step in (0, 1, 50, 100, 1000)]
    assert rates[0] < rates[1] > rates[2] > rates[3] == rates[4] > 0


def test_an_untrained_network_is_scored_as_a_shell(textures: torch.Tensor):
    scores = score(start(TINY, CPU).network, textures, (32, 32), pairs=3)
    assert 0.02 < scores.depth_error < 1
    assert set(scores.pose_auc) == {5, 10, 20}
