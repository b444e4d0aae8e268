import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from models.evaluation.evaluate import Unusable
from models.evaluation.scores import ImageScore, PairScores, PartSeconds, TargetScore
from models.metrics.errors import PoseError
from nps_cli.errors import NpsError
from nps_cli.formats import tables
from nps_cli.formats.evaluation import (
    Evaluation,
    Subject,
    is_report,
    merge,
    read_report,
    write_document,
)

SUBJECT = Subject("pairs.json", "d" * 64, "tiny", "0" * 64, {"refine": True, "size": 256})
BIN_OF = ("small", "medium", "large", "medium")


def scores_of(number: int) -> PairScores:
    posed = ImageScore(20.0 + number, 0.5 + number / 100)
    return PairScores(
        id=f"p{number}",
        scene=f"p{number}",
        difficulty=BIN_OF[number % 4],
        low_parallax=False,
        failure="ValueError: no | pose" if number == 4 else None,
        problems=("flat",),
        seconds=1.5,
        poses=(PoseError(number / 2, float(number), float(number)),),
        first_view=ImageScore(30.0, 0.9, 0.1),
        targets=(TargetScore("t.png", posed, ImageScore(21.0 + number, 0.6)),),
        overlap=0.2,
        parts=PartSeconds(forward=0.25, refinement=1.0, render=0.125, alignment=3.0),
    )


def without_alignment(score: PairScores) -> PairScores:
    return replace(score, targets=tuple(replace(each, aligned=None) for each in score.targets))


def evaluation_of(numbers: range, shard: tuple[int, int] = (1, 1), **changes) -> Evaluation:
    lost = tuple(Unusable(f"p{number}", "it is gone") for number in numbers if number == 3)
    scores = tuple(scores_of(number) for number in numbers if number != 3)
    usual = Evaluation(
        subject=SUBJECT,
        shard=shard,
        ids=tuple(f"p{number}" for number in numbers),
        scores=scores,
        alone=tuple(without_alignment(score) for score in scores),
        unusable=lost,
        skipped=(Unusable("entry 9 (x)", "has no 'K'"),),
        seconds=2.0,
        jobs=1,
    )
    return replace(usual, **changes)


def test_what_is_written_is_what_is_read(tmp_path):
    evaluation = evaluation_of(range(6))
    path = tmp_path / "report.json"
    path.write_text(json.dumps(write_document(evaluation)))
    assert is_report(path)
    assert read_report(path) == evaluation


def test_the_document_says_how_many_of_how_many_and_why_not_the_others():
    document = write_document(evaluation_of(range(6)))
    assert (document["used"], document["of"]) == (5, 7)
    assert [each["reason"] for each in document["left_out"]] == ["has no 'K'", "it is gone"]


def test_a_report_of_another_version_is_refused(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"format": "nps-evaluation", "version": 1}))
    with pytest.raises(NpsError, match="version 1, not 2"):
        read_report(path)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_shards_merge_to_what_one_run_would_report(count: int):
    whole = evaluation_of(range(7))
    shards = [evaluation_of(range(7)[first::count], (first + 1, count)) for first in range(count)]
    merged = merge([(Path(f"{each.shard[0]}.json"), each) for each in reversed(shards)])
    assert merged.seconds == 2 * count
    assert write_document(replace(merged, seconds=2.0)) == write_document(whole)


def test_a_missing_shard_and_one_given_twice_are_refused():
    first, second = (evaluation_of(range(each, 7, 3), (each + 1, 3)) for each in range(2))
    with pytest.raises(NpsError, match="3/3 missing"):
        merge([(Path("a"), first), (Path("b"), second)])
    with pytest.raises(NpsError, match="once each"):
        merge([(Path("a"), first), (Path("b"), second), (Path("c"), second)])


