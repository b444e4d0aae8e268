"""Write, read and merge evaluation reports (JSON)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from json import loads
from pathlib import Path
from typing import Any

from models.evaluation.evaluate import Unusable
from models.evaluation.scores import ImageScore, PairScores, PartSeconds, TargetScore
from models.evaluation.summary import compare, summarize
from models.metrics.errors import PoseError
from nps_cli.errors import NpsError

FORMAT, VERSION = "nps-evaluation", 2
REFINED, ALONE = "pairs", "network_alone"  # where in the file the scores of either are


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
        document = loads(path.read_text(encoding="utf-8")) if path.suffix == ".json" else None
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def read_report(path: Path) -> Evaluation:
    """Read a report that `write_document` made.

    Raises:
        NpsError: If it is none, or of another version, or not whole.
    """
    if not is_report(path):
        raise NpsError(f"{path} is no report of an evaluation.", hint="Evaluate with -o FILE.json.")
    document = loads(path.read_text(encoding="utf-8"))
    if document.get("version") != VERSION:
        raise NpsError(
            f"{path} is a report of version {document.get('version')}, not {VERSION}.",
            hint="Evaluate again with this version of nps.",
        )
    try:
        subject = Subject(
            data=document["data"],
            data_sha256=document["data_sha256"],
            weights=document["weights"]["name"],
            weights_sha256=document["weights"]["sha256"],
            options=document["options"],
        )
        ids = tuple(document["ids"])
        left_out = [Unusable(**each) for each in document["left_out"]]
        return Evaluation(
            subject=subject,
            shard=(document["shard"][0], document["shard"][1]),
            ids=ids,
            scores=tuple(map(read_scores, document[REFINED])),
            alone=tuple(map(read_scores, document.get(ALONE, []))),
            unusable=tuple(each for each in left_out if each.id in ids),
            skipped=tuple(each for each in left_out if each.id not in ids),
            seconds=document["seconds"],
            jobs=document["jobs"],
        )
    except (KeyError, IndexError, TypeError) as error:
        raise NpsError(f"{path} is no whole report: {error}", hint="Evaluate again.") from error


def read_scores(values: dict[str, Any]) -> PairScores:
    """Return the scores of a pair from their JSON values."""

    def image(values: dict[str, Any] | None) -> ImageScore | None:
        return ImageScore(**values) if values else None

    return PairScores(
        **values
        | {
            "problems": tuple(values["problems"]),
            "poses": tuple(PoseError(**error) for error in values["poses"]),
            "first_view": image(values["first_view"]),
            "targets": tuple(
                TargetScore(each["photo"], ImageScore(**each["posed"]), image(each["aligned"]))
                for each in values["targets"]
            ),
            "parts": PartSeconds(**values["parts"]),
        }
    )


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
