"""The network's recipes: the paper's numbers, losses, groups of parameters, ablations."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.data.examples import ExampleBatch
from models.data.procedural import WorldBatch
from models.geometry.camera import Camera
from models.geometry.gaussians import SH_DEGREE_0
from models.geometry.views import Views
from models.metrics.lpips import Lpips
from models.network.config import NoPoSplatConfig
from models.network.noposplat import Prediction
from models.training.ablation_study import Result, run_study, table
from models.training.ablations import ABLATIONS
from models.training.batches import TrainingBatch, sample_worlds
from models.training.losses import relative_errors
from models.training.network import NetworkTraining, near_limit
from models.training.presets import PRESETS
from models.training.run import CHECKPOINT, resume, save, start, take_step
from models.training.validation import median_of

CPU = torch.device("cpu")
TINY = NoPoSplatConfig(
    encoder_width=32, encoder_depth=1, decoder_width=32, decoder_depth=2, attention_head_width=16,
    trunk_widths=(8, 8, 8, 8), fusion_width=8, sh_degree=1,
)  # fmt: skip
TRAINING = NetworkTraining(
    data=(), network=TINY, sizes=((32, 48),), batch=2, targets=2, total_steps=100, warmup_steps=2,
    learning_rate=4e-3, pretrained_lr_scale=1.0, unit="distance", center_weight=1.0,
    recompute=False,
)  # fmt: skip


@pytest.fixture(scope="module")
def worlds(textures: torch.Tensor) -> WorldBatch:
    return next(sample_worlds(replace(TRAINING, skipped_views=1), textures, CPU))


@pytest.fixture(scope="module")
def batch(worlds: WorldBatch) -> TrainingBatch:
    return TRAINING.make_batch(worlds)


def truth(batch: TrainingBatch) -> Prediction:
    """Gaussians of a pixel's size and color where the pixels' centers truly are."""
    assert batch.centers is not None
    shape = batch.centers.shape[:-1]
    return Prediction(
        means=batch.centers,
        scales=(batch.centers[..., 2:] / 48 * 0.6).abs().expand(*shape, 3),
        rotations=torch.tensor([1.0, 0, 0, 0]).expand(*shape, 4),
        harmonics=((batch.examples.images.movedim(2, -1) - 0.5) / SH_DEGREE_0)[..., None],
        opacities=torch.full(shape, 0.95),
    )


def center_error(prediction: Prediction, batch: TrainingBatch) -> float:
    return median_of(relative_errors(prediction, batch.centers, batch.examples.cameras), batch.seen)


def test_the_learning_rates_are_the_published_ones():
    config = PRESETS["re10k"]
    new = [config.learning_rate_at(step) for step in (0, 125, 5_000, 9_375, 15_000, 18_750)]
    known = [config.learning_rate_at(step, 0.1) for step in (125, 5_000, 18_750)]

    expected = [2e-4 / 125, 2e-4, 1.716e-4, 1.119e-4, 3.83e-5, 2.0e-5]
    torch.testing.assert_close(new, expected, rtol=5e-4, atol=3e-8)
    assert known == pytest.approx([2e-5] * 3)  # published: it never falls


def test_the_presets_are_the_papers_experiments():
    presets = PRESETS.values()
    common = {(p.learning_rate, p.warmup_steps, p.total_steps, p.gap_steps) for p in presets}
    assert common == {(2e-4, 125, 18_751, 9_375), (1e-4, 2_000, 300_001, 150_000)}
    assert all(p.network == NoPoSplatConfig() and p.clip_norm == 0.5 for p in presets)
    rows = {
        name: (p.data, p.context, p.sizes[0][0], p.batch, p.scale_invariant)
        for name, p in PRESETS.items()
    }
    assert rows["re10k"] == (("re10k",), 2, 256, 16, True)
    assert rows["acid"] == (("acid",), 2, 256, 16, True)
    assert rows["re10k-3view"] == (("re10k",), 3, 256, 8, True)
    assert rows["re10k-dl3dv"] == (("re10k", "dl3dv"), 2, 256, 8, False)
    assert rows["re10k-dl3dv-512"] == (("re10k-720p", "dl3dv-960p"), 2, 512, 2, False)


def test_only_parameter_heads_and_intrinsics_learn_at_the_full_rate():
    run = start(replace(TRAINING, pretrained_lr_scale=0.1), CPU)
    names = {id(value): name for name, value in run.network.named_parameters()}
    new, known = run.optimizer.param_groups

    assert (new["lr_scale"], known["lr_scale"]) == (1.0, 0.1)
    assert {names[id(p)].split(".")[0] for p in new["params"]} == {"parameter_head", "backbone"}
    assert sum("intrinsics_embed" in names[id(p)] for p in new["params"]) == 2
    assert any("center_head" in names[id(p)] for p in known["params"])
    assert len(new["params"]) + len(known["params"]) == len(names)
    assert new["weight_decay"] == known["weight_decay"] == 0.05 and new["betas"] == (0.9, 0.95)


def test_worlds_become_examples_with_a_baseline_of_one(worlds: WorldBatch):
    batch = replace(TRAINING, unit="baseline").make_batch(worlds)
    examples, centers = batch.examples, batch.centers
    baseline = examples.cameras[:, 1].center.norm(dim=-1)
    meters = worlds.cameras.unproject(worlds.depth)[:, :2]

    torch.testing.assert_close(baseline, torch.ones(2))
    torch.testing.assert_close(examples.cameras.world2cam[:, 0], torch.eye(4).expand(2, 4, 4))
    torch.testing.assert_close(centers * examples.scale[:, None, None, None, None], meters)
    assert examples.images.shape[1] == 2 and examples.target_images.shape[1] == 3


def test_true_gaussians_draw_the_targets(batch: TrainingBatch):
    right = TRAINING.render_targets(truth(batch), batch)
    cameras = batch.examples.target_cameras
    world2cam = cameras.world2cam.clone()
    world2cam[..., :3, 3] *= -1
    moved = replace(cameras, world2cam=world2cam)
    elsewhere = replace(batch, examples=replace(batch.examples, target_cameras=moved))
    wrong = TRAINING.render_targets(truth(batch), elsewhere)

    def squares(rendered: torch.Tensor) -> torch.Tensor:
        rendered_on = rendered.amin(2) > 0.1  # what no photo shows stays dark
        return (rendered - batch.examples.target_images).square().mean(2)[rendered_on].mean()

    assert squares(right) < 0.5 * squares(wrong)
    assert center_error(truth(batch), batch) < 1e-6


@pytest.mark.parametrize(("scale_invariant", "limit"), [(True, 0.02 / 4), (False, 0.2)])
def test_nothing_nearer_is_rendered_than_in_the_original(scale_invariant: bool, limit: float):
    config = replace(TRAINING, scale_invariant=scale_invariant)
    torch.testing.assert_close(
        near_limit(torch.tensor([4.0]), scale_invariant), torch.tensor([limit])
    )

    def brightness(depth: float) -> float:
        means = torch.zeros(1, 2, 1, 1, 3)
        means[..., 2] = depth
        prediction = Prediction(
            means=means,
            scales=torch.full((1, 2, 1, 1, 3), 0.1 * depth),
            rotations=torch.tensor([1.0, 0, 0, 0]).expand(1, 2, 1, 1, 4),
            harmonics=torch.ones(1, 2, 1, 1, 3, 1),
            opacities=torch.ones(1, 2, 1, 1),
        )
        intrinsics = torch.tensor([[1.0, 0, 0.5], [0, 1.0, 0.5], [0, 0, 1]]).expand(1, 1, 3, 3)
        cameras = Camera(intrinsics, torch.eye(4).expand(1, 1, 4, 4), (16, 16))
        images = torch.zeros(1, 1, 3, 16, 16)
        scale = torch.tensor([4.0])
        examples = ExampleBatch(images, cameras, images, cameras, scale, ("procedural",))
        return float(config.render_targets(prediction, TrainingBatch(examples)).max())

    assert brightness(limit * 0.99) == 0 and brightness(limit * 1.01) > 0.5


def test_the_loss_is_mse_and_five_percent_of_lpips_where_that_has_weights(batch: TrainingBatch):
    run = start(replace(TRAINING, center_weight=0.0), CPU)
    torch.manual_seed(0)
    lpips = Lpips()
    for stage in range(5):
        lpips.get_parameter(f"lin{stage}.weight").fill_(1.0)
    config, network = run.config, run.network.eval()
    with torch.no_grad():
        loss, details = config.loss(network, batch, lpips)
        without, other = config.loss(network, batch)
        rendered = config.render_targets(config.predict(network, batch), batch)
    images = batch.examples.target_images
    squares = (rendered - images).square().mean()
    distance = lpips(rendered.flatten(0, 1), images.flatten(0, 1)).mean()

    torch.testing.assert_close(loss, squares + 0.05 * distance)
    assert details.keys() == {"psnr", "lpips"} and other.keys() == {"psnr", "structure"}
    torch.testing.assert_close(without, squares + 0.05 * other["structure"])
    assert distance > 0.01


def test_the_loss_falls_on_a_fixed_batch_of_targets(batch: TrainingBatch):
    run = start(TRAINING, CPU)
    losses = [take_step(run, batch).loss for _ in range(25)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_recomputing_blocks_changes_no_gradient(batch: TrainingBatch):
    gradients = []
    for recompute in (False, True):
        run = start(replace(TRAINING, recompute=recompute), CPU)
        take_step(run, batch)
        gradients.append([p.grad for p in run.network.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 50
    for stored, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(stored, recomputed)


def test_autocast_leaves_the_heads_in_single_precision(batch: TrainingBatch):
    run = start(TRAINING, CPU)
    seen = {}
    network = run.network
    for name, module in {
        "backbone": network.backbone.encoder[0].mlp[0], "center": network.center_head.first.out,
        "parameters": network.parameter_head.others.hidden,
    }.items():  # fmt: skip
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.dtype}))
    views = Views(batch.examples.images, batch.examples.cameras.intrinsics)
    prediction = network(views, autocast=True)

    assert seen["backbone"] == torch.bfloat16
    assert seen["center"] == seen["parameters"] == prediction.means.dtype == torch.float32


def test_what_the_published_network_never_uses_gets_no_gradient(batch: TrainingBatch):
    run = start(TRAINING, CPU)
    take_step(run, batch)
    unused = {name for name, p in run.network.named_parameters() if p.grad is None}
    heads = [
        f"{head}.{view}"
        for head in ("center_head", "parameter_head")
        for view in ("first", "others")
    ]
    layers = [f"{conv}.{kind}" for conv in ("conv1", "conv2") for kind in ("weight", "bias")]
    skips = {f"{head}.trunk.fuse.3.skip_unit.{layer}" for head in heads for layer in layers}
    assert unused == {"backbone.mask_token"} | skips


def test_a_step_on_broken_data_is_skipped_and_counted(batch: TrainingBatch):
    run = start(TRAINING, CPU)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    broken = replace(batch.examples, target_images=batch.examples.target_images * math.nan)
    take_step(run, replace(batch, examples=broken))

    assert run.skipped == 1
    assert all(torch.equal(value, before[name]) for name, value in run.network.state_dict().items())


def test_a_resumed_run_drops_out_the_same(batch: TrainingBatch, tmp_path: Path):
    straight, stopped = start(TRAINING, CPU), start(TRAINING, CPU)
    for _ in range(3):
        take_step(straight, batch)
    take_step(stopped, batch)
    save(stopped, tmp_path / CHECKPOINT)
    torch.rand(7)  # the global generator plays no part
    resumed = resume(tmp_path / CHECKPOINT, CPU)
    for _ in range(2):
        take_step(resumed, batch)

    assert resumed.config == TRAINING and TRAINING.network.dropout > 0
    for name, value in straight.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name


def test_the_log_shows_context_target_and_rendering(batch: TrainingBatch):
    run = start(TRAINING, CPU)
    image = TRAINING.log_image(run.network, batch)
    assert image.shape == (3, 2 * 32, 4 * 48)
    torch.testing.assert_close(image[:, :32, :48], batch.examples.images[0, 0])
    torch.testing.assert_close(image[:, 32:, 96:144], batch.examples.target_images[1, 0])
    assert run.network.training


def test_every_ablation_changes_its_one_thing_and_predicts_the_same_views(worlds: WorldBatch):
    experiment = replace(TRAINING, skipped_views=1)
    targets = experiment.make_batch(worlds).examples.target_images
    configs = {name: ablation.apply(experiment) for name, ablation in ABLATIONS.items()}

    assert configs["published"] == experiment
    assert len({(c.network, c.context) for c in configs.values()}) == len(ABLATIONS)
    for name, config in configs.items():
        examples = config.make_batch(worlds).examples
        assert torch.equal(examples.target_images, targets), name
        assert examples.images.shape[1] == (3 if name == "3-views" else 2)


def test_a_study_scores_every_ablation_from_every_seed(textures: torch.Tensor):
    experiment = replace(
        TRAINING, sizes=((32, 32),), skipped_views=1, batch=1, targets=1, total_steps=2
    )
    seen: list[Result] = []
    names = ["published", "transform-then-fuse", "3-views"]
    results = run_study(experiment, names, [0, 1], 1, textures, seen.append)
    lines = table(results).splitlines()

    assert seen == results and len(results) == 6 and len(lines) == 5
    assert results[0].scores.keys() == {
        "psnr", "ssim", "center_error", "depth_error", "second_error",
        "pose_auc_5", "pose_auc_10", "pose_auc_20",
    }  # fmt: skip
    gain = [results[at + 2].scores["psnr"] - results[at].scores["psnr"] for at in (0, 3)]
    assert f"{sum(gain) / 2:.3f} ± " in lines[4] and "±" in lines[2]
