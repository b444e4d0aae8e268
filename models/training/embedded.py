"""`EmbeddedTraining`: centers of pairs of views, from a pretrained encoder's features."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.data.augmentation import augment, degrade
from models.data.procedural import FAR, Textures, WorldBatch
from models.metrics.errors import FAILED_POSE, pose_auc, pose_error
from models.metrics.lpips import Lpips
from models.network.config import EMBEDDED, NoPoSplatConfig
from models.network.dinov2 import Dinov2
from models.network.noposplat import NoPoSplat, exponential_distance
from models.training.center_losses import STRIDE, PairBatch, center_losses
from models.training.config import TrainConfig
from models.training.validation import AUC_LIMITS_DEG, held_out_worlds, median_of
from models.weights import embedded_path, load_encoder, save_network

POSE_RELIABILITY = {"pose_reliability": "0.1"}  # share right to 10 degrees, on held-out worlds
DIRECTION_WEIGHT, LOG_WEIGHT, GRADIENT_WEIGHT, SCALE_WEIGHT = 4.0, 0.5, 0.5, 0.01


@cache
def frozen_encoder() -> Dinov2:
    """Load the encoder in the package, which does not learn."""
    return load_encoder(embedded_path("dinov2"))[0].requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class EmbeddedTraining(TrainConfig[NoPoSplat]):
    """Settings of the embedded network's training."""

    part = "embedded"
    architecture = NoPoSplatConfig

    weights_name: str = "nps-network"
    network: NoPoSplatConfig = field(default_factory=lambda: EMBEDDED)
    sizes: tuple[tuple[int, int], ...] = (
        (196, 252), (252, 196), (168, 252), (252, 168), (224, 224), (140, 252), (252, 140),
    )  # fmt: skip
    batch: int = 4
    encoder_lr_scale: float = 0.0  # 0: the encoder stays as it is
    autocast: bool = True  # to bfloat16
    total_steps: int = 6_000
    warmup_steps: int = 100
    learning_rate: float = 5e-4
    min_lr_fraction: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.02
    max_decay: float = 0.998
    # Where the encoder does not learn, worlds are kept in chunks, of which more and more are used:
    fit_steps: int = 800  # of the anchors, before all else
    chunk_worlds: int = 24
    chunk_views: int = 5
    first_chunks: int = 8
    steps_per_chunk: int = 24
    texture_size: int = 192
    first_difficulty: float = 0.2
    last_difficulty: float = 0.8
    artifacts: float = 1.0

    def build(self) -> NoPoSplat:
        """Return a network whose decoder and heads are new; an encoder only if that learns."""
        network = NoPoSplat(self.network)
        network.backbone.encoder = nn.Identity()
        if self.encoder_lr_scale:
            network.backbone.encoder = load_encoder(embedded_path("dinov2"))[0]
        network.parameter_head.requires_grad_(False)
        network.anchors.requires_grad_(bool(self.encoder_lr_scale))  # fitted, see `fit_start`
        return network

    def parameter_groups(self, network: NoPoSplat) -> list[dict[str, Any]]:
        """Return the optimizer's groups; the encoder and the anchors have their own."""
        pretrained = (*network.backbone.encoder.parameters(), *network.anchors.parameters())
        encoder = {id(parameter) for parameter in pretrained}
        groups = []
        for group in super().parameter_groups(network):
            known = [each for each in group["params"] if id(each) in encoder]
            new = [each for each in group["params"] if id(each) not in encoder]
            groups.append(group | {"params": new})
            if known:
                groups.append(group | {"params": known, "lr_scale": self.encoder_lr_scale})
        return groups

    @torch.no_grad()
    def encode(
        self, images: Float[Tensor, "batch view 3 height width"]
    ) -> Float[Tensor, "batch view token channel"]:
        """Return what the frozen encoder says of images, world by world, to save memory."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            return torch.stack(
                [frozen_encoder()(views, self.network.encoder_layers) for views in images]
            ).float()

    def make_batch(self, worlds: WorldBatch, generator: torch.Generator | None = None) -> PairBatch:
        """Take the first two views of every world, as phones would photograph them."""
        images = worlds.images[:, :2]
        if generator is not None:
            worlds = augment(worlds, generator)
            images = degrade(worlds.images[:, :2], generator, self.artifacts)
        cameras, depth = worlds.cameras[:, :2], worlds.depth[:, :2]
        if self.encoder_lr_scale:
            return PairBatch(images, images.new_zeros(len(images), 2, 0, 0), cameras, depth)
        return PairBatch(None, self.encode(images), cameras, depth)

    def loss(
        self, network: NoPoSplat, batch: PairBatch, lpips: Lpips | None = None
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Return errors of centers, relative to distances; see `center_losses`."""
        centers = self.predict(network, batch, STRIDE)
        losses = center_losses(centers, batch)
        total = (
            losses["centers"]
            + DIRECTION_WEIGHT * losses["direction"]
            + LOG_WEIGHT * losses["distance"]
            + GRADIENT_WEIGHT * losses["gradient"]
            + SCALE_WEIGHT * losses["scale"]
        )
        return total, {name: float(value.detach()) for name, value in losses.items()}

    def predict(
        self, network: NoPoSplat, batch: PairBatch, stride: int = 1
    ) -> Float[Tensor, "batch 2 _height _width 3"]:
        """Predict centers of some pixels in the first view's frame, at any scale."""
        intrinsics, size = batch.cameras.intrinsics, batch.cameras.size
        device = batch.depth.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.autocast):
            encoded = batch.encoded
            if batch.images is not None:
                encoded = network.backbone.encode(batch.images * 2 - 1, intrinsics)
            features = network.backbone.decode(encoded.float(), intrinsics, size)
            raw, _ = network.raw_centers(features, intrinsics, size, stride)
        return exponential_distance(raw.float())

    @torch.no_grad()
    def validate(self, network: NoPoSplat, textures: Textures, pairs: int) -> dict[str, float]:
        """Return medians of depth errors, and pose AUC; see `score_pair`."""
        network.eval()
        batches = (
            self.make_batch(worlds) for worlds in held_out_worlds(textures, self.sizes[0], pairs)
        )
        return summarize([score_pair(self.predict(network, batch)[0], batch) for batch in batches])

    def write(self, network: NoPoSplat, path: Path, about: dict[str, str]) -> None:
        """Write a weights file, in half precision."""
        save_network(network, path, about | POSE_RELIABILITY, torch.float16)


