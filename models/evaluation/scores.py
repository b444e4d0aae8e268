"""The scores of an evaluation, pair by pair; reports write these fields."""

from dataclasses import dataclass

from models.metrics.errors import PoseError


@dataclass(frozen=True)
class ImageScore:
    """Distance of a rendering from the photo."""

    psnr: float
    ssim: float
    lpips: float | None = None  # None where the weights of LPIPS are missing


@dataclass(frozen=True)
class TargetScore:
    """Scores of a target, rendered at its true pose and at the pose that fits the scene best."""

    photo: str
    posed: ImageScore
    aligned: ImageScore | None  # None if alignment was not asked for


@dataclass(frozen=True)
class PartSeconds:
    """Wall time of the parts of a pair's evaluation; None where a part did not happen."""

    forward: float | None = None  # the network: encoder, decoders and heads
    refinement: float | None = None  # matching, and measuring depth
    render: float | None = None  # one rendering, of `size` pixels squared
    alignment: float | None = None  # of all targets


@dataclass(frozen=True)
class PairScores:
    """All scores of one pair, or triple."""

    id: str
    scene: str
    difficulty: str  # or, of a published list, the bin of its overlap
    low_parallax: bool
    failure: str | None  # why there is no reconstruction; all scores are then the worst
    problems: tuple[str, ...]  # of the reconstruction, in words
    seconds: float  # wall time of the reconstruction
    poses: tuple[PoseError, ...]  # of the second view and, in a triple, the third
    first_view: ImageScore | None  # rendered where the first photo was taken
    targets: tuple[TargetScore, ...]
    overlap: float | None = None  # as a published list states it
    parts: PartSeconds = PartSeconds()