def test_reports_of_different_weights_or_options_are_not_merged():
    first = evaluation_of(range(0, 7, 2), (1, 2))
    for change in ({"weights_sha256": "1" * 64}, {"options": {"refine": True, "size": 512}}):
        second = evaluation_of(range(1, 7, 2), (2, 2), subject=replace(SUBJECT, **change))
        with pytest.raises(NpsError, match=f"differ in {next(iter(change))}"):
            merge([(Path("a"), first), (Path("b"), second)])


def test_reports_from_another_folder_are_merged():
    first, second = (evaluation_of(range(each, 7, 2), (each + 1, 2)) for each in range(2))
    moved = replace(second, subject=replace(SUBJECT, data="/elsewhere/pairs.json"))
    assert merge([(Path("a"), first), (Path("b"), moved)]).ids == evaluation_of(range(7)).ids


def test_csv_has_a_row_for_every_pair_and_way():
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(evaluation_of(range(3))))))
    assert [(row["pair"], row["refined"]) for row in rows] == [
        *(("p0", "1"), ("p1", "1"), ("p2", "1")),
        *(("p0", "0"), ("p1", "0"), ("p2", "0")),
    ]
    assert float(rows[1]["posed_psnr"]) == 21
    assert float(rows[1]["aligned_psnr"]) == 22
    assert rows[1]["posed_lpips"] == "" and float(rows[1]["view1_lpips"]) == 0.1
    assert float(rows[2]["pose_deg"]) == 2
    assert (rows[4]["posed_psnr"], rows[4]["aligned_psnr"]) == ("21.0", "")


def test_markdown_has_the_papers_tables_and_escapes_what_would_break_them():
    text = tables.as_markdown(evaluation_of(range(5)), pose=True, views=True)
    paper = text.split("## View synthesis by overlap, with pose alignment\n")[1].split("##")[0]
    assert [line.split(" | ")[0] for line in paper.strip().splitlines()[2:]] == [
        *("| small", "| medium", "| large", "| average")
    ]
    assert "| small | 2 | 23.00 | 0.600 | - |" in paper  # of pairs 0 and 4: 21 and 25 dB
    assert "| average | 4 | 22.75 | 0.600 | - |" in paper
    poses = text.split("sign ignored\n")[1].split("##")[0]
    assert "| large | 1 | 0.800 |" in poses  # one error of 2 degrees: (2 / 2 + 3) / 5
    assert "no \\| pose" in text
    assert "4 of 6 pairs used" in text


def set_in(document: dict, place: str, value: object) -> None:
    *parents, last = place.split(".")
    for name in parents:
        document = document[int(name) if name.isdigit() else name]
    document[last] = value


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("ids", ["p0", "p1"]),
        ("ids", 3),
        ("shard", [1, 2**60]),
        ("shard", [0, 0]),
        ("shard", [1]),
        ("weights", "tiny"),
        ("seconds", "long"),
        ("pairs", {}),
        ("pairs.0.id", "other"),
        ("pairs.0.difficulty", []),
        ("pairs.0.poses.0.rotation_deg", [1]),
        ("pairs.0.poses.0.rotation_deg", 1e300),
        ("pairs.0.targets.0.posed.ssim", None),
        ("pairs.0.first_view", 1),
        ("network_alone.0.id", "p1"),
        ("left_out", [{"id": 1, "reason": "x"}]),
        ("options", []),
    ],
)
def test_a_damaged_report_is_refused_in_a_sentence(tmp_path, place: str, value: object):
    document = json.loads(json.dumps(write_document(evaluation_of(range(6)))))
    set_in(document, place, value)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    with pytest.raises(NpsError, match="no whole report"):
        read_report(path)


@pytest.mark.parametrize("value", ["NaN", "1e400", "1" + "0" * 5000, "[" * 9999, '"\\ud800"'])
def test_what_no_json_reader_takes_is_told_from_a_report(tmp_path, value: str):
    path = tmp_path / "report.json"
    path.write_text('{"format": "nps-evaluation", "version": 2, "x": ' + value + "}")
    assert not is_report(path)
    with pytest.raises(NpsError, match=r"report\.json is not JSON"):
        read_report(path)
