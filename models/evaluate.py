"""Runs a reconstruction over pairs of photos whose cameras are known, and scores it."""

import pickle
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import torch
from jaxtyping import Float
from torch import Tensor

from models.data.pairs import PhotoPair, PosedPhoto
from models.gaussians import Gaussians, rescale
from models.metrics import FAILED_POSE, PoseError, pose_error, psnr, ssim
from models.pose import align_pose
from models.reconstruct import Reconstruction
from models.render import render
from models.scores import ImageScore, PairScores, TargetScore
from models.views import crop_to_aspect, resize

ReconstructFn = Callable[[list[Tensor], Tensor], Reconstruction]  # of photos and intrinsics


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """What is measured beside the poses. The defaults are the published protocol's."""

    views: bool = True  # render the first view and the targets
    align: bool = True  # and the targets once more after pose alignment
    size: int = 256  # of these pictures: the center square of the photo
    pictures: bool = False  # keep photos and renderings side by side


@dataclass(frozen=True)
class PairResult:
    """The numbers of a pair, and a picture to look at."""

    scores: PairScores
    picture: Float[Tensor, "3 height width"] | None  # a row for each view; photos on the left


@dataclass(frozen=True)
class _Attempt:
    """What came of reconstructing a pair; of a failure, the worst."""

    gaussians: Gaussians | None  # in units of the true baseline
    poses: tuple[PoseError, ...]
    failure: str | None
    problems: tuple[str, ...]


def evaluate_pair(
    pair: PhotoPair, reconstruct: ReconstructFn, config: EvaluationConfig
) -> PairResult:
    """Reconstruct one pair and compare the result with the truth.

    Targets are drawn at their true pose relative to the first view. No reconstruction knows the
    world's unit, so true poses and the scene are both measured in baselines (see `_attempt`).
    A reconstruction that fails, by raising or by numbers that are not finite, does not drop out:
    its poses count as wrong by 180 degrees, its views as black pictures.

    Raises:
        ValueError: If a photo cannot be read.
    """
    photos = [view.load() for view in pair.views]
    began = time.perf_counter()
    attempt = _attempt(pair, photos, reconstruct)
    seconds = time.perf_counter() - began
    first_view, targets, rows = None, [], []
    if config.views:
        baseline = _baseline(pair.views[-1].world2cam)
        draw = partial(_draw, attempt.gaussians, baseline=baseline, size=config.size)
        photo, drawing, _ = draw(pair.views[0], align=False)
        first_view = _score(drawing, photo)
        rows.append([photo, drawing])
        for target in pair.targets:
            photo, drawing, aligned = draw(target, align=config.align)
            aligned_score = None if aligned is None else _score(aligned, photo)
            targets.append(TargetScore(target.path.name, _score(drawing, photo), aligned_score))
            rows.append([photo, drawing, *([] if aligned is None else [aligned])])
    scores = PairScores(
        id=pair.id,
        scene=pair.scene,
        difficulty=pair.difficulty,
        low_parallax=pair.low_parallax,
        failure=attempt.failure,
        problems=attempt.problems,
        seconds=seconds,
        poses=attempt.poses,
        first_view=first_view,
        targets=tuple(targets),
    )
    return PairResult(scores, _side_by_side(rows) if rows and config.pictures else None)


def evaluate_pairs(
    pairs: Sequence[PhotoPair],
    open_reconstruct: Callable[[], ReconstructFn],
    config: EvaluationConfig,
    jobs: int = 1,
) -> Iterator[PairResult]:
    """Evaluate pairs, in their order.

    Args:
        pairs: What to evaluate.
        open_reconstruct: Makes the function that is evaluated, once per process. With several
            jobs it must survive pickling: a function of a module, or a partial of one.
        config: What is measured.
        jobs: How many processes work, each with one thread: on two cores this is about twice as
            fast as one process with two threads.
    """
    if jobs == 1:
        reconstruct = open_reconstruct()
        yield from (evaluate_pair(pair, reconstruct, config) for pair in pairs)
        return
    pool = ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=_start_worker, initargs=(open_reconstruct, config)
    )
    try:
        # Pickled by hand: tensors handed over as they are would each hold a file descriptor.
        for parcel in pool.map(_evaluate_parcel, map(pickle.dumps, pairs)):
            yield pickle.loads(parcel)
    finally:
        pool.shutdown(cancel_futures=True)


