"""Summarize the scores of many pairs: means, AUC, and distributions."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass

import torch

from models.evaluation.scores import ImageScore, PairScores, PartSeconds, TargetScore
from models.metrics.errors import pose_auc

DIFFICULTIES = ("easy", "medium", "hard", "wide")  # the order of their rows; others follow
OVERLAP_BINS = ("small", "medium", "large")  # the same, of a published list
THREE_VIEWS = "three views"
WORST_PAIRS = 5  # that are named
MIN_CHANGE_DB, MIN_CHANGE_DEG = 0.1, 1.0  # smaller changes are neither better nor worse


@dataclass(frozen=True)
class PoseSummary:
    """AUC, as shares of one, of pose errors up to 5, 10 and 20 degrees."""

    poses: int
    auc5: float
    auc10: float
    auc20: float
    folded_auc5: float  # the translation's sign ignored, as the paper's evaluation does
    folded_auc10: float
    folded_auc20: float
    median_deg: float


@dataclass(frozen=True)
class ViewSummary:
    """Means over images; and, as in the paper's tables, over pairs of the means of their images."""

    targets: int
    posed: ImageScore | None  # None where there are no targets
    aligned: ImageScore | None  # None where there are none, or none were aligned
    first_view: ImageScore
    posed_by_pair: ImageScore | None
    aligned_by_pair: ImageScore | None


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of a distribution, linearly interpolated."""

    p5: float
    p25: float
    p50: float
    p75: float
    p95: float


@dataclass(frozen=True)
class Distribution:
    """Distributions over targets (None where there are none) and poses, and the worst pairs."""

    psnr: Percentiles | None
    ssim: Percentiles | None
    aligned_psnr: Percentiles | None
    aligned_ssim: Percentiles | None
    pose_deg: Percentiles | None
    worst_views: tuple[tuple[str, float], ...]  # ids and the mean PSNR of their targets
    worst_poses: tuple[tuple[str, float], ...]  # ids and their largest pose error in degrees


@dataclass(frozen=True)
class Summary:
    """A row of the table: all the numbers of one group of pairs."""

    group: str
    pairs: int
    failed: tuple[str, ...]  # ids; they are in all the numbers
    pose: PoseSummary
    pose_without_low_parallax: PoseSummary | None  # None where all pairs have low parallax
    views: ViewSummary | None  # None if no views were rendered
    median_seconds: float
    median_parts: PartSeconds
    distribution: Distribution


@dataclass(frozen=True)
class Comparison:
    """Differences of image scores and pose errors: refined minus the network alone."""

    targets: int
    better: int  # by more than `MIN_CHANGE_DB`
    worse: int
    psnr_gain: Percentiles | None  # None where there are no targets
    mean_psnr_gain: float | None
    mean_ssim_gain: float | None
    most_harmed: tuple[tuple[str, float], ...]  # ids and the mean change of their PSNR, if worse
    poses_better: int  # by more than `MIN_CHANGE_DEG`
    poses_worse: int


def summarize(scores: Sequence[PairScores]) -> list[Summary]:
    """Summarize all pairs, then by difficulty, by scene, and the triples on their own.

    A published list has bins of overlap instead, and no rows for scenes: it has thousands.
    """
    pairs = [score for score in scores if len(score.poses) == 1]
    triples = [score for score in scores if len(score.poses) > 1]
    own = [score for score in pairs if score.overlap is None]
    groups = {"all": pairs}
    groups |= _group(pairs, lambda score: score.difficulty, DIFFICULTIES if own else OVERLAP_BINS)
    groups |= _group(own, lambda score: f"scene {score.scene}")
    groups[THREE_VIEWS] = triples
    published = [score for score in triples if score.overlap is not None]
    bins = _group(published, lambda score: score.difficulty, OVERLAP_BINS)
    groups |= {f"{THREE_VIEWS}, {name}": members for name, members in bins.items()}
    return [_summarize(name, members) for name, members in groups.items() if members]


def compare(refined: Sequence[PairScores], alone: Sequence[PairScores]) -> Comparison:
    """Compare the same pairs with and without refinement; at aligned poses where there are any."""
    unrefined = {score.id: score for score in alone}
    psnr_gains, ssim_gains, pose_changes, harmed = [], [], [], []
    for score in refined:
        if (other := unrefined.get(score.id)) is None:
            continue
        targets = zip(score.targets, other.targets, strict=True)
        images = [(_final_score(one), _final_score(two)) for one, two in targets]
        gains = [one.psnr - two.psnr for one, two in images]
        if gains and (mean := statistics.fmean(gains)) < -MIN_CHANGE_DB:
            harmed.append((score.id, mean))
        psnr_gains += gains
        ssim_gains += [one.ssim - two.ssim for one, two in images]
        errors = zip(score.poses, other.poses, strict=True)
        pose_changes += [one.pose_deg - two.pose_deg for one, two in errors]
    return Comparison(
        targets=len(psnr_gains),
        better=sum(gain > MIN_CHANGE_DB for gain in psnr_gains),
        worse=sum(gain < -MIN_CHANGE_DB for gain in psnr_gains),
        psnr_gain=_percentiles(psnr_gains),
        mean_psnr_gain=statistics.fmean(psnr_gains) if psnr_gains else None,
        mean_ssim_gain=statistics.fmean(ssim_gains) if ssim_gains else None,
        most_harmed=_worst(harmed),
        poses_better=sum(change < -MIN_CHANGE_DEG for change in pose_changes),
        poses_worse=sum(change > MIN_CHANGE_DEG for change in pose_changes),
    )


def _final_score(target: TargetScore) -> ImageScore:
    return target.aligned or target.posed


def _group(
    scores: list[PairScores], key: Callable[[PairScores], str], first: tuple[str, ...] = ()
) -> dict[str, list[PairScores]]:
    """Group scores by key: those of `first` in this order, then the others as they come."""
    groups: dict[str, list[PairScores]] = {name: [] for name in first}
    for score in scores:
        groups.setdefault(key(score), []).append(score)
    return groups


def _summarize(group: str, scores: list[PairScores]) -> Summary:
    clear = [score for score in scores if not score.low_parallax]
    return Summary(
        group=group,
        pairs=len(scores),
        failed=tuple(score.id for score in scores if score.failure is not None),
        pose=_summarize_poses(scores),
        pose_without_low_parallax=_summarize_poses(clear) if clear else None,
        views=_summarize_views(scores),
        median_seconds=statistics.median(score.seconds for score in scores),
        median_parts=PartSeconds(
            *map(_median, zip(*(astuple(score.parts) for score in scores), strict=True))
        ),
        distribution=_distribution(scores),
    )


def _summarize_poses(scores: list[PairScores]) -> PoseSummary:
    errors = [error.pose_deg for score in scores for error in score.poses]
    folded = [error.pose_folded_deg for score in scores for error in score.poses]
    aucs = [pose_auc(each, limit) for each in (errors, folded) for limit in (5.0, 10.0, 20.0)]
    return PoseSummary(len(errors), *[*aucs, statistics.median(errors)])


def _summarize_views(scores: list[PairScores]) -> ViewSummary | None:
    first_view = _mean(score.first_view for score in scores)
    if first_view is None:
        return None
    targets = [target for score in scores for target in score.targets]
    return ViewSummary(
        targets=len(targets),
        posed=_mean(target.posed for target in targets),
        aligned=_mean(target.aligned for target in targets),
        first_view=first_view,
        posed_by_pair=_mean(_mean(each.posed for each in score.targets) for score in scores),
        aligned_by_pair=_mean(_mean(each.aligned for each in score.targets) for score in scores),
    )


def _mean(images: Iterable[ImageScore | None]) -> ImageScore | None:
    """Average the known scores; LPIPS only if all of them have it."""
    known = [image for image in images if image is not None]
    if not known:
        return None
    distances = [image.lpips for image in known if image.lpips is not None]
    return ImageScore(
        psnr=statistics.fmean(image.psnr for image in known),
        ssim=statistics.fmean(image.ssim for image in known),
        lpips=statistics.fmean(distances) if len(distances) == len(known) else None,
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _distribution(scores: list[PairScores]) -> Distribution:
    targets = [target for score in scores for target in score.targets]
    aligned = [target.aligned for target in targets if target.aligned is not None]
    views = [
        (score.id, statistics.fmean(_final_score(target).psnr for target in score.targets))
        for score in scores
        if score.targets
    ]
    poses = [(score.id, max(error.pose_deg for error in score.poses)) for score in scores]
    return Distribution(
        psnr=_percentiles([target.posed.psnr for target in targets]),
        ssim=_percentiles([target.posed.ssim for target in targets]),
        aligned_psnr=_percentiles([image.psnr for image in aligned]),
        aligned_ssim=_percentiles([image.ssim for image in aligned]),
        pose_deg=_percentiles([error.pose_deg for score in scores for error in score.poses]),
        worst_views=_worst(views),
        worst_poses=_worst(poses, sign=-1),
    )


def _worst(values: list[tuple[str, float]], sign: int = 1) -> tuple[tuple[str, float], ...]:
    """Return the lowest values with their names; with `sign` -1, the highest."""
    return tuple(sorted(values, key=lambda named: sign * named[1])[:WORST_PAIRS])


def _percentiles(values: list[float]) -> Percentiles | None:
    if not values:
        return None
    shares = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    return Percentiles(*torch.tensor(values, dtype=torch.float64).quantile(shares).tolist())
