"""Settings of the published data sets: shapes, filters, and gaps between views."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class GapCurriculum:
    """The gap in frames between the first and the last context view, growing with the step."""

    first: tuple[int, int]  # lowest and highest at step 0
    last: tuple[int, int]  # and from step `steps` on
    steps: int = 9_375

    def at(self, step: int) -> tuple[int, int]:
        """Return the lowest and highest gap at a step, truncated toward the first."""
        share = min(step / self.steps, 1.0) if self.steps else 1.0
        low, high = (
            first + int((last - first) * share)
            for first, last in zip(self.first, self.last, strict=True)
        )
        return low, high


@dataclass(frozen=True)
class DataSettings:
    """The filters of a data set, and the gaps between its views."""

    gaps: GapCurriculum
    shape: tuple[int, int] | None = None  # (height, width) of every image; others are skipped
    max_fov_deg: float = 100.0  # of the uncropped image, in either direction
    baselines: tuple[float, float] = (1e-3, math.inf)  # between first and last context view
    move_center: bool = False  # the crop moves an off-center principal point; published: it stays

    def check_size(self, size: tuple[int, int]) -> None:
        """Refuse an image of another (height, width) with a ValueError."""
        if self.shape not in (None, size):
            height, width = self.shape or size
            raise ValueError(f"its image is {size[1]}x{size[0]}, not {width}x{height}")


_RE10K = GapCurriculum((25, 25), (45, 90))
_DL3DV = GapCurriculum((5, 7), (8, 22))
_SCANNETPP = GapCurriculum((5, 5), (5, 15))

SETTINGS = {  # from the published training code's configuration
    "re10k": DataSettings(_RE10K, (360, 640), baselines=(1e-3, 1e10)),
    "acid": DataSettings(_RE10K, (360, 640), baselines=(1e-3, 1e10)),
    "dl3dv": DataSettings(_DL3DV, (270, 480), baselines=(1e-3, 1e2)),
    "re10k-720p": DataSettings(_RE10K, (720, 1280), baselines=(1e-3, 1e10)),
    "dl3dv-960p": DataSettings(_DL3DV, (540, 960), baselines=(1e-3, 1e2)),
    "scannetpp": DataSettings(_SCANNETPP, max_fov_deg=120.0, baselines=(1e-3, 1e2)),
    "dtu": DataSettings(_SCANNETPP, baselines=(1e-3, 1e10)),
    "scannet": DataSettings(_SCANNETPP, max_fov_deg=120.0, baselines=(1e-3, 1e2)),
    # Anyone's own, as `nps data make` and `nps data convert` write them: of any shape.
    "own": DataSettings(GapCurriculum((1, 2), (1, 6)), max_fov_deg=120.0, move_center=True),
}
