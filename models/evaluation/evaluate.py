"""Runs a reconstruction over pairs of photos whose cameras are known, and scores it."""

import math
import pickle
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.pairs import PhotoPair
from models.evaluation.novel_views import Square, load_square, score_views
from models.evaluation.scores import PairScores, PartSeconds
from models.evaluation.workers import map_on_processes, map_on_ray
from models.geometry.gaussians import Gaussians, rescale
from models.metrics.errors import FAILED_POSE, PoseError, pose_error
from models.metrics.lpips import Lpips
from models.reconstruction import Reconstruction

ReconstructFn = Callable[[list[Tensor], Tensor], Reconstruction]  # of photos and intrinsics
Engine = Literal["processes", "ray"]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured beside the poses. The defaults are the published protocol's."""

    views: bool = True  # render the first view and the targets
    align: bool = True  # and the targets once more after pose alignment
    size: int = 256  # of these pictures: the center square of the photo
    align_by: float | None = None  # Gaussians for a pixel that are enough for it; None is all
    pictures: bool = False  # keep photos and renderings side by side
    published_crop: bool = False  # show and compare squares made as the published evaluation does
    own_unit: bool = False  # take the scene's unit for the baseline, whatever its poses say


@dataclass(frozen=True)
class PairResult:
    """The numbers of a pair, and a picture to look at."""

    scores: PairScores
    picture: Float[Tensor, "3 height width"] | None  # a row for each view; photos on the left


@dataclass(frozen=True)
class Unusable:
    """A pair that could not be evaluated, because its photos cannot be read."""

    id: str
    reason: str


@dataclass(frozen=True)
class _Loaded:
    """A pair with everything read that is needed to score it."""

    pair: PhotoPair
    photos: list[Float[Tensor, "3 _height _width"]]
    intrinsics: Float[Tensor, "view 3 3"]
    squares: list[Square]  # the first view, then the targets; none if no views are drawn


@dataclass(frozen=True)
class _Attempt:
    """What came of reconstructing a pair; of a failure, the worst."""

    gaussians: Gaussians | None  # in units of the true baseline
    pixels: int  # along the short side of what the Gaussians were made from
    poses: tuple[PoseError, ...]
    failure: str | None
    problems: tuple[str, ...]


def evaluate_pair(
    pair: PhotoPair,
    reconstruct: ReconstructFn,
    config: EvaluationConfig,
    lpips: Lpips | None = None,
) -> PairResult:
    """Reconstruct one pair and compare the result with the truth.

    Targets are drawn at their true pose relative to the first view. No reconstruction knows the
    world's unit, so true poses and the scene are both measured in baselines (see `_attempt`).
    A reconstruction that fails, by raising or by numbers that are not finite, does not drop out:
    its poses count as wrong by 180 degrees, its views as black pictures.

    Args:
        pair: What to evaluate.
        reconstruct: What is evaluated. If it has `parts`, these are the `PartSeconds` of its last
            run.
        config: What is measured.
        lpips: The perceptual distance, on the device of the reconstruction; None leaves it out.

    Raises:
        ValueError: If a photo cannot be read.
    """
    return _score_pair(_load(pair, config), reconstruct, config, lpips)


def evaluate_pairs(
    pairs: Sequence[PhotoPair],
    open_reconstruct: Callable[[], ReconstructFn],
    config: EvaluationConfig,
    jobs: int | None = 1,
    open_lpips: Callable[[], Lpips | None] | None = None,
    engine: Engine = "processes",
    gpus: bool = False,
) -> Iterator[PairResult | Unusable]:
    """Evaluate pairs, in their order; those whose photos cannot be read are named instead.

    Args:
        pairs: What to evaluate.
        open_reconstruct: Makes the function that is evaluated, once per process. With several
            jobs it must survive pickling: a function of a module, or a partial of one.
        config: What is measured.
        jobs: How many processes work, each with one thread: on two cores this is about twice as
            fast as one process with two threads. None leaves it to Ray.
        open_lpips: Makes the perceptual distance, likewise.
        engine: What starts the processes. One job of the engine "processes" is this process.
        gpus: Whether each job needs a GPU of its own; Ray hands them out.
    """
    open_worker = partial(_open_worker, open_reconstruct, open_lpips, config)
    if engine == "processes" and jobs == 1:
        yield from map(open_worker(), pairs)
        return
    open_work, parcels = partial(_open_work, open_worker), map(pickle.dumps, pairs)
    if engine == "ray":
        results = map_on_ray(open_work, parcels, jobs, gpus)
    else:
        results = map_on_processes(open_work, parcels, jobs or 1)
    yield from map(pickle.loads, results)


