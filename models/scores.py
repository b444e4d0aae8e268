"""The numbers that an evaluation yields, pair by pair and in groups."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.metrics import PoseError, pose_auc

DIFFICULTIES = ("easy", "medium", "hard", "wide")  # the order of their rows; others follow


@dataclass(frozen=True)
class ImageScore:
    """How close a rendering is to the photo."""

    psnr: float
    ssim: float


@dataclass(frozen=True)
class TargetScore:
    """One target photo, predicted at its true pose and at the pose that fits the scene best."""

    photo: str
    posed: ImageScore
    aligned: ImageScore | None  # None if alignment was not asked for


@dataclass(frozen=True)
class PairScores:
    """The row of numbers that one pair, or triple, yields."""

    id: str
    scene: str
    difficulty: str
    low_parallax: bool
    failure: str | None  # why there is no reconstruction; all scores are then the worst
    problems: tuple[str, ...]  # what the reconstruction says against itself
    seconds: float  # that the reconstruction took, wall time
    poses: tuple[PoseError, ...]  # of the second view and, in a triple, the third
    first_view: ImageScore | None  # the scene drawn where the first photo was taken
    targets: tuple[TargetScore, ...]


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
    """Means over pictures."""

    targets: int
    posed: ImageScore | None  # None where there are no targets
    aligned: ImageScore | None  # None where there are none, or none were aligned
    first_view: ImageScore


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


def summarize(scores: Sequence[PairScores]) -> list[Summary]:
    """Summarize all pairs, then by difficulty, by scene, and the triples on their own."""
    pairs = [score for score in scores if len(score.poses) == 1]
    triples = [score for score in scores if len(score.poses) > 1]
    groups = {"all": pairs}
    groups |= _grouped(pairs, lambda score: score.difficulty, DIFFICULTIES)
    groups |= _grouped(pairs, lambda score: f"scene {score.scene}")
    groups["three views"] = triples
    return [_summarize(name, members) for name, members in groups.items() if members]


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
    )


def _mean(images: Sequence[ImageScore | None]) -> ImageScore | None:
    known = [image for image in images if image is not None]
    if not known:
        return None
    return ImageScore(
        psnr=statistics.fmean(image.psnr for image in known),
        ssim=statistics.fmean(image.ssim for image in known),
    )
