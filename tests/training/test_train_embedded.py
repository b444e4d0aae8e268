"""The embedded network's training: its batches, losses and exports, and that it resumes exactly."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from models.geometry.views import Views
from models.training import encoded_worlds
from models.training.anchors import fit_start
from models.training.center_losses import STRIDE, PairBatch, center_losses
from models.training.encoded_worlds import encoded_batches, read_chunk
from models.training.presets import EMBEDDED
from models.training.run import CHECKPOINT, export, resume, save, start, take_step
from models.weights import load_network

CPU = torch.device("cpu")
TINY = replace(
    EMBEDDED["tiny"], sizes=((56, 70), (70, 56)), first_chunks=2, steps_per_chunk=2,
    warmup_steps=2, learning_rate=4e-3, autocast=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds")


@pytest.fixture(scope="module")
def batch(worlds: Path, textures: torch.Tensor) -> PairBatch:
    return next(encoded_batches(TINY, textures, worlds))


def true_centers(batch: PairBatch) -> torch.Tensor:
    return batch.cameras.unproject(batch.depth)[:, :, ::STRIDE, ::STRIDE]


def test_true_centers_have_no_loss_at_any_scale(batch: PairBatch):
    losses = center_losses(3 * true_centers(batch), batch)
    sky = (batch.depth > 800).any()
    assert losses.pop("scale") > 0
    assert all(value < (0.2 if sky else 1e-3) for value in losses.values())


def test_a_second_view_that_is_misplaced_shows_in_the_direction(batch: PairBatch):
    centers = true_centers(batch)
    moved = centers.clone()
    moved[:, 1, ..., 0] += 0.2 * centers[:, 1].norm(dim=-1)
    right, wrong = center_losses(centers, batch), center_losses(moved, batch)
    assert wrong["direction"] > right["direction"] + 0.05


def test_chunks_are_made_once_and_hold_pairs_that_overlap(
    batch: PairBatch, worlds: Path, textures: torch.Tensor, monkeypatch: pytest.MonkeyPatch
):
    torch.testing.assert_close(batch.cameras.world2cam[:, 0], torch.eye(4).expand(2, 4, 4))
    assert batch.encoded is not None and batch.encoded.shape[-1] == 3 * 384
    made = len(list(worlds.glob("*.pt")))
    monkeypatch.setattr(encoded_worlds, "make_chunk", None)
    again = next(encoded_batches(TINY, textures, worlds))
    assert made >= 1 and torch.equal(again.depth, batch.depth)
    chunk = read_chunk(next(worlds.glob("*.pt")))
    torch.testing.assert_close(chunk.overlap, chunk.overlap.mT)


def test_the_loss_falls_on_a_fixed_batch(batch: PairBatch):
    run = start(TINY, CPU)
    losses = [take_step(run, batch).loss for _ in range(25)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_resumed_run_continues_bit_for_bit(worlds: Path, textures: torch.Tensor, tmp_path: Path):
    straight, stopped = start(TINY, CPU), start(TINY, CPU)
    for batch in islice(encoded_batches(TINY, textures, worlds), 4):
        take_step(straight, batch)
    for batch in islice(encoded_batches(TINY, textures, worlds), 2):
        take_step(stopped, batch)
    save(stopped, tmp_path / CHECKPOINT)
    resumed = resume(tmp_path / CHECKPOINT, CPU)
    for batch in islice(encoded_batches(TINY, textures, worlds, resumed.step), 2):
        take_step(resumed, batch)
    assert resumed.step == straight.step == 4 and resumed.config == TINY
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_an_export_takes_the_packages_encoder(batch: PairBatch, tmp_path: Path):
    run = start(TINY, CPU)
    take_step(run, batch)
    export(run, tmp_path / "tiny.safetensors")
    network, about = load_network(tmp_path / "tiny.safetensors")
    images = torch.rand(1, 2, 3, 56, 70)
    intrinsics = torch.eye(3).expand(1, 2, 3, 3)
    scene = network.reconstruct(Views(images, intrinsics))
    assert (tmp_path / "tiny.safetensors").stat().st_size < 5e6 and about.license == "MIT"
    assert len(scene.means) == 2 * 56 * 70 and scene.means.isfinite().all()


def test_an_encoder_that_learns_has_a_lower_rate():
    config = replace(TINY, encoder_lr_scale=0.1)
    network = config.build()
    rates = {
        id(parameter): group["lr_scale"]
        for group in config.parameter_groups(network)
        for parameter in group["params"]
    }
    for part in (network.backbone.encoder, network.anchors):
        assert {rates[id(each)] for each in part.parameters()} == {0.1}
    assert {rates[id(each)] for each in network.backbone.decoder.parameters()} == {1.0}


def test_the_start_is_fitted_to_worlds(worlds: Path, textures: torch.Tensor):
    run = start(TINY, CPU)
    batches = list(islice(encoded_batches(TINY, textures, worlds), 3))
    before = float(TINY.loss(run.network, batches[0])[1]["distance"])
    losses = fit_start(run.network, run.average, iter(batches * 30), 40)
    standard = run.network.backbone.standardize(batches[0].encoded)
    after = float(TINY.loss(run.average, batches[0])[1]["distance"])
    assert standard.std() < 3 and after < before
    assert sum(losses[-4:]) < sum(losses[:4])
    assert not any(each.requires_grad for each in run.network.anchors.parameters())
