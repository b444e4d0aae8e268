"""Evaluate a reconstruction on pairs of photos whose cameras are known."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.pairs import PhotoPair
from models.evaluation.novel_views import load_square, score_views
from models.evaluation.scores import PairScores, PartSeconds, TargetScore
from models.geometry.gaussians import Gaussians, rescale
from models.geometry.views import View
from models.metrics.errors import FAILED_POSE, PoseError, pose_error
from models.metrics.lpips import Lpips
from models.reconstruction import Reconstruction
from models.workers import Engine, map_on_workers

ReconstructFn = Callable[[list[View]], Reconstruction]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Options of an evaluation; the defaults are the published protocol's.

    Attributes:
        views: Score renderings of the first view and the targets, not only poses.
        align: Score the targets once more after pose alignment.
        size: Pixels along a side of the renderings: the center square of the photo.
        gaussians_per_pixel: How many are enough for the alignment; None is all.
        side_by_side: Keep photos and renderings.
        published_crop: Show and compare squares cropped as the published evaluation does.
        keep_scale: Take the scene's unit for the baseline, whatever its poses say.
    """

    views: bool = True
    align: bool = True
    size: int = 256
    gaussians_per_pixel: float | None = None
    side_by_side: bool = False
    published_crop: bool = False
    keep_scale: bool = False


@dataclass(frozen=True)
class PairResult:
    """The scores of a pair and, if asked for, its photos and renderings."""

    scores: PairScores
    side_by_side: Float[Tensor, "3 height width"] | None


@dataclass(frozen=True)
class Unusable:
    """A pair that could not be evaluated, because its photos cannot be read."""

    id: str
    reason: str


def evaluate_pair(
    pair: PhotoPair,
    reconstruct: ReconstructFn,
    config: EvaluationConfig,
    lpips: Lpips | None = None,
) -> PairResult | Unusable:
    """Reconstruct one pair and compare the result with the truth.

    Targets are rendered at their true pose relative to the first view. No reconstruction knows the
    world's unit, so true poses and the scene are both measured in baselines (see `_in_baselines`).
    A reconstruction that fails, by raising or by numbers that are not finite, does not drop out:
    its poses count as wrong by 180 degrees, its views as black images.

    Args:
        pair: Photos and true cameras.
        reconstruct: What is evaluated. If it has `parts`, these are the `PartSeconds` of its last
            run.
        config: See `EvaluationConfig`.
        lpips: The perceptual distance, on the device of the reconstruction; None leaves it out.

    Returns:
        The scores, or `Unusable` if a photo cannot be read.
    """
    load = partial(load_square, size=config.size, published=config.published_crop)
    compared = (pair.views[0], *pair.targets) if config.views else ()
    try:
        squares = [load(photo) for photo in compared]
        inputs = [load(photo) if config.published_crop else photo.load() for photo in pair.views]
    except ValueError as error:
        return Unusable(pair.id, str(error))
    start = time.perf_counter()
    true_poses = [photo.camera.world2cam for photo in pair.views]
    gaussians, failure, side_px = None, None, 1
    problems: tuple[str, ...] = ()
    try:
        result = reconstruct([_moved(view, torch.eye(4)) for view in inputs])
        gaussians, poses = _in_baselines(result, true_poses, config.keep_scale)
        problems = result.problems
        side_px = min((min(depth.shape) for depth in result.depths), default=1)
    except Exception as error:  # whatever the cause, the pair counts, and the report names it
        failure, poses = f"{type(error).__name__}: {error}", (FAILED_POSE,) * (len(true_poses) - 1)
    scores = PairScores(
        id=pair.id,
        scene=pair.scene,
        difficulty=pair.difficulty,
        low_parallax=pair.low_parallax,
        failure=failure,
        problems=problems,
        seconds=time.perf_counter() - start,
        poses=poses,
        first_view=None,
        targets=(),
        overlap=pair.overlap,
        parts=getattr(reconstruct, "parts", PartSeconds()),
    )
    if not squares:
        return PairResult(scores, None)
    scaled = torch.stack([view.camera.world2cam for view in squares])
    scaled[:, :3, 3] /= _baseline(true_poses[-1])
    squares = [_moved(*each) for each in zip(squares, scaled, strict=True)]
    factor = 1 if config.published_crop else math.ceil(side_px / config.size)
    views = score_views(gaussians, squares, config.align, lpips, config.gaussians_per_pixel, factor)
    targets = zip(pair.targets, views.posed[1:], views.aligned, strict=True)
    scores = replace(
        scores,
        first_view=views.posed[0],
        targets=tuple(TargetScore(photo.name, posed, aligned) for photo, posed, aligned in targets),
        parts=replace(scores.parts, render=views.render_seconds, alignment=views.align_seconds),
    )
    return PairResult(scores, views.side_by_side if config.side_by_side else None)


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
        pairs: Photos and true cameras.
        open_reconstruct: Makes the function that is evaluated, once per process. With several
            jobs it must survive pickling: a function of a module, or a partial of one.
        config: See `EvaluationConfig`.
        jobs: How many processes work, each with one thread: on two cores this is about twice as
            fast as one process with two threads. None leaves it to Ray.
        open_lpips: Makes the perceptual distance, likewise.
        engine: What starts the processes. One job of the engine "processes" is this process.
        gpus: Whether each job needs a GPU of its own; Ray hands them out.
    """
    open_worker = partial(_open_worker, open_reconstruct, open_lpips, config)
    yield from map_on_workers(open_worker, pairs, jobs, engine, gpus)


def _open_worker(
    open_reconstruct: Callable[[], ReconstructFn],
    open_lpips: Callable[[], Lpips | None] | None,
    config: EvaluationConfig,
) -> Callable[[PhotoPair], PairResult | Unusable]:
    reconstruct, lpips = open_reconstruct(), open_lpips and open_lpips()
    return lambda pair: evaluate_pair(pair, reconstruct, config, lpips)


def _in_baselines(
    result: Reconstruction, true_poses: list[Float[Tensor, "4 4"]], keep_scale: bool
) -> tuple[Gaussians, tuple[PoseError, ...]]:
    """Return the scene, measured in baselines, and the pose errors of the further views.

    One unit becomes the true distance from the first camera to the last: the scene is divided by
    as much of its own, which is that distance times the median, over the further views, of
    predicted to true distance from the first camera. With `keep_scale` it is left as it is: the
    published networks are trained to make that distance one.

    Raises:
        ValueError: If the reconstruction is not finite, or has all cameras on one point.
    """
    poses = torch.stack([camera.world2cam.detach().cpu() for camera in result.cameras])
    if not (poses.isfinite().all() and result.gaussians.means.isfinite().all()):
        raise ValueError("the reconstruction is not finite")
    further = list(zip(poses[1:], true_poses[1:], strict=True))
    ratios = [_baseline(pose) / _baseline(true) for pose, true in further]
    if not any(ratios):
        raise ValueError("the reconstruction has all cameras on one point")
    length = statistics.median(filter(None, ratios)) * _baseline(true_poses[-1])
    gaussians = rescale(result.gaussians, 1.0 if keep_scale else 1 / length)
    return gaussians, tuple(pose_error(pose, true) for pose, true in further)


def _moved(view: View, world2cam: Float[Tensor, "4 4"]) -> View:
    return replace(view, camera=replace(view.camera, world2cam=world2cam))


def _baseline(world2cam: Float[Tensor, "4 4"]) -> float:
    """Return the distance of a camera from the first one."""
    return float(world2cam[:3, 3].norm())
