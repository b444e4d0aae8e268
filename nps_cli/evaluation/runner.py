"""Run an evaluation: keep what is finished, and name what cannot be used."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.data.pairs import PhotoPair
    from models.evaluation.evaluate import (
        Engine,
        EvaluationConfig,
        PairResult,
        ReconstructFn,
        Unusable,
    )
    from models.evaluation.scores import PairScores
    from nps_cli.evaluation.inputs import Data
    from nps_cli.evaluation.resume import Progress
    from nps_cli.formats.evaluation import Evaluation
    from nps_cli.weights.networks import NetworkChoice

USUAL, ALONE = "", "alone"  # methods: as asked for, and the network without refinement

Results = dict[str, "PairScores | Unusable"]  # by the pair's id


@dataclass(frozen=True)
class Request:
    """Pairs and methods to evaluate, and the resources to use.

    Attributes:
        data: The pairs.
        config: What is scored.
        recorded: Options that change results: they stand in the report.
        methods: What opens a reconstruction, for `USUAL` and, to compare, `ALONE`.
        network: The network that they use.
        views: Photos of every pair.
        jobs: Processes; None is one a core, or GPU.
        engine: The library that starts them.
        progress: Folder to keep finished results in.
        save: Folder to write images to.
        force: Overwrite it.
    """

    data: "Data"
    config: "EvaluationConfig"
    recorded: dict[str, Any]
    methods: "Mapping[str, Callable[[], ReconstructFn]]"
    network: "NetworkChoice"
    views: int
    jobs: int | None
    engine: "Engine"
    progress: Path | None
    save: Path | None
    force: bool


def run(request: Request) -> "Evaluation":
    """Evaluate, name what is left out, and return all that a report says.

    Raises:
        NpsError: If no pair can be used.
    """
    from models.evaluation.evaluate import Unusable
    from models.evaluation.scores import PairScores
    from nps_cli.device import pick_device
    from nps_cli.evaluation.resume import Progress, digest_of_code
    from nps_cli.formats.evaluation import Evaluation, Subject
    from nps_cli.output import whole_folder
    from nps_cli.weights.lpips import FETCH, find_files
    from nps_cli.weights.networks import open_network, preprocessing_for

    data, pairs = request.data, request.data.pairs
    device = pick_device(request.network.device)
    _, weights = open_network(request.network.weights, device, request.views)
    has_lpips = request.config.views and find_files() is not None
    if request.config.views and not has_lpips:
        console.info(f"LPIPS is left out (-): its weights are not here. To get them: {FETCH}")
    options = request.recorded | {
        "device": device.type,
        "precision": request.network.precision,
        "crop": preprocessing_for(weights, request.network.crop).crop,
        "lpips": has_lpips,
    }
    jobs = request.jobs
    if jobs is None and request.engine == "processes":
        jobs = 1 if device.type == "cuda" else min(os.cpu_count() or 1, len(pairs))
    progress = None
    if request.progress is not None:
        conditions = {"weights": weights.sha256, "options": options, "code": digest_of_code()}
        progress = Progress(request.progress, conditions)
    start = time.perf_counter()
    with ExitStack() as stack:
        folder = None
        if request.save is not None:
            folder = stack.enter_context(whole_folder(request.save, force=request.force))
        run = _Run(request, device.type == "cuda", has_lpips, jobs, progress, folder)
        results = run.evaluate(pairs)
        if folder is not None and progress is not None:
            for image in sorted(progress.images.iterdir()):
                shutil.move(image, folder / image.name)
    usual = [results[USUAL][pair.id] for pair in pairs]
    alone = [results[ALONE][pair.id] for pair in pairs] if ALONE in results else []
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


@dataclass(frozen=True)
class _Run:
    """A request with the devices, the progress and the folder of images it uses."""

    request: Request
    gpus: bool
    has_lpips: bool
    jobs: int | None
    progress: "Progress | None"
    folder: Path | None

    def evaluate(self, pairs: "list[PhotoPair]") -> dict[str, Results]:
        """Evaluate every pair with every method, but for what is kept; return results by id."""
        results: dict[str, Results] = {
            method: {pair.id: kept for pair in pairs if (kept := self._find(pair, method))}
            for method in self.request.methods
        }
        left = {
            method: [pair for pair in pairs if pair.id not in kept]
            for method, kept in results.items()
        }
        if any(results.values()):
            count = sum(map(len, results.values()))
            console.info(f"{count} results of an interrupted run are used, and not computed again")
        with console.progress("evaluating", sum(map(len, left.values()))) as advance:
            try:
                for method, waiting in left.items():
                    for pair, result in zip(waiting, self._results(waiting, method), strict=True):
                        results[method][pair.id] = self._record(pair, method, result)
                        advance()
            except KeyboardInterrupt:
                if self.progress is not None:
                    count = sum(map(len, results.values()))
                    console.info(
                        f"interrupted: {count} results are kept in {self.progress.folder}; "
                        "the same command goes on from there"
                    )
                raise
        return results

    def _find(self, pair: "PhotoPair", method: str) -> "PairScores | None":
        from nps_cli.evaluation.resume import key_of

        if self.progress is None:
            return None
        image = image_name(pair.id, method) if self.folder else None
        return self.progress.find(key_of(pair, method), image)

    def _results(self, pairs: "list[PhotoPair]", method: str) -> "Iterator[PairResult | Unusable]":
        from models.evaluation.evaluate import evaluate_pairs
        from nps_cli.evaluation.inputs import open_lpips

        if not pairs:
            return
        request = self.request
        lpips = partial(open_lpips, request.network.device) if self.has_lpips else None
        workers = self.jobs, lpips, request.engine, self.gpus
        try:
            yield from evaluate_pairs(pairs, request.methods[method], request.config, *workers)
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise NpsError(
                "Ray is not installed.", hint="pip install ray, or leave out --engine."
            ) from error

    def _record(
        self, pair: "PhotoPair", method: str, result: "PairResult | Unusable"
    ) -> "PairScores | Unusable":
        """Name what went wrong, and keep what went well."""
        from models.evaluation.evaluate import Unusable
        from nps_cli.evaluation.resume import key_of
        from nps_cli.formats.video import write_png

        if isinstance(result, Unusable):
            if method == USUAL:
                console.warning(f"{result.id} cannot be used: {result.reason}")
            return result
        scores = result.scores
        if scores.failure is not None:
            console.warning(f"{scores.id} failed: {scores.failure}")
        if self.folder is not None and result.side_by_side is not None:
            folder = self.folder if self.progress is None else self.progress.images
            write_png(result.side_by_side, folder / image_name(pair.id, method))
        if self.progress is not None:
            self.progress.keep(key_of(pair, method), scores)
        worst = max(error.pose_deg for error in scores.poses)
        console.debug(f"{scores.id}: {scores.seconds:.1f} s, pose off by {worst:.1f} degrees")
        return scores


def image_name(pair_id: str, method: str) -> str:
    """Return a file name without special characters; of `USUAL`, without the method."""
    name = re.sub(r"[^\w.-]", "_", pair_id)
    return f"{name}.{method}.png" if method else f"{name}.png"
