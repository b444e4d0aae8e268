"""Reconstruct many scenes with networks that are loaded once, and resume what was interrupted."""

import json
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from models.files.json_reader import convert, read_json
from nps_cli import __version__, console
from nps_cli.batch_list import SUMMARY, Scene
from nps_cli.errors import NpsError
from nps_cli.formats.video_reader import is_video
from nps_cli.output import check_outputs, whole_file, whole_folder
from nps_cli.photos.find import find_photos
from nps_cli.pick import is_source, two_or_three_files

if TYPE_CHECKING:
    from models.options import Options
    from models.workers import Engine
    from nps_cli.photos.intrinsics import GivenIntrinsics
    from nps_cli.weights.networks import NetworkChoice

SCENE, POSES, REPORT = "scene", "pose.json", "report.json"
FORMAT, VERSION = "nps-batch", 1
Status = Literal["done", "untrusted", "failed"]


@dataclass(frozen=True)
class Conditions:
    """All that the result of a scene depends on, beside its photos."""

    given: "GivenIntrinsics"
    choice: "NetworkChoice"
    weights_sha256: str
    options: "Options"
    suffix: str  # of the scene file


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a scene, as its report records it."""

    name: str
    status: Status
    key: str  # digest of the scene's photos and conditions
    photos: tuple[str, ...] = ()  # names of those that were used
    seconds: float = 0.0
    gaussians: int | None = None
    confidence: float | None = None  # the least of the pairs'
    problems: tuple[str, ...] = ()
    error: str | None = None
    hint: str | None = None


def key_of(scene: Scene, conditions: Conditions) -> str:
    """Digest the conditions, and path, size and time of every file that is read."""
    files: list[tuple[Any, ...]] = []
    given = conditions.given.file
    for path in (*scene.photos, *([Path(given)] if given else [])):
        try:
            listed = is_source(path) and not is_video(path)
            for photo in find_photos(path) if listed else [path]:
                state = photo.stat()
                files.append((str(photo.resolve()), state.st_size, state.st_mtime_ns))
        except (OSError, NpsError):
            files.append((str(path), "unreadable"))
    return sha256(repr((files, conditions)).encode()).hexdigest()


def check(scenes: list[Scene], conditions: Conditions, out: Path, *, force: bool) -> None:
    """Refuse, before any work, outputs that cannot be written, or would destroy something.

    Raises NpsError. Results of an earlier run are none of that.
    """
    choice, summary = conditions.choice, out / SUMMARY
    read = [conditions.given.file, choice.weights]
    check_outputs(folder=out, force=True)
    if not out.exists():
        return
    ours = force or not summary.exists() or _field(summary, "format") == FORMAT
    check_outputs(summary, inputs=read, force=ours)
    for scene in scenes:
        check_outputs(folder=out / scene.name, inputs=[*scene.photos, *read], force=True)


def find_finished(
    scenes: list[Scene], conditions: Conditions, out: Path, *, force: bool
) -> dict[str, Outcome]:
    """Return the outcomes of scenes that are finished already, by name; with `force`, none are.

    Raises NpsError where a scene's folder holds something else.
    """
    found = {scene.name: None if force else _find(scene, conditions, out) for scene in scenes}
    return {name: outcome for name, outcome in found.items() if outcome}


def _find(scene: Scene, conditions: Conditions, out: Path) -> Outcome | None:
    """Return the outcome of a scene that is finished already."""
    folder = out / scene.name
    if not folder.exists() or not any(folder.iterdir()):
        return None
    outputs = (folder / f"{SCENE}{conditions.suffix}", folder / POSES)
    if _field(folder / REPORT, "key") != key_of(scene, conditions) or not all(
        map(Path.is_file, outputs)
    ):
        raise NpsError(
            f"{folder} holds what other photos or options gave.",
            hint="Choose another -o DIR, or make all anew with --force.",
        )
    return convert(read_json(folder / REPORT), Outcome)


def run(
    scenes: list[Scene],
    conditions: Conditions,
    out: Path,
    *,
    jobs: int | None,
    engine: "Engine",
    gpus: bool,
    force: bool,
) -> Iterator[Outcome]:
    """Reconstruct scenes into folders of their names in `out`; yield outcomes in their order.

    A scene that fails, by raising or by ending its process, does not end the others.
    """
    from models.workers import map_on_workers

    opened = partial(_open_work, conditions, out, force)
    waiting, alone = list(scenes), False
    while waiting:
        try:
            some = waiting[:1] if alone else list(waiting)
            for outcome in map_on_workers(opened, some, jobs, engine, gpus):
                waiting.pop(0)
                yield outcome
            alone = False
        except BrokenProcessPool:  # by one of those at work: which, one finds out alone
            if alone:
                yield Outcome(
                    name=waiting.pop(0).name,
                    status="failed",
                    key="",
                    error="Its process was killed, perhaps for lack of memory.",
                    hint="The same command tries it again; with fewer --jobs it needs less memory.",
                )
            alone = not alone


def summarize(outcomes: list[Outcome], seconds: float) -> dict[str, Any]:
    """Return the document about all scenes of a batch."""
    statuses = [outcome.status for outcome in outcomes]
    return {
        "format": FORMAT,
        "version": VERSION,
        "generator": f"nps {__version__}",
        "seconds": round(seconds, 3),
        "counts": {status: statuses.count(status) for status in ("done", "untrusted", "failed")},
        "scenes": [asdict(outcome) for outcome in outcomes],
    }


def write_summary(document: dict[str, Any], out: Path) -> Path:
    """Write the document about a batch into its folder, in place of an older one."""
    path = out / SUMMARY
    with whole_file(path, force=True) as file:
        file.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _open_work(conditions: Conditions, out: Path, force: bool) -> Callable[[Scene], Outcome]:
    """Return the function that reconstructs a scene; its networks are loaded at the first call."""
    from nps_cli.device import keep_freed_memory, return_freed_memory
    from nps_cli.reconstruction import load_for

    keep_freed_memory()
    load = cache(partial(load_for, conditions.choice, conditions.options))

    def work(scene: Scene) -> Outcome:
        began = time.perf_counter()
        key = key_of(scene, conditions)
        try:
            finished = None if force else _find(scene, conditions, out)
            if finished is not None:  # before another scene's process was killed
                return finished
            with console.silenced():
                return _reconstruct(scene, key, conditions, load, out / scene.name, force)
        except NpsError as error:
            reason, hint = str(error), error.hint
        except Exception as error:  # the others go on; the report keeps what is to be looked into
            reason = f"{type(error).__name__}: {error}"
            hint = "".join(traceback.format_exception(error)[-2:]).strip()
        finally:
            return_freed_memory()
        seconds = round(time.perf_counter() - began, 3)
        return Outcome(
            name=scene.name, status="failed", key=key, seconds=seconds, error=reason, hint=hint
        )

    return work


def _reconstruct(
    scene: Scene,
    key: str,
    conditions: Conditions,
    load: Callable[[int, str | None], Any],
    folder: Path,
    force: bool,
) -> Outcome:
    """Reconstruct a scene, and write it, its poses and its report: all of them or none."""
    from nps_cli.formats import save_scene
    from nps_cli.formats.poses import pose_document, write_poses
    from nps_cli.reconstruction import reconstruct_photos

    began = time.perf_counter()
    with two_or_three_files(list(scene.photos)) as files:
        result = reconstruct_photos(files, conditions.given, load, conditions.options)
    reconstruction = result.reconstruction
    with whole_folder(folder, force=force) as temporary:
        document = pose_document(result.photos, reconstruction, result.weights)
        write_poses(document, temporary / POSES, force=False)
        file = temporary / f"{SCENE}{conditions.suffix}"
        save_scene(reconstruction.gaussians, file, result.cameras, result.weights)
        outcome = Outcome(
            name=scene.name,
            status="untrusted" if reconstruction.problems else "done",
            key=key,
            photos=tuple(photo.name for photo in result.photos),
            seconds=round(time.perf_counter() - began, 3),
            gaussians=len(reconstruction.gaussians),
            confidence=min((pair.confidence for pair in reconstruction.pairs), default=None),
            problems=reconstruction.problems,
        )
        report = json.dumps(asdict(outcome), indent=2, allow_nan=False)
        (temporary / REPORT).write_text(report + "\n", encoding="utf-8")
    return outcome


def _field(path: Path, name: str) -> Any:
    """Return a value of a JSON document; None if that cannot be read."""
    try:
        document = read_json(path)
    except ValueError:
        return None
    return document.get(name) if isinstance(document, dict) else None