Worker = Callable[[PhotoPair], PairResult | Unusable]


def _open_worker(
    open_reconstruct: Callable[[], ReconstructFn],
    open_lpips: Callable[[], Lpips | None] | None,
    config: EvaluationConfig,
) -> Worker:
    reconstruct, lpips = open_reconstruct(), open_lpips and open_lpips()

    def work(pair: PhotoPair) -> PairResult | Unusable:
        try:
            loaded = _load(pair, config)
        except ValueError as error:
            return Unusable(pair.id, str(error))
        return _score_pair(loaded, reconstruct, config, lpips)

    return work


def _open_work(open_worker: Callable[[], Worker]) -> Callable[[bytes], bytes]:
    worker = open_worker()
    return lambda parcel: pickle.dumps(worker(pickle.loads(parcel)))


def _load(pair: PhotoPair, config: EvaluationConfig) -> _Loaded:
    load = partial(load_square, size=config.size, published=config.published_crop)
    drawn = [load(view) for view in (pair.views[0], *pair.targets)] if config.views else []
    if config.published_crop:
        shown = [load(view) for view in pair.views]
        photos, intrinsics = [each.photo for each in shown], [each.intrinsics for each in shown]
    else:
        photos = [view.load().image for view in pair.views]
        intrinsics = [view.camera.intrinsics for view in pair.views]
    return _Loaded(pair, photos, torch.stack(intrinsics), drawn)


def _score_pair(
    loaded: _Loaded, reconstruct: ReconstructFn, config: EvaluationConfig, lpips: Lpips | None
) -> PairResult:
    pair = loaded.pair
    began = time.perf_counter()
    attempt = _attempt(loaded, reconstruct, config.own_unit)
    scores = PairScores(
        id=pair.id,
        scene=pair.scene,
        difficulty=pair.difficulty,
        low_parallax=pair.low_parallax,
        failure=attempt.failure,
        problems=attempt.problems,
        seconds=time.perf_counter() - began,
        poses=attempt.poses,
        first_view=None,
        targets=(),
        overlap=pair.overlap,
        parts=getattr(reconstruct, "parts", PartSeconds()),
    )
    if not loaded.squares:
        return PairResult(scores, None)
    unit = _baseline(pair.views[-1].camera.world2cam)
    detail = 1 if config.published_crop else math.ceil(attempt.pixels / config.size)
    views = score_views(
        attempt.gaussians, loaded.squares, unit, config.align, lpips, config.align_by, detail
    )
    parts = replace(scores.parts, render=views.render_seconds, alignment=views.align_seconds)
    scores = replace(scores, first_view=views.first_view, targets=views.targets, parts=parts)
    return PairResult(scores, views.picture if config.pictures else None)


def _attempt(loaded: _Loaded, reconstruct: ReconstructFn, own_unit: bool) -> _Attempt:
    """Reconstruct, compare the poses, and measure the scene in baselines.

    One unit becomes the true distance from the first camera to the last: the scene is divided by
    as much of its own, which is that distance times the median, over the further views, of
    predicted to true distance from the first camera. With `own_unit` it is left as it is: the
    published networks are trained to make that distance one.
    """
    truth = [view.camera.world2cam for view in loaded.pair.views]
    try:
        result = reconstruct(loaded.photos, loaded.intrinsics)
        predicted = [camera.world2cam.detach().cpu() for camera in result.cameras]
        if not (
            torch.stack(predicted).isfinite().all() and result.gaussians.means.isfinite().all()
        ):
            raise ValueError("the reconstruction is not finite")
        further = list(zip(predicted[1:], truth[1:], strict=True))
        ratios = [_baseline(mine) / _baseline(true) for mine, true in further]
        if not any(ratios):
            raise ValueError("the reconstruction has all cameras on one point")
        length = statistics.median(filter(None, ratios)) * _baseline(truth[-1])
        gaussians = rescale(result.gaussians, 1.0 if own_unit else 1 / length)
        poses = tuple(pose_error(mine, true) for mine, true in further)
        pixels = min((min(depth.shape) for depth in result.depths), default=1)
    except Exception as error:  # whatever the cause, the pair counts, and the report names it
        failure = f"{type(error).__name__}: {error}"
        return _Attempt(None, 1, (FAILED_POSE,) * (len(truth) - 1), failure, ())
    return _Attempt(gaussians, pixels, poses, None, result.problems)


def _baseline(world2cam: Float[Tensor, "4 4"]) -> float:
    """How far a camera stands from the first one."""
    return float(world2cam[:3, 3].norm())