_evaluate_here: Callable[[PhotoPair], PairResult]  # set in worker processes, once in each


def _start_worker(open_reconstruct: Callable[[], ReconstructFn], config: EvaluationConfig) -> None:
    global _evaluate_here
    torch.set_num_threads(1)
    _evaluate_here = partial(evaluate_pair, reconstruct=open_reconstruct(), config=config)


def _evaluate_parcel(parcel: bytes) -> bytes:
    return pickle.dumps(_evaluate_here(pickle.loads(parcel)))


def _attempt(pair: PhotoPair, photos: list[Tensor], reconstruct: ReconstructFn) -> _Attempt:
    """Reconstruct, compare the poses, and measure the scene in baselines.

    One unit becomes the true distance from the first camera to the last: the scene is divided by
    as much of its own, which is that distance times the median, over the further views, of
    predicted to true distance from the first camera.
    """
    truth = [view.world2cam for view in pair.views]
    try:
        result = reconstruct(photos, torch.stack([view.intrinsics for view in pair.views]))
        predicted = list(result.world2cam.detach().cpu())
        if not (result.world2cam.isfinite().all() and result.gaussians.means.isfinite().all()):
            raise ValueError("the reconstruction is not finite")
        further = list(zip(predicted[1:], truth[1:], strict=True))
        ratios = [_baseline(mine) / _baseline(true) for mine, true in further]
        if not any(ratios):
            raise ValueError("the reconstruction has all cameras on one point")
        ratio = statistics.median(filter(None, ratios))
        gaussians = rescale(result.gaussians, 1 / (ratio * _baseline(truth[-1])))
        poses = tuple(pose_error(mine, true) for mine, true in further)
    except Exception as error:  # whatever the cause, the pair counts, and the report names it
        failure = f"{type(error).__name__}: {error}"
        return _Attempt(None, (FAILED_POSE,) * (len(truth) - 1), failure, ())
    return _Attempt(gaussians, poses, None, result.problems)


def _baseline(world2cam: Float[Tensor, "4 4"]) -> float:
    """How far a camera stands from the first one."""
    return float(world2cam[:3, 3].norm())


def _draw(
    gaussians: Gaussians | None, view: PosedPhoto, *, baseline: float, size: int, align: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The center square of the photo, the scene at its true pose and, if asked, at its best."""
    photo, intrinsics = crop_to_aspect(view.load(), view.intrinsics, 1.0)
    photo = resize(photo, (size, size))
    if gaussians is None:
        black = torch.zeros_like(photo)
        return photo, black, black if align else None
    device = gaussians.means.device
    world2cam = view.world2cam.clone()
    world2cam[:3, 3] /= baseline
    world2cam, intrinsics = world2cam.to(device), intrinsics.to(device)
    aligned = None
    with torch.no_grad():
        drawing = render(gaussians, world2cam, intrinsics, (size, size)).color.cpu()
    if align:
        world2cam = align_pose(gaussians, world2cam, intrinsics, photo.to(device))
        with torch.no_grad():
            aligned = render(gaussians, world2cam, intrinsics, (size, size)).color.cpu()
    return photo, drawing, aligned


def _score(
    drawing: Float[Tensor, "3 size size"], photo: Float[Tensor, "3 size size"]
) -> ImageScore:
    return ImageScore(psnr(drawing, photo), ssim(drawing, photo))


def _side_by_side(
    rows: list[list[Float[Tensor, "3 size size"]]],
) -> Float[Tensor, "3 height width"]:
    widest = max(len(row) for row in rows)
    padded = [[*row, *[torch.ones_like(row[0])] * (widest - len(row))] for row in rows]
    return torch.cat([torch.cat(row, dim=2) for row in padded], dim=1).clamp(0, 1)
