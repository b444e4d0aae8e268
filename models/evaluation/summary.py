"""What the numbers of many pairs come to: means, AUC, and how they are distributed."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from models.evaluation.scores import ImageScore, PairScores, PartSeconds, TargetScore
from models.metrics.errors import pose_auc

GROUPS = ("easy", "medium", "hard", "wide")  # the order of their rows; others follow
BINS = ("small", "medium", "large")  # the same, of a published list
THREE_VIEWS = "three views"
WORST = 5  # pairs that are named
SAME = 0.1  # decibels: below, two pictures are said to be equally good


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
    """Means over pictures; and, as in the paper's tables, over pairs of their pictures' means."""

    targets: int
    posed: ImageScore | None  # None where there are no targets
    aligned: ImageScore | None  # None where there are none, or none were aligned
    first_view: ImageScore
    posed_by_pair: ImageScore | None
    aligned_by_pair: ImageScore | None


@dataclass(frozen=True)
class Percentiles:
    """How numbers are distributed; between two of them, percentiles are interpolated."""

    p5: float
    p25: float
    p50: float
    p75: float
    p95: float


@dataclass(frozen=True)
class Distribution:
    """Of targets (None where there are none) and poses, and the pairs that are worst."""

    psnr: Percentiles | None
    ssim: Percentiles | None
    aligned_psnr: Percentiles | None
    aligned_ssim: Percentiles | None
    pose_deg: Percentiles | None
    worst_views: tuple[tuple[str, float], ...]  # ids and the mean PSNR of their targets
    worst_poses: tuple[tuple[str, float], ...]  # ids and their largest pose error in degrees


@dataclass(frozen=True)
class Summary:
    """A row of the table: everything about one group of pairs."""

    group: str
    pairs: int
    failed: tuple[str, ...]  # ids; they are in all the numbers
    pose: PoseSummary
    pose_without_low_parallax: PoseSummary | None  # None where all pairs have low parallax
    views: ViewSummary | None  # None if no views were drawn
    median_seconds: float
    median_parts: PartSeconds
    distribution: Distribution


@dataclass(frozen=True)
class Comparison:
    """What refinement changed, picture by picture and pose by pose: refined minus network alone."""

    targets: int
    better: int  # by more than `SAME` decibels
    worse: int
    psnr_gain: Percentiles | None  # None where there are no targets
    mean_psnr_gain: float | None
    mean_ssim_gain: float | None
    most_harmed: tuple[tuple[str, float], ...]  # ids and the mean change of their PSNR, if worse
    poses_better: int  # by more than a degree
    poses_worse: int


def summarize(scores: Sequence[PairScores]) -> list[Summary]:
    """Summarize all pairs, then by difficulty, by scene, and the triples on their own.

    A published list has bins of overlap instead, and no rows for scenes: it has thousands.
    """
    pairs = [score for score in scores if len(score.poses) == 1]
    triples = [score for score in scores if len(score.poses) > 1]
    listed = [score for score in triples if score.overlap is not None]
    own = [score for score in pairs if score.overlap is None]
    order = GROUPS if own else BINS
    groups = {"all": pairs}
    groups |= _grouped(pairs, lambda score: score.difficulty, order)
    groups |= _grouped(own, lambda score: f"scene {score.scene}")
    groups[THREE_VIEWS] = triples
    groups |= _grouped(
        listed,
        lambda score: f"{THREE_VIEWS}, {score.difficulty}",
        tuple(f"{THREE_VIEWS}, {name}" for name in BINS),
    )
    return [_summarize(name, members) for name, members in groups.items() if members]


def compare(refined: Sequence[PairScores], alone: Sequence[PairScores]) -> Comparison:
    """Compare the same pairs with and without refinement; at aligned poses where there are any."""
    partners = {score.id: score for score in alone}
    both = [(score, partners[score.id]) for score in refined if score.id in partners]
    gains, similarities, harm = [], [], []
    poses = []
    for with_it, without in both:
        images = [
            (_best_known(ours), _best_known(theirs))
            for ours, theirs in zip(with_it.targets, without.targets, strict=True)
        ]
        gain = [ours.psnr - theirs.psnr for ours, theirs in images]
        gains += gain
        similarities += [ours.ssim - theirs.ssim for ours, theirs in images]
        if gain and statistics.fmean(gain) < -SAME:
            harm.append((with_it.id, statistics.fmean(gain)))
        poses += [
            ours.pose_deg - theirs.pose_deg
            for ours, theirs in zip(with_it.poses, without.poses, strict=True)
        ]
    return Comparison(
        targets=len(gains),
        better=sum(gain > SAME for gain in gains),
        worse=sum(gain < -SAME for gain in gains),
        psnr_gain=_percentiles(gains),
        mean_psnr_gain=statistics.fmean(gains) if gains else None,
        mean_ssim_gain=statistics.fmean(similarities) if gains else None,
        most_harmed=tuple(sorted(harm, key=lambda named: named[1])[:WORST]),
        poses_better=sum(change < -1 for change in poses),
        poses_worse=sum(change > 1 for change in poses),
    )


def _best_known(target: TargetScore) -> ImageScore:
    return target.posed if target.aligned is None else target.aligned


def _grouped(
    scores: list[PairScores], key: Callable[[PairScores], str], first: tuple[str, ...] = ()
) -> dict[str, list[PairScores]]:
    """The scores by key: those of `first` in this order, then the others as they come."""
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
        median_parts=_median_parts([score.parts for score in scores]),
        distribution=_distribution(scores),
    )


def _summarize_poses(scores: list[PairScores]) -> PoseSummary:
    errors = [error.pose_deg for score in scores for error in score.poses]
    folded = [error.pose_folded_deg for score in scores for error in score.poses]
    return PoseSummary(
        poses=len(errors),
        auc5=pose_auc(errors, 5.0),
        auc10=pose_auc(errors, 10.0),
        auc20=pose_auc(errors, 20.0),
        folded_auc5=pose_auc(folded, 5.0),
        folded_auc10=pose_auc(folded, 10.0),
        folded_auc20=pose_auc(folded, 20.0),
        median_deg=statistics.median(errors),
    )


def _summarize_views(scores: list[PairScores]) -> ViewSummary | None:
    first_view = _mean([score.first_view for score in scores])
    if first_view is None:
        return None
    targets = [target for score in scores for target in score.targets]
    return ViewSummary(
        targets=len(targets),
        posed=_mean([target.posed for target in targets]),
        aligned=_mean([target.aligned for target in targets]),
        first_view=first_view,
        posed_by_pair=_mean([_mean([t.posed for t in score.targets]) for score in scores]),
        aligned_by_pair=_mean([_mean([t.aligned for t in score.targets]) for score in scores]),
    )


def _mean(images: Sequence[ImageScore | None]) -> ImageScore | None:
    """The mean of what is known; LPIPS only if all of that has it."""
    known = [image for image in images if image is not None]
    if not known:
        return None
    distances = [image.lpips for image in known if image.lpips is not None]
    return ImageScore(
        psnr=statistics.fmean(image.psnr for image in known),
        ssim=statistics.fmean(image.ssim for image in known),
        lpips=statistics.fmean(distances) if len(distances) == len(known) else None,
    )


def _median_parts(parts: list[PartSeconds]) -> PartSeconds:
    return PartSeconds(
        forward=_median([part.forward for part in parts]),
        refinement=_median([part.refinement for part in parts]),
        render=_median([part.render for part in parts]),
        alignment=_median([part.alignment for part in parts]),
    )


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _distribution(scores: list[PairScores]) -> Distribution:
    targets = [target for score in scores for target in score.targets]
    posed = [target.posed for target in targets]
    aligned = [target.aligned for target in targets if target.aligned is not None]
    views = [
        (score.id, statistics.fmean(_best_known(target).psnr for target in score.targets))
        for score in scores
        if score.targets
    ]
    poses = [(score.id, max(error.pose_deg for error in score.poses)) for score in scores]
    return Distribution(
        psnr=_percentiles([image.psnr for image in posed]),
        ssim=_percentiles([image.ssim for image in posed]),
        aligned_psnr=_percentiles([image.psnr for image in aligned]),
        aligned_ssim=_percentiles([image.ssim for image in aligned]),
        pose_deg=_percentiles([error.pose_deg for score in scores for error in score.poses]),
        worst_views=tuple(sorted(views, key=lambda named: named[1])[:WORST]),
        worst_poses=tuple(sorted(poses, key=lambda named: -named[1])[:WORST]),
    )


def _percentiles(values: list[float]) -> Percentiles | None:
    if not values:
        return None
    shares = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64)
    return Percentiles(*torch.tensor(values, dtype=torch.float64).quantile(shares).tolist())
