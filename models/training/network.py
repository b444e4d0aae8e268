"""Training of the main network: centers first, then pictures drawn from its Gaussians."""

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.augmentation import augment, degrade
from models.data.procedural import FAR, Textures, WorldBatch
from models.geometry.views import Views
from models.metrics.errors import FAILED_POSE, PoseError, pose_auc, pose_error, psnr
from models.network.noposplat import SMALL, NoPoSplat, NoPoSplatConfig, Prediction
from models.render import render
from models.training.checkpointing import round_heads
from models.training.config import TrainConfig
from models.training.losses import center_loss, mean_distance, render_loss, true_centers
from models.training.validation import held_out
from models.weights import save_network

_DEGREES = 5.0, 10.0, 20.0


@dataclass(frozen=True, kw_only=True)
class NetworkTraining(TrainConfig[NoPoSplat]):
    """How the main network is trained."""

    part = "network"
    weights_name = "nps-small"

    network: NoPoSplatConfig = SMALL
    sizes: tuple[tuple[int, int], ...] = ((128, 128),)
    batch: int = 8
    total_steps: int = 100_000
    warmup_steps: int = 200
    learning_rate: float = 4e-4
    lowest_rate: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    first_difficulty: float = 0.2
    last_difficulty: float = 0.6
    render_from: int | None = None  # step at which drawn views join in; None: never
    opacity_weight: float = 0.01  # together with drawn views

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "NetworkTraining":
        """Undo `to_dict`."""
        return cls(**values | {"network": NoPoSplatConfig(**values["network"])})

    def build(self) -> NoPoSplat:
        """A network with random weights."""
        return NoPoSplat(self.network)

    def views(self, step: int) -> int:
        """Two, and a third if it is to be drawn."""
        return 3 if self.render_from is not None and step >= self.render_from else 2

    def loss(
        self, network: NoPoSplat, worlds: WorldBatch, generator: torch.Generator
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Distance of centers; with a third view also the difference between it and a drawing."""
        if self.reuse > 1 or self.kept > 1:
            worlds = augment(worlds, generator)
        photos = degrade(worlds.images, generator, self.artifacts)
        views = Views(photos[:, :2], worlds.cameras.intrinsics[:, :2])
        prediction = network(views, autocast=photos.is_cuda)
        loss = center_loss(prediction, worlds[:, :2])
        if photos.shape[1] > 2:
            loss = loss + render_loss(prediction, worlds, worlds.images)
            loss = loss + self.opacity_weight * prediction.opacities.mean()
        return loss, {}

    def score(self, network: NoPoSplat, textures: Textures, pairs: int) -> dict[str, float]:
        """Depth and pose of pairs at the first size; see `Scores`."""
        scores = score_network(network, textures, self.sizes[0], pairs)
        return {
            "depth_error": scores.depth_error,
            "second_error": scores.second_error,
            **({} if scores.psnr is None else {"psnr": scores.psnr}),
            **{f"pose_auc_{degrees:g}": auc for degrees, auc in scores.pose_auc.items()},
        }

    def prepare(self, network: NoPoSplat) -> None:
        """On CUDA devices, let most of the heads learn in bfloat16: they are half of the work."""
        round_heads(network)

    def write(self, network: NoPoSplat, path: Path, about: dict[str, str]) -> None:
        """Write a weights file, in half precision."""
        save_network(network, path, about, torch.float16)


EMBEDDED = {  # how the network of the package is trained: on a GPU, and to rehearse that on a CPU
    "embedded": NetworkTraining(
        # Whole photos of 9:16 to 16:9, all with about as many pixels.
        sizes=((256, 256), (224, 288), (288, 224), (192, 336), (336, 192), (208, 304), (304, 208)),
        batch=64,
        drawn=4,
        reuse=4,
        kept=8,
        warmup_steps=1_000,
        total_steps=60_000,
        texture_size=256,
    ),
    "embedded-tiny": NetworkTraining(
        network=replace(
            SMALL,
            encoder_width=96,
            encoder_depth=2,
            decoder_width=64,
            decoder_depth=2,
            attention_head_width=32,
            trunk_widths=(16, 16, 24, 32),
            fusion_width=16,
        ),
        sizes=((64, 64), (48, 80), (80, 48)),
        batch=2,
        drawn=2,
        reuse=2,
        kept=3,
        warmup_steps=10,
        total_steps=2_000,
        texture_count=100,
        texture_size=64,
    ),
}


@dataclass(frozen=True)
class Scores:
    """Quality on worlds that were not trained on."""

    depth_error: float  # median relative error in the first view, after one scale
    second_error: float  # the same for the second view's centers, over their true depth
    psnr: float | None  # of a third view, from its true pose; None where nothing draws it
    pose_auc: dict[float, float]  # by threshold in degrees; empty where nothing finds poses


def score_network(
    network: NoPoSplat,
    textures: Textures,
    size: tuple[int, int],
    pairs: int,
    difficulty: float = 0.3,
) -> Scores:
    """Measure depth, poses and a third view of worlds that training never draws.

    Poses need OpenCV and pictures numba: without them the others are measured alone.
    """
    depth_errors, second_errors, decibels = [], [], []
    pose_errors: list[float] = []
    network.eval()
    for worlds in held_out(textures, size, pairs, difficulty, views=3):
        with torch.no_grad():
            prediction = network(Views(worlds.images[:, :2], worlds.cameras.intrinsics[:, :2]))
        near, there, _ = (worlds.depth[0] < FAR).unbind()
        scale = _median(worlds.depth[0, 0] / prediction.means[0, 0, ..., 2].clamp(min=1e-6), near)
        first = prediction.means[0, 0, ..., 2] * scale / worlds.depth[0, 0]
        depth_errors.append(_median((first - 1).abs(), near))
        world2cam = worlds.cameras.world2cam[0, 1]
        second = prediction.means[0, 1] * scale @ world2cam[:3, :3].mT + world2cam[:3, 3]
        second_errors.append(_median((second[..., 2] / worlds.depth[0, 1] - 1).abs(), there))
        with suppress(ModuleNotFoundError):
            pose_errors.append(_pose_error(prediction, worlds).pose_deg)
        with suppress(ModuleNotFoundError):
            decibels.append(_third_view(prediction, worlds))
    return Scores(
        median(depth_errors),
        median(second_errors),
        fmean(decibels) if decibels else None,
        {degrees: pose_auc(pose_errors, degrees) for degrees in _DEGREES} if pose_errors else {},
    )


def _pose_error(prediction: Prediction, worlds: WorldBatch) -> PoseError:
    from models.pose.pnp import pose_from_centers

    camera = worlds.cameras[0, 1]
    found = pose_from_centers(prediction.means[0, 1], prediction.opacities[0, 1], camera.intrinsics)
    return FAILED_POSE if found is None else pose_error(found.world2cam, camera.world2cam)


def _third_view(prediction: Prediction, worlds: WorldBatch) -> float:
    """Decibels of the third view, drawn on the CPU from its true pose at the scene's own scale."""
    target, seen = true_centers(worlds)
    ratio = mean_distance(prediction.means, seen[:, :2]) / mean_distance(target[:, :2], seen[:, :2])
    camera = worlds.cameras[0, 2].to(torch.device("cpu"))
    world2cam = camera.world2cam.clone()
    world2cam[:3, 3] *= float(ratio)
    scene, photo = prediction.scene(0).to(torch.device("cpu")), worlds.images[0, 2].cpu()
    return psnr(render(scene, replace(camera, world2cam=world2cam)).color, photo)


def _median(values: Tensor, where: Tensor) -> float:
    return float(values[where].median()) if where.any() else math.nan
