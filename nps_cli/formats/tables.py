"""The tables of an evaluation, for a terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from models.evaluation.scores import ImageScore, PairScores
from models.evaluation.summary import (
    OVERLAP_BINS,
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
PERCENTILE_COLUMNS = ("5 %", "25 %", "50 %", "75 %", "95 %")
DISTRIBUTIONS = {  # field of `Distribution` -> title
    "psnr": "PSNR of targets at the true pose, dB",
    "aligned_psnr": "PSNR of targets at the aligned pose, dB",
    "ssim": "SSIM of targets at the true pose",
    "aligned_ssim": "SSIM of targets at the aligned pose",
    "pose_deg": "Pose errors, degrees",
}
METRICS = ("psnr", "ssim", "lpips")
CSV_COLUMNS = (
    *("pair", "scene", "group", "overlap", "refined", "failure"),
    *("rotation_deg", "translation_deg", "pose_deg", "pose_folded_deg", "targets"),
    *(f"{view}_{metric}" for view in ("view1", "posed", "aligned") for metric in METRICS),
    *("seconds", "forward_seconds", "refinement_seconds", "render_seconds", "align_seconds"),
)


class Table(NamedTuple):
    """A table to print or write."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def overview(summaries: Sequence[Summary], *, pose: bool, views: bool) -> Table:
    """Return the main table: for every group, poses and PSNR / SSIM / LPIPS of views."""
    columns = ["group", "pairs", "failed"]
    columns += POSE_COLUMNS if pose else ()
    columns += VIEW_COLUMNS if views else ()
    rows = [_overview_row(summary, pose=pose, views=views) for summary in summaries]
    return Table("", [*columns, "seconds"], rows)


def details(evaluation: Evaluation) -> list[Table]:
    """Return all other tables: the paper's, distributions, worst pairs, times, pairs left out."""
    summaries = summarize(evaluation.scores)
    without_scenes = [each for each in summaries if not each.group.startswith("scene ")]
    tables = [
        *_tables_of_the_paper(summaries),
        *_distributions(without_scenes),
        _times(without_scenes),
    ]
    if evaluation.alone:
        alone = overview(summarize(evaluation.alone), pose=True, views=True)
        comparison = compare(evaluation.scores, evaluation.alone)
        tables += [alone._replace(title="The network alone"), _compared(comparison)]
    left_out = [(each.id, each.reason) for each in (*evaluation.skipped, *evaluation.unusable)]
    failed = [(each.id, each.failure) for each in evaluation.scores if each.failure is not None]
    for title, rows in (("Left out", left_out), ("Failed, and counted as wrong", failed)):
        if rows:
            tables.append(Table(title, ("pair", "reason"), rows))
    return tables


def count_used(evaluation: Evaluation) -> str:
    """Return how many pairs the numbers are of, in words."""
    total = len(evaluation.ids) + len(evaluation.skipped)
    return f"{len(evaluation.scores)} of {total} pairs used"


def as_markdown(evaluation: Evaluation, *, pose: bool, views: bool) -> str:
    """Return the report for people: data, weights and options, and all tables."""
    subject = evaluation.subject
    options = ", ".join(f"{name} {value}" for name, value in subject.options.items())
    lines = [
        "# Evaluation",
        "",
        f"- data: {subject.data} (sha256 {subject.data_sha256[:12]}), {count_used(evaluation)}",
        f"- weights: {subject.weights} (sha256 {subject.weights_sha256[:12]})",
        f"- options: {options}",
        f"- {evaluation.seconds:.0f} s with {evaluation.jobs} processes",
        "- views: PSNR in dB / SSIM / LPIPS; a dash where there is none, for LPIPS where its "
        "weights are not on this machine",
    ]
    summaries = summarize(evaluation.scores)
    for table in (overview(summaries, pose=pose, views=views), *details(evaluation)):
        lines += ["", *([f"## {table.title}", ""] if table.title else [])]
        lines += map(_markdown_row, (table.columns, ["---"] * len(table.columns), *table.rows))
    return "\n".join(lines) + "\n"


