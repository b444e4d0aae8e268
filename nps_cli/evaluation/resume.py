"""Keep the finished results of an evaluation beside its report until that is written."""

import json
import shutil
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.data.pairs import PhotoPair
    from models.evaluation.scores import PairScores

LINES, IMAGES = "finished.jsonl", "pictures"


class Progress:
    """A folder with the results, and the images, of the pairs that are finished."""

    def __init__(self, folder: Path, conditions: dict[str, Any]) -> None:
        """Open the folder of a run under the same conditions, or warn and begin anew."""
        self.folder = folder
        self.images = folder / IMAGES
        self._finished: dict[str, dict[str, Any]] = {}
        try:
            self._open(json.loads(json.dumps(conditions)))
        except OSError as error:
            raise NpsError(
                f"{folder} cannot be used ({error.strerror or error}).",
                hint="It holds what an interrupted run had finished; remove it, or make room.",
            ) from error

    def find(self, key: str, image: str | None) -> "PairScores | None":
        """Return the scores of a pair, if they and its image, where one is wanted, are here."""
        from nps_cli.formats.evaluation import read_scores

        if key not in self._finished or (image and not (self.images / image).is_file()):
            return None
        return read_scores(self._finished[key])

    def keep(self, key: str, scores: "PairScores") -> None:
        """Write the scores of a finished pair at once."""
        line = json.dumps({"key": key, "scores": asdict(scores)}, allow_nan=False)
        with (self.folder / LINES).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def discard(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _open(self, conditions: dict[str, Any]) -> None:
        path = self.folder / LINES
        if path.is_file():
            header, *lines = [_parse(line) for line in path.read_text("utf-8").splitlines()] or [{}]
            changed = [name for name in conditions if header.get(name) != conditions[name]]
            if not changed:
                self._finished = {each["key"]: each["scores"] for each in lines if each}
                return
            console.warning(
                f"{len(lines)} finished pairs in {self.folder} are not used: "
                f"{', '.join(changed)} changed since"
            )
            self.discard()
        self.images.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(conditions) + "\n", encoding="utf-8")


def key_of(pair: "PhotoPair", method: str) -> str:
    """Digest all that a pair's scores depend on, beside the conditions of the run."""
    cameras: list[tuple[Any, ...]] = []
    for photo in (*pair.views, *pair.targets):
        try:
            state = photo.path.stat()
            cameras.append((state.st_size, state.st_mtime_ns))
        except OSError:
            cameras.append((0, 0))
        camera = photo.camera
        cameras.append((str(photo.path), camera.intrinsics.tolist(), camera.world2cam.tolist()))
    facts = (method, pair.id, pair.scene, pair.difficulty, pair.low_parallax, cameras)
    return sha256(repr(facts).encode()).hexdigest()


def digest_of_code() -> str:
    """Digest our own source: what other code computed is not continued."""
    root = Path(__file__).parent.parent.parent
    whole = sha256()
    for package in ("models", "nps_cli"):
        for path in sorted((root / package).rglob("*.py")):
            whole.update(path.read_bytes())
    return whole.hexdigest()


def _parse(line: str) -> dict[str, Any]:
    """Parse a line; return nothing if the run ended in the middle of it."""
    try:
        return dict(json.loads(line))
    except (json.JSONDecodeError, ValueError):
        return {}
