"""`NetworkTraining`: rendered target views as in the paper, distances of centers, or both."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.augmentation import augment
from models.data.procedural import Textures, WorldBatch
from models.geometry.gaussians import rescale
from models.geometry.views import Views
from models.metrics.lpips import Lpips
from models.network.config import NoPoSplatConfig
from models.network.noposplat import NoPoSplat, Prediction
from models.render import render
from models.render.constants import MIN_DEPTH
from models.training.batches import TrainingBatch, Unit, batch_from_worlds
from models.training.checkpointing import recompute_blocks
from models.training.config import TrainConfig
from models.training.losses import center_loss, perceptual_loss, relative_errors
from models.training.validation import held_out_worlds, score_prediction, summarize
from models.weights import save_network

NOT_PRETRAINED = ("parameter_head", "intrinsics_embed")  # MASt3R has no such weights
NEAR_PLANE = 0.1  # of the data sets, in their own unit
RENDERER_NEAR = 0.2  # of the original renderer, in near planes or baselines
LOGGED_EXAMPLES = 4


@dataclass(frozen=True, kw_only=True)
class NetworkTraining(TrainConfig[NoPoSplat]):
    """Settings of the network's training; the defaults are the published experiment `re10k`."""

    part = "network"
    architecture = NoPoSplatConfig

    preset: str = "re10k"
    weights_name: str = "noposplat-retrained"
    data: tuple[str, ...] = ("re10k",)  # kinds of data sets, each with a batch; none: procedural
    network: NoPoSplatConfig = field(default_factory=NoPoSplatConfig)
    sizes: tuple[tuple[int, int], ...] = ((256, 256),)
    context: int = 2  # views that the network sees
    targets: int = 4  # views to predict
    skipped_views: int = 0  # of worlds: context views of other experiments with the same targets
    batch: int = 16  # per data set and process
    gap_steps: int = 9_375  # until context views are as far apart as they get
    total_steps: int = 18_751
    warmup_steps: int = 125
    learning_rate: float = 2e-4
    pretrained_lr_scale: float = 0.1  # of all that MASt3R has; 1: nothing is pretrained
    min_lr_fraction: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 0.5
    max_norm: float = 1e9  # published: none; only what is not finite is skipped
    averaged: bool = False
    render_from: int | None = 0  # first step with rendered targets, of worlds; None: never
    lpips_weight: float = 0.05
    structure_weight: float = 0.05  # of SSIM's structure term, where LPIPS has no weights
    center_weight: float = 0.0  # of the relative errors of centers, of worlds; the paper has none
    unit: Unit = "baseline"  # of worlds
    scale_invariant: bool = True  # of the original renderer's near plane: see `near_limit`
    autocast: bool = True  # on CUDA devices, the backbone in bfloat16
    recompute: bool = True  # activations in the backward pass, to save memory
    first_difficulty: float = 0.2
    last_difficulty: float = 0.6
    artifacts: float = 0.0

    def build(self) -> NoPoSplat:
        """Return a network with random weights."""
        return NoPoSplat(self.network)

    def prepare(self, network: NoPoSplat) -> None:
        """Save memory or time, if that is set."""
        if self.recompute:
            recompute_blocks(network)

    def parameter_groups(self, network: NoPoSplat) -> list[dict[str, Any]]:
        """Return new and pretrained parameters; everything decays, as published."""
        if self.pretrained_lr_scale == 1.0:
            return super().parameter_groups(network)
        new: list[Tensor] = []
        known: list[Tensor] = []
        for name, parameter in network.named_parameters():
            (new if any(part in name for part in NOT_PRETRAINED) else known).append(parameter)
        return [
            {"params": new, "lr_scale": 1.0},
            {"params": known, "lr_scale": self.pretrained_lr_scale},
        ]

    @property
    def samples_per_step(self) -> int:
        """A batch of each data set."""
        return self.batch * max(1, len(self.data))

    def describe(self, step: int) -> str:
        """Return a sentence about the weights after this many steps."""
        if not self.data:
            return super().describe(step)
        return f"trained for {step} steps like the published experiment {self.preset}"

    def views(self, step: int) -> int:
        """Return the number of context views, and of target views once these are rendered."""
        rendering = self.render_from is not None and step >= self.render_from
        return self.context + (self.skipped_views + self.targets if rendering else 0)

    def make_batch(
        self, worlds: WorldBatch, generator: torch.Generator | None = None
    ) -> TrainingBatch:
        """Turn worlds into a batch; those used more than once are augmented."""
        if generator is not None and (self.steps_per_batch > 1 or self.buffer_size > 1):
            worlds = augment(worlds, generator)
        return batch_from_worlds(
            worlds, self.context, self.skipped_views, self.unit, self.artifacts, generator
        )

    def loss(
        self, network: NoPoSplat, batch: TrainingBatch, lpips: Lpips | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """MSE and LPIPS of rendered targets, and relative errors of centers, if there are any."""
        examples, details = batch.examples, {}
        prediction = self.predict(network, batch)
        loss = prediction.means.new_zeros(())
        if examples.target_images.shape[1]:
            rendered = self.render_targets(prediction, batch).flatten(0, 1)
            images = examples.target_images.flatten(0, 1)
            squares = (rendered - images).square().mean((1, 2, 3))
            difference = perceptual_loss(rendered, images, lpips)
            weight = self.structure_weight if lpips is None else self.lpips_weight
            loss = loss + squares.mean() + weight * difference
            details["psnr"] = float(-10 * squares.detach().clamp(min=1e-10).log10().mean())
            details["structure" if lpips is None else "lpips"] = float(difference.detach())
        if self.center_weight and batch.centers is not None and batch.seen is not None:
            errors = relative_errors(prediction, batch.centers, examples.cameras)
            centers = center_loss(errors, batch.seen)
            details["centers"] = float(centers.detach())
            loss = loss + self.center_weight * centers
        return loss, details

    def predict(self, network: NoPoSplat, batch: TrainingBatch) -> Prediction:
        """Predict Gaussians from the context views, in the batch's unit."""
        examples = batch.examples
        views = Views(examples.images, examples.cameras.intrinsics)
        # Only an ablation is told where the views are.
        cam2world = examples.cameras.cam2world if self.network.frame == "own" else None
        autocast = self.autocast and examples.images.is_cuda
        return network(views, autocast=autocast, cam2world=cam2world)

    def render_targets(
        self, prediction: Prediction, batch: TrainingBatch
    ) -> Float[Tensor, "batch target 3 height width"]:
        """Render every target view, with nothing nearer than the original renderer renders."""
        examples = batch.examples
        factors = MIN_DEPTH / near_limit(examples.scale, self.scale_invariant)
        world2cam = examples.target_cameras.world2cam.clone()
        world2cam[..., :3, 3] *= factors[:, None, None]
        cameras = replace(examples.target_cameras, world2cam=world2cam)
        renderings = []
        for index, factor in enumerate(factors.tolist()):
            scene = rescale(prediction.scene(index), factor)
            targets = range(world2cam.shape[1])
            renderings += [render(scene, cameras[index, view]).color for view in targets]
        return torch.stack(renderings).unflatten(0, (len(factors), -1))

    @torch.no_grad()
    def log_image(
        self, network: NoPoSplat, batch: TrainingBatch
    ) -> Float[Tensor, "3 _height _width"] | None:
        """Return a row per example: the context views, a target view and its rendering."""
        few = batch.first(LOGGED_EXAMPLES)
        if not few.examples.target_images.shape[1]:
            return None
        was_training = network.training
        network.eval()
        rendered = self.render_targets(self.predict(network, few), few)
        network.train(was_training)
        examples = few.examples
        columns = [*examples.images.unbind(1), examples.target_images[:, 0], rendered[:, 0]]
        return torch.cat(list(torch.cat(columns, dim=-1)), dim=-2).clamp(0, 1)

    @torch.no_grad()
    def validate(self, network: NoPoSplat, textures: Textures, pairs: int) -> dict[str, float]:
        """Return PSNR, SSIM, errors of centers and depth, and pose AUC; see `summarize`.

        Rendered on the CPU: centers can be trained on CUDA without gsplat's compiler.
        """
        network.eval()
        scores = []
        views = self.context + self.skipped_views + self.targets
        for worlds in held_out_worlds(textures, self.sizes[0], pairs, views):
            batch = self.make_batch(worlds)
            prediction = self.predict(network, batch)
            prediction = Prediction(*(value.cpu() for value in vars(prediction).values()))
            batch = batch.to(torch.device("cpu"))
            rendered = self.render_targets(prediction, batch)
            scores.append(score_prediction(prediction, rendered, batch))
        return summarize(scores)

    def write(self, network: NoPoSplat, path: Path, about: dict[str, str]) -> None:
        """Write a weights file."""
        save_network(network, path, about)


def near_limit(scale: Float[Tensor, " batch"], scale_invariant: bool) -> Float[Tensor, " batch"]:
    """Return the depth from which on the original renderer renders Gaussians, in baselines.

    It renders nothing within 0.2 of its unit, which is the baseline or, made scale invariant, the
    data sets' near plane.
    """
    near = RENDERER_NEAR * NEAR_PLANE / scale
    return near if scale_invariant else torch.full_like(scale, RENDERER_NEAR)
