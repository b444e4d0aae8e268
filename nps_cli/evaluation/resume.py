"""Keep the finished results of an evaluation beside its report until that is written."""

import json
import re
import shutil
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli import console
from nps_cli.errors import NpsError

if TYPE_CHECKING:
    from models.data.pairs import PhotoPair
    from models.evaluation.evaluate import PairResult
    from models.evaluation.scores import PairScores

LINES, IMAGES = "finished.jsonl", "pictures"


class Progress:
    """The scores of the pairs that are finished, in a folder, and their images."""

    def __init__(
        self, folder: Path | None, conditions: dict[str, Any], images: Path | None = None
    ) -> None:
        """Continue a run under the same conditions, or warn and begin anew.

        Args:
            folder: None keeps no scores.
            conditions: All that results depend on, beside the pair and the method.
            images: Where images go if there is no folder, otherwise they stay there till the end;
                None writes none.
        """
        self.folder = folder
        self.images = folder / IMAGES if folder and images else images
        self.finished: dict[str, dict[str, Any]] = {}
        if folder is None:
            return
        try:
            self._open(folder, json.loads(json.dumps(conditions | {"code": _digest_of_code()})))
        except OSError as error:
            raise NpsError(
                f"{folder} cannot be used ({error.strerror or error}).",
                hint="It holds what an interrupted run had finished; remove it, or make room.",
            ) from error

    def find(self, pair: "PhotoPair", method: str) -> "PairScores | None":
        """Return the scores of a pair, if they and its image, where one is wanted, are here."""
        from nps_cli.formats.evaluation import read_scores

        if not self.finished or (key := _key(pair, method)) not in self.finished:
            return None
        if self.images and not (self.images / _image_name(pair, method)).is_file():
            return None
        try:
            return read_scores(self.finished[key])
        except ValueError:  # a damaged line: the pair is evaluated again
            return None

    def keep(self, pair: "PhotoPair", method: str, result: "PairResult") -> None:
        """Write the image and the scores of a finished pair at once."""
        from nps_cli.formats.video import write_png

        if self.images and result.side_by_side is not None:
            write_png(result.side_by_side, self.images / _image_name(pair, method))
        if self.folder:
            key, scores = _key(pair, method), asdict(result.scores)
            with (self.folder / LINES).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "scores": scores}, allow_nan=False) + "\n")
            self.finished[key] = scores

    def _open(self, folder: Path, conditions: dict[str, Any]) -> None:
        path = folder / LINES
        if path.is_file():
            text = path.read_text("utf-8", "replace")
            header, *lines = [_parse(line) for line in text.splitlines()] or [{}]
            changed = [name for name in conditions if header.get(name) != conditions[name]]
            if not changed:
                whole = (each for each in lines if each.keys() >= {"key", "scores"})
                self.finished = {str(each["key"]): each["scores"] for each in whole}
                return
            console.warning(
                f"{len(lines)} finished pairs in {folder} are not used: "
                f"{', '.join(changed)} changed since"
            )
            shutil.rmtree(folder, ignore_errors=True)
        (folder / IMAGES).mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(conditions) + "\n", encoding="utf-8")


def _key(pair: "PhotoPair", method: str) -> str:
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


def _image_name(pair: "PhotoPair", method: str) -> str:
    """Return a file name without special characters; of the usual method, without its name."""
    name = re.sub(r"[^\w.-]", "_", pair.id)
    return f"{name}.{method}.png" if method else f"{name}.png"


def _digest_of_code() -> str:
    """Digest our own source: what other code computed is not continued."""
    root = Path(__file__).parents[2]
    whole = sha256()
    for package in ("models", "nps_cli"):
        for path in sorted((root / package).rglob("*.py")):
            whole.update(path.read_bytes())
    return whole.hexdigest()


def _parse(line: str) -> dict[str, Any]:
    """Parse a line; return nothing if the run ended in the middle of it."""
    from models.files.json_reader import parse_json

    try:
        found = parse_json(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
