"""Sampling of context and target views from sequences."""

from dataclasses import dataclass

import numpy as np

_INDEX_TARGETS = 3  # frames to predict between two of an evaluation index, at most


@dataclass(frozen=True)
class Sample:
    """Frame numbers of an example."""

    context: tuple[int, ...]  # the outermost two first and last
    targets: tuple[int, ...]


def sample_views(
    frames: int, gaps: tuple[int, int], rng: np.random.Generator, views: int = 2, targets: int = 4
) -> Sample:
    """Sample views as the bounded sampler of the published training does.

    The gap between the outermost context views is uniform between its bounds, and so is their
    place; further context views are distinct frames strictly between them, in no order; targets
    are sampled from the whole range, with repetition, and may be context views.

    Raises:
        ValueError: If there are too few frames.
    """
    low, high = gaps[0], min(frames - 1, gaps[1])
    low = max(low, views - 1)
    if high < low:
        raise ValueError(f"it has {frames} frames, too few for a gap of {low}")
    gap = int(rng.integers(low, high, endpoint=True))
    left = int(rng.integers(0, frames - gap))
    between = left + 1 + rng.permutation(gap - 1)[: views - 2]
    chosen = rng.integers(left, left + gap, targets, endpoint=True)
    return Sample((left, *between.tolist(), left + gap), tuple(chosen.tolist()))


def make_evaluation_index(frames: dict[str, int], gap: int) -> dict[str, dict[str, list[int]]]:
    """Choose frames of scenes for an evaluation index: see `load_benchmark`.

    Two frames around the middle, so far apart, or the outermost ones of a shorter scene, and
    targets evenly between them. Overlap is not known, and left out. A scene with fewer than three
    frames has no entry.

    Args:
        frames: Number of frames of every scene, by its key.
        gap: Between the two frames that are shown.
    """
    index = {}
    for key, count in frames.items():
        apart = min(gap, count - 1)
        if apart < 2:
            continue
        left = (count - 1 - apart) // 2
        between = frames_between(left, left + apart, min(_INDEX_TARGETS, apart - 1))
        index[key] = {"context": [left, left + apart], "target": list(between)}
    return index


def frames_between(first: int, last: int, count: int) -> tuple[int, ...]:
    """Return so many frames evenly between two, rounded."""
    return tuple(np.linspace(first, last, count + 2)[1:-1].round().astype(int).tolist())
