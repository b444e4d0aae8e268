"""What an evaluation needs: data, and a reconstruction that takes the time of its parts."""

import time
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from torch import Tensor

    from models.data.pairs import PhotoPair
    from models.evaluation.evaluate import Unusable
    from models.evaluation.scores import PartSeconds
    from models.metrics.lpips import Lpips
    from models.options import Options
    from models.reconstruct import Networks
    from models.reconstruction import Reconstruction

IGNORED = "ignore"  # a bin of overlap
NAMED = 20  # bad entries that are named on stderr; the report has all of them
INDEX, PAIRS, SCANNET = "evaluation.json", "pairs.json", "test.npz"  # lists in a root


@dataclass(frozen=True)
class Data:
    """What is evaluated on."""

    pairs: "list[PhotoPair]"
    skipped: "tuple[Unusable, ...]"
    sha256: str  # of the list


def load_data(
    data: Path, index: Path | None, kind: str, context: int, triples: bool, limit: int | None
) -> Data:
    """Read a list of pairs, or what an index names in a data set's root; nothing is decoded yet.

    Args:
        data: A JSON list of pairs, or the root of a data set.
        index: The evaluation index of a data set; default: the list in its root.
        kind: Whose filters hold: a key of `models.data.settings.SETTINGS`.
        context: How many photos of a scene of the index are shown.
        triples: Whether to take entries with three photos from a list of pairs.
        limit: Take at most so many.
    """
    from models.data.benchmark import load_benchmark
    from models.data.pairs import load_pairs, spread_over_scenes
    from models.data.report import Report
    from models.data.scannet import load_scannet
    from models.data.settings import SETTINGS
    from models.evaluation.evaluate import Unusable

    if kind not in SETTINGS:
        raise NpsError(f"There is no kind of data {kind}.", hint=f"One of: {', '.join(SETTINGS)}.")
    listed, report = _find_list(data, index), Report()
    try:
        digest = sha256(listed.read_bytes()).hexdigest()
        if listed.name == SCANNET:
            pairs = load_scannet(data, report, limit)
        elif data.is_dir() and listed.name != PAIRS:
            pairs = load_benchmark(data, listed, SETTINGS[kind], report, context, limit)
            for pair in (each for each in pairs if each.difficulty == IGNORED):
                why = f"its overlap is {pair.overlap:.2f}; the published tables leave it out"
                report.skip("pair", pair.id, why)
            pairs = [pair for pair in pairs if pair.difficulty != IGNORED]
        else:
            every = load_pairs(listed, report)
            pairs = [pair for pair in every if triples or len(pair.views) == 2]
            pairs = spread_over_scenes(pairs, limit or len(pairs))
    except (OSError, ValueError) as error:
        raise NpsError(str(error), hint="`nps evaluate --help` says what it takes.") from error
    wrong = sorted(each for each in report.skipped if each.kind == "pair")
    if report.skipped:
        console.warning("\n".join(report.lines(NAMED)))
    if not pairs and not wrong:
        raise NpsError(f"{data} holds only triples.", hint="Take them too with --triples.")
    if not pairs:
        why = f"{wrong[0].where}: {wrong[0].why}"
        raise NpsError(f"No pair of {data} can be used. {why}", hint="Try: nps data check")
    return Data(pairs, tuple(Unusable(each.where, each.why) for each in wrong), digest)


def _find_list(data: Path, index: Path | None) -> Path:
    if index is not None or not data.is_dir():
        return index or data
    found = [data / name for name in (INDEX, PAIRS, SCANNET) if (data / name).is_file()]
    if not found:
        raise NpsError(
            f"{data} has no list of what to evaluate ({INDEX}, {PAIRS} or {SCANNET}).",
            hint="Name one with --index FILE.",
        )
    return found[0]


class TimedReconstruct:
    """What is evaluated; `parts` says how long its last run's parts took."""

    parts: "PartSeconds"

    def __init__(self, networks: "Networks", options: "Options") -> None:
        """Take what `models.reconstruct.reconstruct` wants."""
        self._networks, self._options = networks, options
        self._marks: list[float] = []
        networks.noposplat.register_forward_pre_hook(lambda *call: self._mark())
        networks.noposplat.register_forward_hook(lambda *call: self._mark())

    def __call__(self, photos: "list[Tensor]", intrinsics: "Tensor") -> "Reconstruction":
        """Reconstruct, and take the time."""
        import torch

        from models.evaluation.scores import PartSeconds
        from models.geometry.camera import Camera
        from models.geometry.views import View
        from models.reconstruct import reconstruct

        self._marks.clear()
        stages: list[float] = []
        views = [
            View(photo, Camera(matrix, torch.eye(4), (photo.shape[-2], photo.shape[-1])))
            for photo, matrix in zip(photos, intrinsics, strict=True)
        ]
        result = reconstruct(
            views, self._networks, self._options, lambda stage: stages.append(self._now())
        )
        stages.append(self._now())
        began, ended = self._marks
        predicting = next(
            later - earlier for earlier, later in pairwise(stages) if earlier <= began < later
        )
        refining = stages[-1] - stages[0] - predicting if self._networks.stereo else None
        self.parts = PartSeconds(forward=ended - began, refinement=refining)
        return result

    def _mark(self) -> None:
        self._marks.append(self._now())

    def _now(self) -> float:
        import torch

        if self._networks.device.type == "cuda":
            torch.cuda.synchronize(self._networks.device)
        return time.perf_counter()


def open_lpips(device: str) -> "Lpips | None":
    """The perceptual distance where it is needed, or None without its weights."""
    from nps_cli.device import pick_device
    from nps_cli.weights.lpips import find_lpips

    found = find_lpips()
    return found and found.to(pick_device(device))
