"""The paper's recipe: pictures drawn of the Gaussians, at poses that the network is not told."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.procedural import Textures, WorldBatch, generate
from models.geometry.gaussians import rescale
from models.geometry.views import Views
from models.metrics.errors import psnr
from models.metrics.lpips import Lpips
from models.metrics.ssim import ssim, structure_loss, window_statistics
from models.network.noposplat import NoPoSplat, NoPoSplatConfig, Prediction
from models.render import render
from models.render.constants import MIN_DEPTH
from models.training.batches import Lesson, Unit, lesson_from_worlds
from models.training.checkpointing import recompute_blocks
from models.training.config import TrainConfig
from models.training.validation import SEED
from models.weights import save_network

NEW = ("parameter_head", "intrinsics_embed")  # what MASt3R has not and learns fast
NEAR_PLANE = 0.1  # of the data sets, in their own unit
CULLED = 0.2  # of the original renderer: nothing nearer is drawn, in near planes or baselines
_SHOWN = 4  # examples in a picture of the log


@dataclass(frozen=True, kw_only=True)
class RenderTraining(TrainConfig[NoPoSplat]):
    """How the published networks were trained; the defaults are its experiment `re10k`."""

    part = "rendering"
    weights_name = "noposplat-retrained"

    preset: str = "re10k"
    data: tuple[str, ...] = ("re10k",)  # kinds of data sets, each with a batch; none: procedural
    network: NoPoSplatConfig = field(default_factory=NoPoSplatConfig)
    sizes: tuple[tuple[int, int], ...] = ((256, 256),)
    context: int = 2  # photos that the network sees
    targets: int = 4  # photos to predict
    batch: int = 16  # per data set and process
    gap_steps: int = 9_375  # until photos are as far apart as they get
    total_steps: int = 18_751
    warmup_steps: int = 125
    learning_rate: float = 2e-4
    pretrained_share: float = 0.1  # of the learning rate, for all that MASt3R has
    lowest_rate: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 0.5
    most_norm: float = 1e9  # published: none; only what is not finite is skipped
    averaged: bool = False
    lpips_weight: float = 0.05
    structure_weight: float = 0.05  # of SSIM's structure term, where LPIPS has no weights
    scale_invariant: bool = True  # how near Gaussians are drawn: see `nearest`
    autocast: bool = True  # on CUDA devices, the backbone in bfloat16
    recompute: bool = True  # blocks on the way back, to save memory
    # Of procedural worlds only:
    first_difficulty: float = 0.2
    last_difficulty: float = 0.6
    artifacts: float = 0.0
    spare: int = 0  # views that others see and this experiment does not
    unit: Unit = "baseline"
    center_weight: float = 0.0  # of the distance to true centers; the paper has none

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RenderTraining":
        """Undo `to_dict`."""
        return cls(**values | {"network": NoPoSplatConfig(**values["network"])})

    def build(self) -> NoPoSplat:
        """A network with random weights."""
        return NoPoSplat(self.network)

    def views(self, step: int) -> int:
        """Of procedural worlds: photos to see and photos to predict."""
        return self.context + self.spare + self.targets

    def groups(self, network: NoPoSplat) -> list[dict[str, Any]]:
        """What is new, and what MASt3R has; everything decays, as published."""
        named = list(network.named_parameters())
        new = [parameter for name, parameter in named if any(part in name for part in NEW)]
        known = [parameter for name, parameter in named if not any(part in name for part in NEW)]
        return [{"params": new, "share": 1.0}, {"params": known, "share": self.pretrained_share}]

    def rate(self, step: int, share: float = 1.0) -> float:
        """Learning rate of a group at this step: linear warm-up, then half a cosine.

        As published, the rate falls to `lowest_rate` times the *whole* learning rate for every
        group: one whose share equals that stays at its peak.
        """
        highest, lowest = self.learning_rate * share, self.learning_rate * self.lowest_rate
        if step < self.warmup_steps:
            done = step / self.warmup_steps
            return highest * (done + (1 - done) / self.warmup_steps)
        fall = (1 + math.cos(math.pi * (step - self.warmup_steps) / self.total_steps)) / 2
        return lowest + (highest - lowest) * fall

    def samples_per_step(self) -> int:
        """A batch of each data set."""
        return self.batch * max(1, len(self.data))

    def describe(self, step: int) -> str:
        """What weights are that so many steps of this have trained."""
        return f"trained for {step} steps like the published experiment {self.preset}"

    def prepare(self, network: NoPoSplat) -> None:
        """Save memory, if that is wanted."""
        if self.recompute:
            recompute_blocks(network)

    def draw(
        self,
        textures: Textures,
        step: int,
        process: int,
        device: torch.device,
    ) -> Lesson:
        """The procedural lesson of a step and process: always the same."""
        worlds = self.draw_worlds(textures, step, process, device)
        generator = torch.Generator(device).manual_seed(_mixed(self.seed, step, process, 1))
        return self.lesson(worlds, generator)

    def draw_worlds(
        self,
        textures: Textures,
        step: int,
        process: int,
        device: torch.device,
    ) -> WorldBatch:
        """The worlds of that lesson, with all their views."""
        generator = torch.Generator(device).manual_seed(_mixed(self.seed, step, process))
        size, views = self.sizes[step % len(self.sizes)], self.views(step)
        difficulty = self.difficulty(step)
        return generate(self.batch, views, size, textures, generator, device, difficulty)

    def lesson(self, worlds: WorldBatch, generator: torch.Generator | None = None) -> Lesson:
        """Worlds as this experiment takes them; without a generator, free of artifacts."""
        return lesson_from_worlds(
            worlds, self.context, self.spare, self.unit, self.artifacts, generator
        )

    def loss(
        self,
        network: NoPoSplat,
        batch: Lesson,
        generator: torch.Generator,
        perceptual: Lpips | None = None,
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """MSE and LPIPS of the drawn targets; with true centers, their distance if it counts."""
        examples = batch.examples
        prediction = self.predict(network, batch)
        drawn = self.render_targets(prediction, batch)
        squares = (drawn - examples.target_images).square()
        flat, photos = drawn.flatten(0, 1), examples.target_images.flatten(0, 1)
        looks = look_loss(flat, photos, perceptual)
        weight = self.structure_weight if perceptual is None else self.lpips_weight
        loss = squares.mean() + weight * looks
        name = "structure" if perceptual is None else "lpips"
        decibels = -10 * squares.detach().mean((2, 3, 4)).clamp(min=1e-10).log10()
        details = {"psnr": float(decibels.mean()), name: float(looks.detach())}
        if batch.centers is not None and self.center_weight:
            error = center_error(prediction, batch)
            details["centers"] = float(error.detach())
            loss = loss + self.center_weight * error
        return loss, details

    def predict(self, network: NoPoSplat, batch: Lesson) -> Prediction:
        """Gaussians from the context views; only an ablation is told where these are."""
        examples = batch.examples
        views = Views(examples.images, examples.cameras.intrinsics)
        own = self.network.frame == "own"
        cam2world = examples.cameras.cam2world if own else None
        autocast = self.autocast and examples.images.is_cuda
        return network(views, autocast=autocast, cam2world=cam2world)

    def render_targets(
        self, prediction: Prediction, batch: Lesson
    ) -> Float[Tensor, "batch target 3 height width"]:
        """Draw every target, with nothing nearer than the original renderer draws."""
        examples = batch.examples
        factors = MIN_DEPTH / nearest(examples.scale, self.scale_invariant)
        world2cam = examples.target_cameras.world2cam.clone()
        world2cam[..., :3, 3] *= factors[:, None, None]
        cameras = replace(examples.target_cameras, world2cam=world2cam)
        pictures = []
        for index, factor in enumerate(factors.tolist()):
            scene = rescale(prediction.scene(index), factor)
            for target in range(world2cam.shape[1]):
                pictures.append(render(scene, cameras[index, target]).color)
        return torch.stack(pictures).unflatten(0, (len(factors), -1))

    @torch.no_grad()
    def picture(self, network: NoPoSplat, batch: Lesson) -> Float[Tensor, "3 _height _width"]:
        """A row per example: the photos that the network saw, one to predict, its drawing."""
        few = batch.part(slice(0, _SHOWN))
        was_training = network.training
        network.eval()
        drawn = self.render_targets(self.predict(network, few), few)
        network.train(was_training)
        examples = few.examples
        columns = [*examples.images.unbind(1), examples.target_images[:, 0], drawn[:, 0]]
        rows = torch.cat(columns, dim=-1)
        return torch.cat(list(rows), dim=-2).clamp(0, 1)

    def score(self, network: NoPoSplat, textures: Textures, pairs: int) -> dict[str, float]:
        """Novel views, and centers, of so many worlds that are never trained on."""
        network.eval()
        scores: dict[str, list[float]] = {"psnr": [], "ssim": [], "center_error": []}
        for index in range(pairs):
            lesson = self.held_out(textures, index)
            with torch.no_grad():
                prediction = self.predict(network, lesson)
                drawn = self.render_targets(prediction, lesson)[0]
            targets = lesson.examples.target_images[0]
            both = list(zip(drawn.clamp(0, 1), targets, strict=True))
            scores["psnr"].append(fmean(psnr(one, other) for one, other in both))
            scores["ssim"].append(fmean(ssim(one, other) for one, other in both))
            scores["center_error"].append(median_center_error(prediction, lesson))
        return {name: fmean(values) for name, values in scores.items()}

    def held_out(self, textures: Textures, index: int) -> Lesson:
        """One world to measure on, of medium difficulty."""
        generator = torch.Generator(textures.device).manual_seed(SEED + index)
        size, views = self.sizes[0], self.views(0)
        worlds = generate(1, views, size, textures, generator, textures.device, 0.3)
        return self.lesson(worlds)

    def write(self, network: NoPoSplat, path: Path, about: dict[str, str]) -> None:
        """Write a weights file, in full precision."""
        save_network(network, path, about)


def nearest(scale: Float[Tensor, " batch"], scale_invariant: bool) -> Float[Tensor, " batch"]:
    """How near a Gaussian may be to a camera in the original renderer, in baselines.

    It draws nothing within 0.2 of its unit, which is the baseline or, made scale invariant, the
    data sets' near plane.
    """
    return CULLED * NEAR_PLANE / scale if scale_invariant else torch.full_like(scale, CULLED)


def look_loss(
    drawn: Float[Tensor, "picture 3 height width"],
    photos: Float[Tensor, "picture 3 height width"],
    perceptual: Lpips | None,
) -> Float[Tensor, ""]:
    """Mean LPIPS, or without its weights SSIM's structure term."""
    if perceptual is not None:
        return perceptual(drawn, photos).mean()
    pairs = zip(drawn, photos, strict=True)
    return torch.stack(
        [structure_loss(one, window_statistics(other)) for one, other in pairs]
    ).mean()


