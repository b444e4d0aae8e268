"""Training of the main network: centers first, then pictures drawn from its Gaussians."""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from models.camera import invert
from models.data.artifacts import degrade
from models.data.procedural import FAR, WorldBatch
from models.losses import center_loss, render_loss
from models.metrics import FAILED_POSE, pose_auc, pose_error
from models.network.noposplat import SMALL, NoPoSplat, NoPoSplatConfig
from models.pose import pose_from_centers
from models.training.config import TrainConfig
from models.training.held_out import held_out
from models.views import Views
from models.weights import save_network


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
        photos = degrade(worlds.images, generator, self.artifacts)
        views = Views(photos[:, :2], worlds.intrinsics[:, :2])
        prediction = network(views, autocast=photos.is_cuda)
        loss = center_loss(
            prediction, WorldBatch(*(value[:, :2] for value in vars(worlds).values()))
        )
        if photos.shape[1] > 2:
            loss = loss + render_loss(prediction, worlds, worlds.images)
            loss = loss + self.opacity_weight * prediction.opacities.mean()
        return loss, {}

    def score(
        self, network: NoPoSplat, textures: Float[Tensor, "texture 3 _height _width"], pairs: int
    ) -> dict[str, float]:
        """Depth and pose of pairs at the first size; see `Scores`."""
        scores = score_network(network, textures, self.sizes[0], pairs)
        return {
            "depth_error": scores.depth_error,
            "second_error": scores.second_error,
            **{f"pose_auc_{degrees:g}": auc for degrees, auc in scores.pose_auc.items()},
        }

    def write(self, network: NoPoSplat, path: Path, about: dict[str, str]) -> None:
        """Write a weights file, in half precision."""
        save_network(network, path, about, torch.float16)


@dataclass(frozen=True)
class Scores:
    """Quality on worlds that were not trained on."""

    depth_error: float  # median relative error in the first view, after one scale
    second_error: float  # the same for the second view's centers, over their true depth
    pose_auc: dict[float, float]  # by threshold in degrees


def score_network(
    network: NoPoSplat,
    textures: Float[Tensor, "texture 3 _height _width"],
    size: tuple[int, int],
    pairs: int,
    difficulty: float = 0.3,
) -> Scores:
    """Measure depth and pose on worlds that training never draws."""
    depth_errors, second_errors, pose_errors = [], [], []
    network.eval()
    for worlds in held_out(textures, size, pairs, difficulty):
        with torch.no_grad():
            prediction = network(Views(worlds.images, worlds.intrinsics))
        near, there = (worlds.depth[0] < FAR).unbind()
        scale = _median(worlds.depth[0, 0] / prediction.means[0, 0, ..., 2].clamp(min=1e-6), near)
        first = prediction.means[0, 0, ..., 2] * scale / worlds.depth[0, 0]
        depth_errors.append(_median((first - 1).abs(), near))
        world2cam = invert(worlds.cam2world[0, 1])
        second = prediction.means[0, 1] * scale @ world2cam[:3, :3].mT + world2cam[:3, 3]
        second_errors.append(_median((second[..., 2] / worlds.depth[0, 1] - 1).abs(), there))
        found = pose_from_centers(
            prediction.means[0, 1], prediction.opacities[0, 1], worlds.intrinsics[0, 1]
        )
        error = FAILED_POSE if found is None else pose_error(found.world2cam, world2cam)
        pose_errors.append(error.pose_deg)
    aucs = {threshold: pose_auc(pose_errors, threshold) for threshold in (5.0, 10.0, 20.0)}
    return Scores(median(depth_errors), median(second_errors), aucs)


def _median(values: Tensor, where: Tensor) -> float:
    return float(values[where].median()) if where.any() else math.nan
