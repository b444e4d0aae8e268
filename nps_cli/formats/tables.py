"""The tables of an evaluation, for a terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from models.evaluation.scores import ImageScore, PairScores
from models.evaluation.summary import (
    BINS,
    Comparison,
    Percentiles,
    PoseSummary,
    Summary,
    compare,
    summarize,
)
from nps_cli.formats.evaluation import Evaluation

ABSENT = "-"
POSE_COLUMNS = ("AUC@5/10/20", "without low parallax", "sign ignored", "median error")
VIEW_COLUMNS = ("targets", "at the true pose", "aligned", "view 1")
PERCENTILES = ("5 %", "25 %", "50 %", "75 %", "95 %")


class Table(NamedTuple):
    """What is printed or written as a table."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def overview(summaries: Sequence[Summary], *, pose: bool, views: bool) -> Table:
    """A row for every group: poses, and PSNR / SSIM / LPIPS of views."""
    columns = ["group", "pairs", "failed"]
    columns += POSE_COLUMNS if pose else ()
    columns += VIEW_COLUMNS if views else ()
    rows = [_row(summary, pose=pose, views=views) for summary in summaries]
    return Table("", [*columns, "seconds"], rows)


def details(evaluation: Evaluation) -> list[Table]:
    """The rest: the paper's layout, distributions, the worst, times, and what was left out."""
    summaries = summarize(evaluation.scores)
    tables = [*_as_in_the_paper(summaries), *_distributions(summaries), _times(summaries)]
    if evaluation.alone:
        alone = overview(summarize(evaluation.alone), pose=True, views=True)
        comparison = compare(evaluation.scores, evaluation.alone)
        tables += [alone._replace(title="The network alone"), _compared(comparison)]
    left_out = (*evaluation.skipped, *evaluation.unusable)
    if left_out:
        rows = [(each.id, each.reason) for each in left_out]
        tables.append(Table("Left out", ("pair", "reason"), rows))
    failed = [(each.id, each.failure) for each in evaluation.scores if each.failure is not None]
    if failed:
        tables.append(Table("Failed, and counted as wrong", ("pair", "reason"), failed))
    return tables


def used(evaluation: Evaluation) -> str:
    """How many pairs the numbers are of, in a few words."""
    total = len(evaluation.ids) + len(evaluation.skipped)
    return f"{len(evaluation.scores)} of {total} pairs used"


def as_markdown(evaluation: Evaluation, *, pose: bool, views: bool) -> str:
    """The whole report for people: what was evaluated, and all tables."""
    subject = evaluation.subject
    options = ", ".join(f"{name} {value}" for name, value in subject.options.items())
    lines = [
        "# Evaluation",
        "",
        f"- data: {subject.data} (sha256 {subject.data_sha256[:12]}), {used(evaluation)}",
        f"- weights: {subject.weights} (sha256 {subject.weights_sha256[:12]})",
        f"- options: {options}",
        f"- {evaluation.seconds:.0f} s with {evaluation.jobs} processes",
        "- views: PSNR in dB / SSIM / LPIPS; a dash where there is none, for LPIPS where its "
        "weights are not on this machine",
    ]
    summaries = summarize(evaluation.scores)
    for table in (overview(summaries, pose=pose, views=views), *details(evaluation)):
        lines += ["", *([f"## {table.title}", ""] if table.title else [])]
        lines += [_markdown_row(table.columns), _markdown_row(["---"] * len(table.columns))]
        lines += [_markdown_row(row) for row in table.rows]
    return "\n".join(lines) + "\n"