def as_csv(evaluation: Evaluation) -> str:
    """Return a row for every pair, with and without refinement."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    refined = bool(evaluation.subject.options.get("refine"))
    writer.writerows(_csv_row(score, refined) for score in evaluation.scores)
    writer.writerows(_csv_row(score, False) for score in evaluation.alone)
    return text.getvalue()


def _csv_row(score: PairScores, refined: bool) -> list[object]:
    views, parts = summarize([score])[0].views, score.parts
    worst = max(score.poses, key=lambda error: error.pose_deg)
    images = (views.first_view, views.posed, views.aligned) if views else (None, None, None)
    return [
        *(score.id, score.scene, score.difficulty, score.overlap, int(refined), score.failure),
        *(worst.rotation_deg, worst.translation_deg, worst.pose_deg, worst.pose_folded_deg),
        len(score.targets),
        *(getattr(image, metric, None) for image in images for metric in METRICS),
        *(score.seconds, parts.forward, parts.refinement, parts.render, parts.alignment),
    ]


def _overview_row(summary: Summary, *, pose: bool, views: bool) -> list[str]:
    row = [summary.group, str(summary.pairs), str(len(summary.failed))]
    if pose:
        poses = summary.pose
        row += [_auc(poses), _auc(summary.pose_without_low_parallax)]
        row += [_percents(poses.folded_auc5, poses.folded_auc10, poses.folded_auc20)]
        row += [f"{poses.median_deg:.1f} deg"]
    if views and summary.views is not None:
        of_views = summary.views
        images = (of_views.posed, of_views.aligned, of_views.first_view)
        row += [str(of_views.targets), *map(_image, images)]
    return [*row, f"{summary.median_seconds:.1f}"]


def _tables_of_the_paper(summaries: Sequence[Summary]) -> Iterable[Table]:
    """Yield tables 1 to 4 of the paper, if the data is a published list; means over pairs."""
    by_group = {each.group: each for each in summaries}
    if not by_group.keys() & {"small", "large"}:
        return
    rows = [by_group[group] for group in (*OVERLAP_BINS, "all") if group in by_group]
    labels = [("average" if row.group == "all" else row.group, str(row.pairs)) for row in rows]
    for title, field in (
        ("with pose alignment", "aligned_by_pair"),
        ("at the true poses", "posed_by_pair"),
    ):
        scores = [getattr(row.views, field, None) for row in rows]
        if any(scores):
            cells = [(*label, *_metrics(s)) for label, s in zip(labels, scores, strict=True)]
            columns = ("overlap", "pairs", "PSNR", "SSIM", "LPIPS")
            yield Table(f"View synthesis by overlap, {title}", columns, cells)
    aucs = [(r.pose.folded_auc5, r.pose.folded_auc10, r.pose.folded_auc20) for r in rows]
    cells = [
        (*label, *(f"{share:.3f}" for share in auc))
        for label, auc in zip(labels, aucs, strict=True)
    ]
    columns = ("overlap", "pairs", "AUC@5", "AUC@10", "AUC@20")
    yield Table("Relative poses, the translation's sign ignored", columns, cells)


def _distributions(summaries: Sequence[Summary]) -> Iterable[Table]:
    for field, title in DISTRIBUTIONS.items():
        rows = [
            [each.group, *_percentiles(percentiles)]
            for each in summaries
            if (percentiles := getattr(each.distribution, field))
        ]
        if rows:
            yield Table(f"{title}: percentiles", ("group", *PERCENTILE_COLUMNS), rows)
    worst = [(each.group, each.distribution) for each in summaries]
    yield Table(
        "The worst pairs",
        ("group", "views", "poses"),
        [
            (group, _named_values(of.worst_views, " dB"), _named_values(of.worst_poses, " deg"))
            for group, of in worst
        ],
    )


def _times(summaries: Sequence[Summary]) -> Table:
    columns = ("network forward", "refinement", "reconstruction", "a picture", "alignment")
    rows = []
    for each in summaries:
        parts = each.median_parts
        cells = (parts.forward, parts.refinement, each.median_seconds, parts.render)
        rows.append([each.group, *(_number(cell, ".2f") for cell in (*cells, parts.alignment))])
    return Table("Seconds a pair, medians", ("group", *columns), rows)


def _compared(comparison: Comparison) -> Table:
    percentiles = "/".join(_percentiles(comparison.psnr_gain))
    rows = [
        ["targets", str(comparison.targets)],
        ["better by more than 0.1 dB", str(comparison.better)],
        ["worse by more than 0.1 dB", str(comparison.worse)],
        ["mean change of PSNR, dB", _number(comparison.mean_psnr_gain, "+.2f")],
        ["mean change of SSIM", _number(comparison.mean_ssim_gain, "+.3f")],
        [f"change of PSNR, {'/'.join(PERCENTILE_COLUMNS)}", percentiles],
        ["poses better by more than a degree", str(comparison.poses_better)],
        ["poses worse by more than a degree", str(comparison.poses_worse)],
        ["pairs that it harms most", _named_values(comparison.most_harmed, " dB")],
    ]
    return Table("Refinement against the network alone", ("what", "result"), rows)


def _auc(pose: PoseSummary | None) -> str:
    return ABSENT if pose is None else _percents(pose.auc5, pose.auc10, pose.auc20)


def _percents(*shares: float) -> str:
    return "/".join(f"{100 * share:.0f}" for share in shares)


def _image(score: ImageScore | None) -> str:
    return ABSENT if score is None else " / ".join(_metrics(score))


def _metrics(score: ImageScore | None) -> list[str]:
    if score is None:
        return [ABSENT] * len(METRICS)
    return [f"{score.psnr:.2f}", f"{score.ssim:.3f}", _number(score.lpips, ".3f")]


def _percentiles(percentiles: Percentiles | None) -> list[str]:
    return [f"{value:.2f}" for value in vars(percentiles).values()] if percentiles else [ABSENT]


def _named_values(values: Sequence[tuple[str, float]], unit: str) -> str:
    return ", ".join(f"{name} {value:.1f}{unit}" for name, value in values) or ABSENT


def _number(value: float | None, form: str) -> str:
    return ABSENT if value is None else format(value, form)


def _markdown_row(cells: Sequence[str]) -> str:
    return (
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    )
