"""Procedural worlds with what the frozen encoder says of their views, kept in a folder.

On a CPU, worlds and the encoder cost as much as several training steps: every world is made and
encoded once, and its pairs of views are learned from many times.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations, count
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.data.augmentation import augment, degrade
from models.data.overlap import overlap
from models.data.procedural import Textures, WorldBatch, generate
from models.files.atomic import atomic_write
from models.files.pickled import read_pickled
from models.geometry.camera import Camera
from models.geometry.rigid import invert
from models.training.embedded import EmbeddedTraining, PairBatch

MIN_OVERLAP = 0.12  # of most pairs; others are rare
RARE = 0.02  # weight of such pairs
DIFFICULTIES = 100  # levels among the chunks


@dataclass(frozen=True)
class EncodedWorlds:
    """A chunk of worlds; half precision, but for cameras. The sky's depth is `FAR`."""

    features: Float[Tensor, "world view token channel"]
    depth: Float[Tensor, "world view height width"]
    intrinsics: Float[Tensor, "world view 3 3"]
    world2cam: Float[Tensor, "world view 4 4"]
    overlap: Float[Tensor, "world view view"]

    def pairs(self, worlds: Int[Tensor, " pair"], views: Int[Tensor, "pair 2"]) -> PairBatch:
        """Return ordered pairs of views, one of each of these worlds."""

        def pick(values: Float[Tensor, "world view *rest"]) -> Float[Tensor, "pair 2 *rest"]:
            return values[worlds[:, None], views].float()

        world2cam = pick(self.world2cam)
        depth = pick(self.depth)
        size = (depth.shape[-2], depth.shape[-1])
        cameras = Camera(pick(self.intrinsics), world2cam @ invert(world2cam[:, :1]), size)
        return PairBatch(None, pick(self.features), cameras, depth)

    def sample(self, count: int, generator: torch.Generator) -> PairBatch:
        """Choose pairs of views that overlap, of as many worlds."""
        number, views = self.overlap.shape[:2]
        weight = torch.where(self.overlap >= MIN_OVERLAP, 1.0, RARE)
        weight = weight * (1 - torch.eye(views))
        worlds = torch.randperm(number, generator=generator)[:count]
        chosen = torch.multinomial(weight[worlds].flatten(1), 1, generator=generator)[:, 0]
        return self.pairs(worlds, torch.stack([chosen // views, chosen % views], dim=1))


@torch.no_grad()
def encode_worlds(
    worlds: WorldBatch, config: EmbeddedTraining, generator: torch.Generator
) -> EncodedWorlds:
    """Encode all views of worlds, augmented, as phones would photograph them."""
    worlds = augment(worlds, generator)
    images = degrade(worlds.images, generator, config.artifacts)
    count, views = images.shape[:2]
    shared = torch.eye(views).repeat(count, 1, 1)
    for world in range(count):
        maps = [worlds.depth_map(world, view) for view in range(views)]
        for i, j in combinations(range(views), 2):
            shared[world, [i, j], [j, i]] = overlap(maps[i], maps[j])
    cameras, depth, features = worlds.cameras, worlds.depth.half(), config.encode(images).half()
    return EncodedWorlds(features, depth, cameras.intrinsics, cameras.world2cam, shared)


def read_chunk(path: Path) -> EncodedWorlds:
    """Read a chunk; its features stay in the file until they are used. Raises ValueError."""
    values: Any = read_pickled(path)
    try:
        return EncodedWorlds(**values)
    except TypeError as error:
        raise ValueError(f"{path} holds no encoded worlds") from error


def make_chunk(number: int, path: Path, config: EmbeddedTraining, textures: Textures) -> None:
    """Sample the worlds of a chunk, encode and write them; the number says which they are."""
    generator = torch.Generator().manual_seed((config.seed + 1) * 1_000_003 + number)
    span = config.last_difficulty - config.first_difficulty
    worlds = generate(
        config.chunk_worlds,
        config.chunk_views,
        config.sizes[number % len(config.sizes)],
        textures,
        generator,
        torch.device("cpu"),
        config.first_difficulty + span * (number * 37 % DIFFICULTIES) / DIFFICULTIES,
    )
    chunk = encode_worlds(worlds, config, generator)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        torch.save(asdict(chunk), temporary)


def encoded_batches(
    config: EmbeddedTraining, textures: Textures, folder: Path, first_step: int = 0
) -> Iterator[PairBatch]:
    """Yield the batch of every step from `first_step` on, of chunks in a folder.

    A new chunk joins every `steps_per_chunk` steps; one that is not there is made. A batch depends
    on the seed and the step only, so that a run resumes exactly.
    """
    for step in count(first_step):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        available = config.first_chunks + step // config.steps_per_chunk
        number = int(torch.randint(available, (), generator=generator))
        path = folder / f"{number:05d}.pt"
        if not path.exists():
            make_chunk(number, path, config, textures)
        yield read_chunk(path).sample(config.batch, generator)
