"""The numbers that an evaluation yields, pair by pair."""

from dataclasses import dataclass

from models.metrics.errors import PoseError


@dataclass(frozen=True)
class ImageScore:
    """How close a rendering is to the photo."""

    psnr: float
    ssim: float
    lpips: float | None = None  # None where the weights of LPIPS are missing


@dataclass(frozen=True)
class TargetScore:
    """One target photo, predicted at its true pose and at the pose that fits the scene best."""

    photo: str
    posed: ImageScore
    aligned: ImageScore | None  # None if alignment was not asked for


@dataclass(frozen=True)
class PartSeconds:
    """Wall time of the parts of a pair's evaluation; None where a part did not happen."""

    forward: float | None = None  # the network: encoder, decoders and heads
    refinement: float | None = None  # matching, and measuring depth
    render: float | None = None  # one picture, of `size` pixels squared
    alignment: float | None = None  # of all targets


@dataclass(frozen=True)
class PairScores:
    """The row of numbers that one pair, or triple, yields."""

    id: str
    scene: str
    difficulty: str  # or, of a published list, the bin of its overlap
    low_parallax: bool
    failure: str | None  # why there is no reconstruction; all scores are then the worst
    problems: tuple[str, ...]  # what the reconstruction says against itself
    seconds: float  # that the reconstruction took, wall time
    poses: tuple[PoseError, ...]  # of the second view and, in a triple, the third
    first_view: ImageScore | None  # the scene drawn where the first photo was taken
    targets: tuple[TargetScore, ...]
    overlap: float | None = None  # as a published list states it
    parts: PartSeconds = PartSeconds()
