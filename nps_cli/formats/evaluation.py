"""Write, read and merge evaluation reports (JSON)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from reprlib import repr as shortened
from typing import Any

from models.evaluation.evaluate import Unusable
from models.evaluation.scores import PairScores
from models.evaluation.summary import compare, summarize
from models.files.json_reader import convert, read_json
from nps_cli.errors import NpsError

FORMAT, VERSION = "nps-evaluation", 2
REFINED, ALONE = "pairs", "network_alone"  # where in the file the scores of either are
MAX_SHARDS, MAX_SCORE = 100_000, 1e9


@dataclass(frozen=True)
class Subject:
    """Data, weights and options of an evaluation: equal in reports that may be merged."""

    data: str
    data_sha256: str  # of the list
    weights: str
    weights_sha256: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """The contents of a report."""

    subject: Subject
    shard: tuple[int, int]  # which of how many; (1, 1) is all
    ids: tuple[str, ...]  # of the pairs of this shard, in their order
    scores: tuple[PairScores, ...]  # of those that could be used
    alone: tuple[PairScores, ...]  # the same without refinement, if that was asked for too
    unusable: tuple[Unusable, ...]
    skipped: tuple[Unusable, ...]  # entries of the list that are wrong in themselves
    seconds: float
    jobs: int


def write_document(evaluation: Evaluation) -> dict[str, Any]:
    """Return the report as JSON values."""
    subject, left_out = evaluation.subject, (*evaluation.skipped, *evaluation.unusable)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "data": subject.data,
        "data_sha256": subject.data_sha256,
        "weights": {"name": subject.weights, "sha256": subject.weights_sha256},
        "options": subject.options,
        "shard": list(evaluation.shard),
        "ids": list(evaluation.ids),
        "used": len(evaluation.scores),
        "of": len(evaluation.ids) + len(evaluation.skipped),
        "left_out": [asdict(each) for each in left_out],
        "seconds": round(evaluation.seconds, 1),
        "jobs": evaluation.jobs,
        "summary": [asdict(summary) for summary in summarize(evaluation.scores)],
        REFINED: [asdict(score) for score in evaluation.scores],
    }
    if evaluation.alone:
        document["summary_network_alone"] = [asdict(each) for each in summarize(evaluation.alone)]
        document["comparison"] = asdict(compare(evaluation.scores, evaluation.alone))
        document[ALONE] = [asdict(score) for score in evaluation.alone]
    return document


def is_report(path: Path) -> bool:
    """Tell if a file is an evaluation report, of whatever version."""
    try:
        document = read_json(path) if path.suffix == ".json" else None
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


@dataclass(frozen=True)
class _Weights:
    name: str
    sha256: str


@dataclass(frozen=True)
class _Document:
    """The fields of a report that are read back, the others being computed from them."""

    data: str
    data_sha256: str
    weights: _Weights
    options: dict[str, Any]
    shard: tuple[int, int]
    ids: tuple[str, ...]
    left_out: tuple[Unusable, ...]
    seconds: float
    jobs: int
    pairs: tuple[PairScores, ...]
    network_alone: tuple[PairScores, ...] = ()


def read_report(path: Path) -> Evaluation:
    """Read a report that `write_document` made.

    Raises:
        NpsError: If it is none, or of another version, or not whole.
    """
    try:
        document = read_json(path)
    except ValueError as error:
        raise NpsError(f"{error}.", hint="Evaluate with -o FILE.json.") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise NpsError(f"{path} is no report of an evaluation.", hint="Evaluate with -o FILE.json.")
    if document.get("version") != VERSION:
        raise NpsError(
            f"{path} is a report of version {shortened(document.get('version'))}, not {VERSION}.",
            hint="Evaluate again with this version of nps.",
        )
    try:
        return _parse(document)
    except ValueError as error:
        raise NpsError(f"{path} is no whole report: {error}", hint="Evaluate again.") from error


def read_scores(values: dict[str, Any]) -> PairScores:
    """Return the scores of a pair from their JSON values. Raises ValueError."""
    if not _are_usual(values):
        raise ValueError("a score is far too large")
    return convert(values, PairScores)


def _parse(document: dict[str, Any]) -> Evaluation:
    found = convert(document, _Document)
    number, count = found.shard
    if not 1 <= number <= count <= MAX_SHARDS:
        raise ValueError(f"its shard is {number}/{count}")
    if not _are_usual([document[REFINED], document.get(ALONE), found.seconds]):
        raise ValueError("a score is far too large")
    ids = set(found.ids)
    unusable = tuple(each for each in found.left_out if each.id in ids)
    used = [pair.id for pair in found.pairs]
    known = [*used, *(each.id for each in unusable)]
    if len(ids) != len(found.ids) or sorted(known) != sorted(ids):
        raise ValueError("its ids are not those of its pairs")
    if found.network_alone and [pair.id for pair in found.network_alone] != used:
        raise ValueError("the pairs of the network alone are others")
    return Evaluation(
        subject=Subject(
            data=found.data,
            data_sha256=found.data_sha256,
            weights=found.weights.name,
            weights_sha256=found.weights.sha256,
            options=found.options,
        ),
        shard=found.shard,
        ids=found.ids,
        scores=found.pairs,
        alone=found.network_alone,
        unusable=unusable,
        skipped=tuple(each for each in found.left_out if each.id not in ids),
        seconds=found.seconds,
        jobs=found.jobs,
    )


def _are_usual(value: Any) -> bool:
    """Return True if all numbers in JSON values are small enough to compute with."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return all(map(_are_usual, value))
    return not isinstance(value, int | float) or abs(value) <= MAX_SCORE


def merge(reports: Sequence[tuple[Path, Evaluation]]) -> Evaluation:
    """Make one report of the shards of an evaluation: the one that a single run would write.

    Its seconds are the sum.

    Raises:
        NpsError: If they are not all shards, once each, of one evaluation.
    """
    first_path, first = reports[0]
    for path, report in reports:
        for name, value in asdict(first.subject).items():
            if name != "data" and getattr(report.subject, name) != value:
                raise NpsError(
                    f"{path} and {first_path} differ in {name}: "
                    f"{getattr(report.subject, name)} and {value}.",
                    hint="Merge reports of one command line, apart from --shard.",
                )
    count = first.shard[1]
    shards = {report.shard: report for _, report in reports}
    missing = [f"{each}/{count}" for each in range(1, count + 1) if (each, count) not in shards]
    if missing or len(shards) != len(reports) or len(reports) != count:
        raise NpsError(
            f"These are not the {count} shards of one evaluation, once each"
            + (f": {', '.join(missing)} missing." if missing else "."),
            hint="Run what is missing with --shard, then merge all of them.",
        )
    ordered = [shards[each, count] for each in range(1, count + 1)]
    longest = max(len(report.ids) for report in ordered)
    ids = [report.ids[row] for row in range(longest) for report in ordered if row < len(report.ids)]
    place = {name: number for number, name in enumerate(ids)}

    def gather(field: str) -> tuple[Any, ...]:
        entries = [each for report in ordered for each in getattr(report, field)]
        return tuple(sorted(entries, key=lambda each: place[each.id]))

    return replace(
        first,
        shard=(1, 1),
        ids=tuple(ids),
        scores=gather("scores"),
        alone=gather("alone"),
        unusable=gather("unusable"),
        seconds=sum(report.seconds for report in ordered),
    )
