"""An evaluation from beginning to end: what is finished is kept, and what is bad is named."""

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
    from nps_cli.evaluation.resume import Unfinished
    from nps_cli.formats.evaluation import Evaluation
    from nps_cli.weights.networks import NetworkChoice

USUAL, ALONE = "", "alone"  # as asked for, and without refinement

Results = dict[str, "PairScores | Unusable"]  # by the pair's id


@dataclass(frozen=True)
class Request:
    """What is to be evaluated, and how."""

    data: str
    loaded: "Data"
    shard: tuple[int, int]  # which share of the pairs, of how many
    config: "EvaluationConfig"
    options: dict[str, Any]  # that change results: they stand in the report
    ways: "Mapping[str, Callable[[], ReconstructFn]]"  # `USUAL` and, to compare, `ALONE`
    choice: "NetworkChoice"
    views: int
    jobs: int | None
    engine: "Engine"
    unfinished: Path | None  # where to keep what is finished
    save: Path | None
    force: bool


def carry_out(request: Request) -> "Evaluation":
    """Evaluate, name what is left out, and report.

    Raises:
        NpsError: If no pair can be used.
    """
    from models.evaluation.evaluate import Unusable
    from models.evaluation.scores import PairScores
    from nps_cli.device import pick_device
    from nps_cli.evaluation.resume import Unfinished, digest_of_code
    from nps_cli.formats.evaluation import Evaluation, Subject
    from nps_cli.output import whole_folder
    from nps_cli.weights.lpips import FETCH, find_files
    from nps_cli.weights.networks import open_network, preprocessing_for

    which, of = request.shard
    pairs = request.loaded.pairs[which - 1 :: of]
    if not pairs:
        total = len(request.loaded.pairs)
        raise NpsError(f"There are only {total} pairs.", hint=f"Use fewer than {of} shards.")
    device = pick_device(request.choice.device)
    _, weights = open_network(request.choice.weights, device, request.views)
    has_lpips = request.config.views and find_files() is not None
    if request.config.views and not has_lpips:
        console.info(f"LPIPS is left out (-): its weights are not here. To get them: {FETCH}")
    options = request.options | {
        "device": device.type,
        "precision": request.choice.precision,
        "crop": preprocessing_for(weights, request.choice.crop).crop,
        "lpips": has_lpips,
    }
    subject = Subject(request.data, request.loaded.sha256, weights.name, weights.sha256, options)
    jobs = request.jobs
    if jobs is None and request.engine == "processes":
        jobs = 1 if device.type == "cuda" else min(os.cpu_count() or 1, len(pairs))
    unfinished = None
    if request.unfinished is not None:
        conditions = {"weights": weights.sha256, "options": options, "code": digest_of_code()}
        unfinished = Unfinished(request.unfinished, conditions)
    began = time.perf_counter()
    with ExitStack() as stack:
        folder = None
        if request.save is not None:
            folder = stack.enter_context(whole_folder(request.save, force=request.force))
        carrier = _Carrier(request, device.type == "cuda", has_lpips, jobs, unfinished, folder)
        found = carrier.evaluate(pairs)
        if folder is not None and unfinished is not None:
            for picture in sorted(unfinished.pictures.iterdir()):
                shutil.move(picture, folder / picture.name)
    usual = [found[USUAL][pair.id] for pair in pairs]
    alone = [found[ALONE][pair.id] for pair in pairs] if ALONE in found else []
    unusable = tuple(each for each in usual if isinstance(each, Unusable))
    if len(unusable) == len(pairs):
        raise NpsError(
            f"No pair can be used. {unusable[0].id}: {unusable[0].reason}",
            hint="Correct the list, or the photos.",
        )
    return Evaluation(
        subject=subject,
        shard=request.shard,
        ids=tuple(pair.id for pair in pairs),
        scores=tuple(each for each in usual if isinstance(each, PairScores)),
        alone=tuple(each for each in alone if isinstance(each, PairScores)),
        unusable=unusable,
        skipped=request.loaded.skipped,
        seconds=time.perf_counter() - began,
        jobs=jobs or 0,
    )


