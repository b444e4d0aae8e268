"""An endless, exactly reproducible stream of training examples from chunks.

Example n of a data set is a function of (seed, n) and the gaps that the step allows; nothing else
is remembered, so that training resumes anywhere, with any number of worker processes, and several
processes of one run share the examples that one process with the whole batch would sample.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np
from torch.utils.data import DataLoader, Dataset

from models.data.chunks import open_chunk, read_index
from models.data.examples import Example, ExampleBatch, collate, make_example
from models.data.report import Report
from models.data.sampling import Sample, sample_views
from models.data.scenes import Scene
from models.data.settings import DataSettings
from models.geometry.checks import find_bad_cameras

_MAX_ATTEMPTS = 1000  # scenes tried in place of one that cannot be used


@dataclass(frozen=True)
class Source:
    """The scenes of one data set's stage."""

    folder: Path
    settings: DataSettings
    chunks: tuple[tuple[str, list[str]], ...]  # the file's name and the keys of each
    sizes: tuple[int, ...]  # numbers of scenes, by chunk

    def __len__(self) -> int:
        return sum(self.sizes)


def open_source(root: Path, settings: DataSettings, report: Report) -> Source:
    """Find the scenes below `root/train`, without opening them if there is an index.

    Raises:
        ValueError: If there are none.
    """
    chunks = tuple(read_index(root / "train", report).items())
    source = Source(root / "train", settings, chunks, tuple(len(keys) for _, keys in chunks))
    if not len(source):
        raise ValueError(f"{source.folder} has no scene that can be used")
    return source


@dataclass(frozen=True, kw_only=True)
class ExampleStream:
    """Everything that decides the examples of a run."""

    sources: tuple[Source, ...]  # each gives a batch of its own at every step
    size: tuple[int, int]  # (height, width) of the images
    batch: int  # per source and process
    views: int = 2
    targets: int = 4
    seed: int = 0
    rank: int = 0  # of this process, among so many:
    processes: int = 1
    flip: bool = True  # half of the examples, from left to right

    def sample(self, step: int) -> tuple[ExampleBatch, Report]:
        """Sample the batch of a step; return it, and what was skipped on the way.

        Raises:
            ValueError: If a data set yields no example, whatever is tried.
        """
        report = Report()
        first = (step * self.processes + self.rank) * self.batch
        made = [
            self._make_example(place, source, number, step, report)
            for place, source in enumerate(self.sources)
            for number in range(first, first + self.batch)
        ]
        return collate(made, self.views), report

    def _make_example(
        self, place: int, source: Source, number: int, step: int, report: Report
    ) -> Example:
        """Make the example of a number; if its scene cannot be used, of the next that can."""
        epoch, at = divmod(number, len(source))
        order = _shuffle(source.sizes, self.seed, epoch)
        for attempt in range(min(_MAX_ATTEMPTS, len(source))):
            chunk, member = order[(at + attempt) % len(order)]
            name, keys = source.chunks[chunk]
            key = keys[member]
            rng = np.random.default_rng([self.seed, place, number, attempt])
            try:
                scene, good = _find_scene(source.folder / name, key, report)
                gaps = source.settings.gaps.at(step)
                sampled = sample_views(len(good), gaps, rng, self.views, self.targets)
                sample = Sample(
                    tuple(good[frame] for frame in sampled.context),
                    tuple(good[frame] for frame in sampled.targets),
                )
                flip = self.flip and bool(rng.integers(2))
                example = make_example(scene, sample, source.settings, self.size, flip=flip)
            except ValueError as error:
                report.skip("example", f"{name}:{key}", str(error))
                continue
            report.use("example")
            return example
        last = max(report.skipped) if report.skipped else "none"
        raise ValueError(f"no example in {source.folder} can be used; the last reason: {last}")


def examples(
    stream: ExampleStream, report: Report, first_step: int = 0, workers: int = 0
) -> Iterator[ExampleBatch]:
    """Iterate over the batches of all steps from one on, without end.

    Args:
        stream: Decides the examples.
        report: Grows by what was used and what was skipped.
        first_step: To resume, the number of steps made.
        workers: Processes that sample ahead; 0: this one does. The examples are the same.

    Raises:
        ValueError: If a data set yields no example.
    """
    loader = DataLoader(
        _BatchDataset(stream), batch_size=None, sampler=count(first_step), num_workers=workers
    )
    for sampled in loader:
        if isinstance(sampled, str):
            raise ValueError(sampled)
        batch, found = sampled
        report.add(found)
        yield batch


class _BatchDataset(Dataset[tuple[ExampleBatch, Report] | str]):
    def __init__(self, stream: ExampleStream) -> None:
        self.stream = stream

    def __getitem__(self, step: int) -> tuple[ExampleBatch, Report] | str:
        """Return a batch, or why there is none: workers bury messages of errors in tracebacks."""
        try:
            return self.stream.sample(step)
        except ValueError as error:
            return str(error)


@lru_cache(maxsize=4)
def _shuffle(scenes: tuple[int, ...], seed: int, epoch: int) -> np.ndarray:
    """Shuffle chunks, and the scenes of each; return (chunk, scene in it) of every scene."""
    rng = np.random.default_rng([seed, epoch])
    return np.concatenate([
        np.stack([np.full(scenes[chunk], chunk), rng.permutation(scenes[chunk])], axis=1)
        for chunk in rng.permutation(len(scenes))
    ])  # fmt: skip


def _find_scene(path: Path, key: str, report: Report) -> tuple[Scene, list[int]]:
    """Return a scene, and its frames with valid cameras."""
    chunk = open_chunk(path)
    report.skipped.update(chunk.skipped)
    if key not in chunk.scenes:
        raise ValueError("it is not in its chunk, or cannot be read there")
    scene = chunk.scenes[key]
    bad = find_bad_cameras(scene.intrinsics, scene.world2cam)
    for frame, why in bad.items():
        report.skip("frame", f"{path.name}:{key}:{frame}", why)
    return scene, [frame for frame in range(len(scene)) if frame not in bad]
