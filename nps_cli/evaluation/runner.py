"""Run an evaluation: keep what is finished, and name what cannot be used."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.data.pairs import PhotoPair
    from models.evaluation.evaluate import (
        EvaluationConfig,
        PairResult,
        ReconstructFn,
        Unusable,
    )
    from models.evaluation.scores import PairScores
    from models.workers import Engine
    from nps_cli.evaluation.inputs import Data
    from nps_cli.evaluation.resume import Progress
    from nps_cli.formats.evaluation import Evaluation
    from nps_cli.weights.networks import NetworkChoice

USUAL, ALONE = "", "alone"  # methods: as asked for, and the network without refinement


@dataclass(frozen=True, kw_only=True)
class Request:
    """Pairs and methods to evaluate, and the resources to use."""

    data: "Data"
    config: "EvaluationConfig"
    recorded: dict[str, Any]  # options that change results: they stand in the report
    methods: "Mapping[str, Callable[[], ReconstructFn]]"  # `USUAL` and, to compare, `ALONE`
    network: "NetworkChoice"
    views: int  # photos of every pair
    jobs: int | None  # processes; None is one a core, or GPU
    engine: "Engine"
    progress: Path | None  # folder to keep finished results in
    save: Path | None  # folder to write images to
    force: bool  # overwrite it


def run(request: Request) -> "Evaluation":
    """Evaluate, name what is left out, and return all that a report says.

    Raises:
        NpsError: If no pair can be used, or Ray is asked for and not installed.
    """
    from models.evaluation.evaluate import Unusable, evaluate_pairs
    from models.evaluation.scores import PairScores
    from nps_cli.device import count_workers, pick_device
    from nps_cli.evaluation.inputs import open_lpips
    from nps_cli.evaluation.resume import Progress
    from nps_cli.formats.evaluation import Evaluation, Subject
    from nps_cli.output import whole_folder
    from nps_cli.weights.lpips import FETCH, default_path
    from nps_cli.weights.networks import open_network, preprocessing_for

    data, pairs, network = request.data, request.data.pairs, request.network
    device = pick_device(network.device)
    jobs = count_workers(request.jobs, request.engine, device, len(pairs))
    _, weights = open_network(network.weights, device, request.views)
    has_lpips = request.config.views and default_path().is_file()
    if request.config.views and not has_lpips:
        console.info(f"LPIPS is left out (-): there is no {default_path()}. To get it: {FETCH}")
    options = request.recorded | {
        "device": device.type,
        "precision": network.precision,
        "crop": preprocessing_for(weights, network.crop).crop,
        "lpips": has_lpips,
    }
    evaluate = partial(
        evaluate_pairs,
        config=request.config,
        jobs=jobs,
        open_lpips=partial(open_lpips, network.device) if has_lpips else None,
        engine=request.engine,
        gpus=device.type == "cuda",
    )
    start = time.perf_counter()
    saved = whole_folder(request.save, force=request.force) if request.save else nullcontext()
    with saved as folder:
        conditions = {"weights": weights.sha256, "options": options}
        progress = Progress(request.progress, conditions, folder)
        results = {
            method: _evaluate(pairs, method, partial(evaluate, open_reconstruct=opened), progress)
            for method, opened in request.methods.items()
        }
        if folder and progress.images and progress.images != folder:
            for image in sorted(progress.images.iterdir()):
                shutil.move(image, folder / image.name)
    usual, alone = results[USUAL], results.get(ALONE, [])
    unusable = tuple(each for each in usual if isinstance(each, Unusable))
    if len(unusable) == len(pairs):
        raise NpsError(
            f"No pair can be used. {unusable[0].id}: {unusable[0].reason}",
            hint="Correct the list, or the photos.",
        )
    return Evaluation(
        subject=Subject(data.name, data.sha256, weights.name, weights.sha256, options),
        shard=data.shard,
        ids=tuple(pair.id for pair in pairs),
        scores=tuple(each for each in usual if isinstance(each, PairScores)),
        alone=tuple(each for each in alone if isinstance(each, PairScores)),
        unusable=unusable,
        skipped=data.skipped,
        seconds=time.perf_counter() - start,
        jobs=jobs or 0,
    )


def _evaluate(
    pairs: "list[PhotoPair]",
    method: str,
    evaluate: "Callable[[list[PhotoPair]], Iterator[PairResult | Unusable]]",
    progress: "Progress",
) -> "list[PairScores | Unusable]":
    """Evaluate every pair with a method, but for what is kept."""
    from models.evaluation.evaluate import Unusable

    results: dict[str, PairScores | Unusable] = {
        pair.id: kept for pair in pairs if (kept := progress.find(pair, method))
    }
    waiting = [pair for pair in pairs if pair.id not in results]
    if results:
        console.info(
            f"{len(results)} results of an interrupted run are used, and not computed again"
        )
    label = f"evaluating {method}".strip()
    with console.progress(label, len(waiting)) as advance:
        try:
            for pair, result in zip(waiting, evaluate(waiting) if waiting else (), strict=True):
                if isinstance(result, Unusable):
                    results[pair.id] = result
                    if method == USUAL:
                        console.warning(f"{result.id} cannot be used: {result.reason}")
                else:
                    results[pair.id] = scores = result.scores
                    progress.keep(pair, method, result)
                    if scores.failure is not None:
                        console.warning(f"{scores.id} failed: {scores.failure}")
                    worst = max(error.pose_deg for error in scores.poses)
                    console.debug(
                        f"{scores.id}: {scores.seconds:.1f} s, poses off by {worst:.1f} deg"
                    )
                advance()
        except KeyboardInterrupt:
            if progress.folder is not None:
                console.info(
                    f"interrupted: {len(progress.finished)} results are kept in {progress.folder}; "
                    "the same command goes on from there"
                )
            raise
        except BrokenProcessPool as error:
            raise NpsError(
                "A process of the evaluation was killed, perhaps for lack of memory.",
                hint="Try fewer --jobs; with -o, the same command goes on where it stopped.",
            ) from error
    return [results[pair.id] for pair in pairs]