@dataclass(frozen=True)
class _Carrier:
    """Carries a request out on this machine, or wherever the engine does."""

    request: Request
    gpus: bool
    has_lpips: bool
    jobs: int | None
    unfinished: "Unfinished | None"
    folder: Path | None  # of pictures

    def evaluate(self, pairs: "list[PhotoPair]") -> dict[str, Results]:
        """Evaluate every pair in every way, but for what is kept; the results by way and id."""
        found: dict[str, Results] = {way: {} for way in self.request.ways}
        for way in found:
            for pair in pairs:
                if kept := self._find(pair, way):
                    found[way][pair.id] = kept
        waiting = {way: [each for each in pairs if each.id not in found[way]] for way in found}
        if any(found.values()):
            count = sum(map(len, found.values()))
            console.info(f"{count} results of an interrupted run are used, and not computed again")
        with console.progress("evaluating", sum(map(len, waiting.values()))) as advance:
            try:
                for way, left in waiting.items():
                    for pair, result in zip(left, self._results(left, way), strict=True):
                        found[way][pair.id] = self._take(pair, way, result)
                        advance()
            except KeyboardInterrupt:
                self._say_what_is_kept(found)
                raise
        return found

    def _find(self, pair: "PhotoPair", way: str) -> "PairScores | None":
        from nps_cli.evaluation.resume import key_of

        if self.unfinished is None:
            return None
        picture = picture_name(pair.id, way) if self.folder else None
        return self.unfinished.find(key_of(pair, way), picture)

    def _results(self, pairs: "list[PhotoPair]", way: str) -> "Iterator[PairResult | Unusable]":
        from models.evaluation.evaluate import evaluate_pairs
        from nps_cli.evaluation.inputs import open_lpips

        if not pairs:
            return
        lpips = partial(open_lpips, self.request.choice.device) if self.has_lpips else None
        how = self.jobs, lpips, self.request.engine, self.gpus
        try:
            yield from evaluate_pairs(pairs, self.request.ways[way], self.request.config, *how)
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise NpsError(
                "Ray is not installed.", hint="pip install ray, or leave out --engine."
            ) from error

    def _take(
        self, pair: "PhotoPair", way: str, result: "PairResult | Unusable"
    ) -> "PairScores | Unusable":
        """Name what went wrong, and keep what went well."""
        from models.evaluation.evaluate import Unusable
        from nps_cli.evaluation.resume import key_of
        from nps_cli.formats.video import write_png

        if isinstance(result, Unusable):
            if way == USUAL:
                console.warning(f"{result.id} cannot be used: {result.reason}")
            return result
        scores = result.scores
        if scores.failure is not None:
            console.warning(f"{scores.id} failed: {scores.failure}")
        if self.folder is not None and result.picture is not None:
            folder = self.folder if self.unfinished is None else self.unfinished.pictures
            write_png(result.picture, folder / picture_name(pair.id, way))
        if self.unfinished is not None:
            self.unfinished.keep(key_of(pair, way), scores)
        worst = max(error.pose_deg for error in scores.poses)
        console.debug(f"{scores.id}: {scores.seconds:.1f} s, pose off by {worst:.1f} degrees")
        return scores

    def _say_what_is_kept(self, found: dict[str, Results]) -> None:
        if self.unfinished is not None:
            count = sum(map(len, found.values()))
            console.info(
                f"interrupted: {count} results are kept in {self.unfinished.folder}; "
                "the same command goes on from there"
            )


def picture_name(pair_id: str, way: str) -> str:
    """A tame name of a file; the way is in it unless it is the usual one."""
    name = re.sub(r"[^\w.-]", "_", pair_id)
    return f"{name}.{way}.png" if way else f"{name}.png"