def relative_errors(
    prediction: Prediction, batch: Lesson
) -> Float[Tensor, "batch view height width"]:
    """Distances between predicted and true centers, over the truth's from its own camera."""
    if batch.centers is None:
        raise ValueError("nobody knows where the true centers are")
    eyes = batch.examples.cameras.center[:, :, None, None]
    distance = (batch.centers - eyes).norm(dim=-1).clamp(min=1e-6)
    return (prediction.means - batch.centers).norm(dim=-1) / distance


def center_error(prediction: Prediction, batch: Lesson) -> Float[Tensor, ""]:
    """Mean relative error of centers; errors beyond 1 count with their logarithm."""
    relative = relative_errors(prediction, batch)
    capped = torch.where(relative < 1, relative, 1 + relative.clamp(min=1).log())
    seen = torch.ones_like(relative, dtype=torch.bool) if batch.seen is None else batch.seen
    return (capped * seen).sum() / seen.sum().clamp(min=1)


def median_center_error(prediction: Prediction, batch: Lesson) -> float:
    """Median relative error of all centers but the sky's."""
    errors = relative_errors(prediction, batch)
    seen = errors if batch.seen is None else errors[batch.seen]
    return float(seen.median()) if seen.numel() else math.nan


def _mixed(*numbers: int) -> int:
    """A seed that differs wherever one of the numbers does."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 1) % 2**31  # below the seed of what is held out
    return mixed
