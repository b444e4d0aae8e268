"""The inputs of an evaluation: pairs of photos, and a reconstruction that is timed."""

import time
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.data.pairs import PhotoPair
    from models.evaluation.evaluate import Unusable
    from models.evaluation.scores import PartSeconds
    from models.geometry.views import View
    from models.metrics.lpips import Lpips
    from models.options import Options
    from models.reconstruction import Networks, Reconstruction

IGNORED = "ignore"  # a bin of overlap
MAX_NAMED = 20  # bad entries that are named on stderr; the report has all of them
INDEX, PAIRS, SCANNET = "evaluation.json", "pairs.json", "test.npz"  # lists in a root


@dataclass(frozen=True)
class Data:
    """The pairs of a shard, those skipped in the whole list, and the list's name and hash.

    `files` are the list and all photos on it, or the chunks that hold them.
    """

    name: str
    pairs: "list[PhotoPair]"
    skipped: "tuple[Unusable, ...]"
    sha256: str
    shard: tuple[int, int]
    files: tuple[Path, ...]


def load_data(
    path: Path,
    *,
    index: Path | None,
    kind: str,
    context: int,
    triples: bool,
    limit: int | None,
    shard: tuple[int, int],
) -> Data:
    """Read a list of pairs, or what an index names in a data set's root; decode nothing yet.

    Args:
        path: A JSON list of pairs, or the root of a data set.
        index: The evaluation index of a data set; default: the list in its root.
        kind: Whose filters hold: a key of `models.data.settings.SETTINGS`.
        context: How many photos of a scene of the index are shown.
        triples: Take entries with three photos from a list of pairs.
        limit: Take at most so many.
        shard: Take the first number's share of these, of as many shares as the second.

    Raises:
        NpsError: If there is no such list, or no pair in it that can be used.
    """
    from models.data.benchmark import load_benchmark
    from models.data.pairs import load_pairs, spread_over_scenes
    from models.data.report import Report
    from models.data.scannet import load_scannet
    from models.data.settings import SETTINGS
    from models.evaluation.evaluate import Unusable
    from models.files.regular import read_regular

    data = path.resolve()
    if kind not in SETTINGS:
        kinds = ", ".join(SETTINGS)
        raise NpsError(f"There is no kind of data {kind}.", hint=f"One of: {kinds}.")
    listed, report = _find_list(data, index), Report()
    try:
        digest = sha256(read_regular(listed)).hexdigest()
        if listed.name == SCANNET:
            pairs = load_scannet(data, report, limit)
        elif data.is_dir() and listed.name != PAIRS:
            settings = SETTINGS[kind]
            pairs = load_benchmark(data, listed, settings, report, context, limit)
            for pair in (each for each in pairs if each.difficulty == IGNORED):
                reason = f"its overlap is {pair.overlap:.2f}; the published tables leave it out"
                report.skip("pair", pair.id, reason)
            pairs = [pair for pair in pairs if pair.difficulty != IGNORED]
        else:
            loaded = load_pairs(listed, report)
            pairs = [pair for pair in loaded if triples or len(pair.views) == 2]
            pairs = spread_over_scenes(pairs, limit or len(pairs))
    except (OSError, ValueError) as error:
        raise NpsError(str(error), hint="`nps evaluate --help` says what it takes.") from error
    wrong = sorted(each for each in report.skipped if each.kind == "pair")
    if report.skipped:
        for line in report.lines(MAX_NAMED):
            console.warning(line)
    if not pairs and not wrong:
        raise NpsError(f"{data} holds only triples.", hint="Take them too with --triples.")
    if not pairs:
        reason = f"{wrong[0].where}: {wrong[0].why}"
        raise NpsError(f"No pair of {data} can be used. {reason}", hint="Try: nps data check")
    number, count = shard
    if number > len(pairs):
        raise NpsError(
            f"There are only {len(pairs)} pairs.", hint=f"Use fewer than {count} shards."
        )
    skipped = tuple(Unusable(each.where, each.why) for each in wrong)
    photos = {photo.path for pair in pairs for photo in (*pair.views, *pair.targets)}
    files = (listed, *sorted(photos))
    return Data(str(path), pairs[number - 1 :: count], skipped, digest, shard, files)


def _find_list(data: Path, index: Path | None) -> Path:
    if index is not None or not data.is_dir():
        from nps_cli.formats.evaluation import is_report

        if is_report(index or data):
            hint = "Merge reports with: nps evaluate merge REPORT..."
            raise NpsError(f"{data} is a report, not a list of pairs.", hint=hint)
        return index or data
    found = [data / name for name in (INDEX, PAIRS, SCANNET) if (data / name).is_file()]
    if not found:
        raise NpsError(
            f"{data} has no list of what to evaluate ({INDEX}, {PAIRS} or {SCANNET}).",
            hint="Name one with --index FILE.",
        )
    return found[0]


class TimedReconstruct:
    """A reconstruction with the seconds of its last run's parts in `parts`."""

    parts: "PartSeconds"

    def __init__(self, networks: "Networks", options: "Options") -> None:
        """Take the networks and options of `models.reconstruct.reconstruct`."""
        self._networks, self._options = networks, options
        self._marks: list[float] = []
        networks.noposplat.register_forward_pre_hook(lambda *call: self._mark())
        networks.noposplat.register_forward_hook(lambda *call: self._mark())

    def __call__(self, views: "list[View]") -> "Reconstruction":
        """Reconstruct, and set `parts`."""
        from models.evaluation.scores import PartSeconds
        from models.reconstruct import reconstruct

        self._marks.clear()
        stages: list[float] = []
        result = reconstruct(
            views, self._networks, self._options, lambda stage: stages.append(self._now())
        )
        stages.append(self._now())
        start, end = self._marks
        predicting = next(
            later - earlier for earlier, later in pairwise(stages) if earlier <= start < later
        )
        refining = stages[-1] - stages[0] - predicting if self._networks.stereo else None
        self.parts = PartSeconds(forward=end - start, refinement=refining)
        return result

    def _mark(self) -> None:
        self._marks.append(self._now())

    def _now(self) -> float:
        import torch

        if self._networks.device.type == "cuda":
            torch.cuda.synchronize(self._networks.device)
        return time.perf_counter()


def open_lpips(device: str) -> "Lpips | None":
    """Load LPIPS onto a device; return None without its weights."""
    from nps_cli.device import pick_device
    from nps_cli.weights.lpips import find_lpips

    found = find_lpips()
    return found and found.to(pick_device(device))