def as_csv(evaluation: Evaluation) -> str:
    """A row for every pair, and every way it was reconstructed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    refined = bool(evaluation.subject.options.get("refine"))
    for scores, kind in ((evaluation.scores, refined), (evaluation.alone, False)):
        for score in scores:
            writer.writerow(_csv_row(score, kind))
    return text.getvalue()


_KINDS = ("psnr", "ssim", "lpips")
_CSV_COLUMNS = (
    *("pair", "scene", "group", "overlap", "refined", "failure"),
    *("rotation_deg", "translation_deg", "pose_deg", "pose_folded_deg", "targets"),
    *(f"{view}_{kind}" for view in ("view1", "posed", "aligned") for kind in _KINDS),
    *("seconds", "forward_seconds", "refinement_seconds", "render_seconds", "align_seconds"),
)


def _csv_row(score: PairScores, refined: bool) -> list[object]:
    [summary] = summarize([score])[:1]
    views, parts = summary.views, score.parts
    worst = max(score.poses, key=lambda error: error.pose_deg)
    images = (views.first_view, views.posed, views.aligned) if views else (None, None, None)
    return [
        *(score.id, score.scene, score.difficulty, score.overlap, int(refined), score.failure),
        *(worst.rotation_deg, worst.translation_deg, worst.pose_deg, worst.pose_folded_deg),
        len(score.targets),
        *(getattr(image, kind, None) for image in images for kind in _KINDS),
        *(score.seconds, parts.forward, parts.refinement, parts.render, parts.alignment),
    ]


def _row(summary: Summary, *, pose: bool, views: bool) -> list[str]:
    row = [summary.group, str(summary.pairs), str(len(summary.failed))]
    if pose:
        found = summary.pose
        row += [_auc(found), _auc(summary.pose_without_low_parallax)]
        row += [_shares(found.folded_auc5, found.folded_auc10, found.folded_auc20)]
        row += [f"{found.median_deg:.1f} deg"]
    if views and summary.views is not None:
        seen = summary.views
        row += [str(seen.targets), *map(_image, (seen.posed, seen.aligned, seen.first_view))]
    return [*row, f"{summary.median_seconds:.1f}"]


def _as_in_the_paper(summaries: Sequence[Summary]) -> Iterable[Table]:
    """Tables 1, 2 and 4, and 3, if the data is a published list; means over pairs."""
    rows = [each for each in summaries if each.group in (*BINS, "all")]
    if not {each.group for each in rows} & {"small", "large"}:
        return
    rows.sort(key=lambda each: (*BINS, "all").index(each.group))
    columns = ("overlap", "pairs", "PSNR", "SSIM", "LPIPS")
    for title, aligned in (("with pose alignment", True), ("at the true poses", False)):
        found = [(each, _by_pair(each, aligned)) for each in rows]
        if any(score for _, score in found):
            cells = [[_named(each), str(each.pairs), *_three(score)] for each, score in found]
            yield Table(f"View synthesis by overlap, {title}", columns, cells)
    poses = []
    for each in rows:
        shares = each.pose.folded_auc5, each.pose.folded_auc10, each.pose.folded_auc20
        poses.append([_named(each), str(each.pairs), *(f"{share:.3f}" for share in shares)])
    columns = ("overlap", "pairs", "AUC@5", "AUC@10", "AUC@20")
    yield Table("Relative poses, the translation's sign ignored", columns, poses)


def _by_pair(summary: Summary, aligned: bool) -> ImageScore | None:
    if summary.views is None:
        return None
    return summary.views.aligned_by_pair if aligned else summary.views.posed_by_pair


def _named(summary: Summary) -> str:
    return "average" if summary.group == "all" else summary.group


def _distributions(summaries: Sequence[Summary]) -> Iterable[Table]:
    shown = [each for each in summaries if not each.group.startswith("scene ")]
    kinds = {
        "PSNR of targets at the true pose, dB": lambda each: each.distribution.psnr,
        "PSNR of targets at the aligned pose, dB": lambda each: each.distribution.aligned_psnr,
        "SSIM of targets at the true pose": lambda each: each.distribution.ssim,
        "SSIM of targets at the aligned pose": lambda each: each.distribution.aligned_ssim,
        "Pose errors, degrees": lambda each: each.distribution.pose_deg,
    }
    for title, of in kinds.items():
        rows = [[each.group, *_spread(of(each))] for each in shown if of(each)]
        if rows:
            yield Table(f"{title}: percentiles", ("group", *PERCENTILES), rows)
    rows = [
        [
            each.group,
            _list_worst(each.distribution.worst_views, " dB"),
            _list_worst(each.distribution.worst_poses, " deg"),
        ]
        for each in shown
    ]
    yield Table("The worst pairs", ("group", "views", "poses"), rows)


def _times(summaries: Sequence[Summary]) -> Table:
    rows = []
    for each in summaries:
        parts = each.median_parts
        if not each.group.startswith("scene "):
            cells = (parts.forward, parts.refinement, each.median_seconds, parts.render)
            rows.append([each.group, *map(_seconds, (*cells, parts.alignment))])
    columns = ("network forward", "refinement", "reconstruction", "a picture", "alignment")
    return Table("Seconds a pair, medians", ("group", *columns), rows)


def _compared(comparison: Comparison) -> Table:
    worse = _list_worst(comparison.most_harmed, " dB")
    rows = [
        ["targets", str(comparison.targets)],
        ["better by more than 0.1 dB", str(comparison.better)],
        ["worse by more than 0.1 dB", str(comparison.worse)],
        ["mean change of PSNR, dB", _signed(comparison.mean_psnr_gain, 2)],
        ["mean change of SSIM", _signed(comparison.mean_ssim_gain, 3)],
        [f"change of PSNR, {'/'.join(PERCENTILES)}", "/".join(_spread(comparison.psnr_gain))],
        ["poses better by more than a degree", str(comparison.poses_better)],
        ["poses worse by more than a degree", str(comparison.poses_worse)],
        ["pairs that it harms most", worse],
    ]
    return Table("Refinement against the network alone", ("what", "result"), rows)


def _auc(pose: PoseSummary | None) -> str:
    return ABSENT if pose is None else _shares(pose.auc5, pose.auc10, pose.auc20)


def _shares(*shares: float) -> str:
    return "/".join(f"{100 * share:.0f}" for share in shares)


def _image(score: ImageScore | None) -> str:
    return ABSENT if score is None else " / ".join(_three(score))


def _three(score: ImageScore | None) -> list[str]:
    if score is None:
        return [ABSENT] * 3
    distance = ABSENT if score.lpips is None else f"{score.lpips:.3f}"
    return [f"{score.psnr:.2f}", f"{score.ssim:.3f}", distance]


def _spread(percentiles: Percentiles | None) -> list[str]:
    return (
        [ABSENT]
        if percentiles is None
        else [f"{value:.2f}" for value in vars(percentiles).values()]
    )


def _list_worst(worst: Sequence[tuple[str, float]], unit: str) -> str:
    return ", ".join(f"{name} {value:.1f}{unit}" for name, value in worst) or ABSENT


def _seconds(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.2f}"


def _signed(value: float | None, digits: int) -> str:
    return ABSENT if value is None else f"{value:+.{digits}f}"


def _markdown_row(cells: Sequence[str]) -> str:
    return (
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    )