def score_pair(predicted: Float[Tensor, "2 height width 3"], batch: PairBatch) -> dict[str, float]:
    """Return errors of the first pair of a batch: of depth after one scale, and of the pose."""
    from models.pose.pnp import pose_from_centers

    depth, camera = batch.depth[0, 0], batch.cameras[0, 1]
    seen = depth < 0.8 * FAR
    found = predicted[0, ..., 2]
    scale = median_of(depth / found.clamp(min=1e-6), seen)
    opaque = torch.ones_like(depth)
    pose = pose_from_centers(predicted[1] * scale, opaque, camera.intrinsics)
    error = FAILED_POSE if pose is None else pose_error(pose.world2cam, camera.world2cam)
    return {
        "depth_error": median_of((found * scale / depth - 1).abs(), seen),
        "pose_deg": error.pose_deg,
    }


def summarize(scores: list[dict[str, float]]) -> dict[str, float]:
    """Return the median and mean depth error, and pose AUC."""
    poses = [score["pose_deg"] for score in scores]
    depths = [score["depth_error"] for score in scores]
    aucs = {f"pose_auc_{limit:g}": pose_auc(poses, limit) for limit in AUC_LIMITS_DEG}
    return {"depth_error": median(depths), "mean_depth_error": fmean(depths), **aucs}
