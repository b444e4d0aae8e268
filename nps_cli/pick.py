"""Choose two or three photos of a folder or of a pattern, or frames of a video."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.files.atomic import temporary_beside
from nps_cli import console
from nps_cli.console import count_of
from nps_cli.errors import NpsError
from nps_cli.formats.video_reader import is_video, read_frames, sample_frames
from nps_cli.photos.find import find_photos, is_pattern

if TYPE_CHECKING:
    from models.geometry.views import View
    from models.sfm.view_selection import Selection

CHOOSING_SIDE_PX = 512
MAX_PHOTOS = 96  # that are compared: others in between are not read
MIN_PARALLAX_DEG = 0.6


@dataclass(frozen=True)
class Choice:
    """Photos or frames, and which of them are chosen."""

    source: str
    names: tuple[str, ...]  # of all that were compared
    files: tuple[Path, ...]  # of the photos; of frames, the video
    times_s: tuple[float, ...]  # of the frames; none of photos
    selection: "Selection"

    @property
    def kind(self) -> str:
        """Return "frame" or "photo"."""
        return "frame" if self.times_s else "photo"

    @property
    def chosen(self) -> list[str]:
        """Names of the chosen ones."""
        return [self.names[view] for view in self.selection.views]

    @property
    def problem(self) -> str | None:
        """Explain why even the best are not good enough; None if they are."""
        import math

        pairs = self.selection.pairs
        if not pairs:
            count = count_of(len(self.names), self.kind)
            return f"No two of {count} of {self.source} are seen to show the same."
        if math.degrees(max(pair.parallax for pair in pairs)) < MIN_PARALLAX_DEG:
            return f"The camera hardly moves between the {self.kind}s of {self.source}."
        return None

    def write(self, folder: Path) -> list[Path]:
        """Copy the chosen photos, or write the chosen frames, into a folder; return the files."""
        written = [folder / name for name in self.chosen]
        if not self.times_s:
            for view, file in zip(self.selection.views, written, strict=True):
                shutil.copy2(self.files[view], file)
            return written
        times_s = [self.times_s[view] for view in self.selection.views]
        frames = read_frames(self.files[0], times_s)
        for frame, file in zip(frames, written, strict=True):
            frame.image.save(file, compress_level=1)
        return written


def is_source(path: Path) -> bool:
    """Return True if photos are to be chosen from it: a folder, a pattern or a video."""
    return is_video(path) or path.is_dir() or is_pattern(path)


def files_of(paths: list[Path]) -> list[Path]:
    """Return all files that the photos are chosen from; raise NpsError where they are too few."""
    if len(paths) == 1 and is_source(paths[0]) and not is_video(paths[0]):
        return [*paths, *find_photos(paths[0])]
    return paths


def choose(paths: list[Path]) -> Choice:
    """Choose two or three out of these photos, or out of the one source that is named."""
    from nps_cli.device import single_thread

    with single_thread():
        is_film = len(paths) == 1 and is_video(paths[0])
        return _choose_frames(paths[0]) if is_film else _choose_photos(paths)


@contextmanager
def two_or_three_files(paths: list[Path]) -> Iterator[list[Path]]:
    """Yield the photos that are named, or files of those chosen from a source, and say which.

    Frames of a video are temporary files.
    """
    if not (len(paths) == 1 and is_source(paths[0])):
        yield paths
        return
    choice = choose(paths)
    count = count_of(len(choice.names), choice.kind)
    console.info(f"{choice.source}: {console.both(*choice.chosen)} of {count} chosen")
    if choice.problem:
        console.warning(choice.problem)
    if not choice.times_s:
        yield [choice.files[view] for view in choice.selection.views]
        return
    with temporary_beside(Path(tempfile.gettempdir(), "frames")) as folder:
        folder.mkdir(0o700)
        yield choice.write(folder)


def _choose_photos(paths: list[Path]) -> Choice:
    """Choose out of photos, or those of one folder or pattern."""
    from models.sfm.view_selection import select_views

    source = str(paths[0]) if len(paths) == 1 else "those given"
    photos = find_photos(paths[0]) if len(paths) == 1 else paths
    if len(photos) > MAX_PHOTOS:
        console.info(f"{source}: {MAX_PHOTOS} of {len(photos)} photos are compared, evenly spread")
        last = len(photos) - 1
        photos = [photos[number * last // (MAX_PHOTOS - 1)] for number in range(MAX_PHOTOS)]
    views, readable = _load(photos)
    if len(views) < 2:
        raise NpsError(
            f"Of {count_of(len(photos), 'photo')} of {source}, {len(views) or 'none'} can be read.",
            hint="`nps inspect` says more about each.",
        )
    names = tuple(file.name for file in readable)
    if len(set(names)) < len(names):  # of a pattern over several folders
        names = tuple("_".join(file.parts[-2:]) for file in readable)
    return Choice(source, names, tuple(readable), (), select_views(views))


def _choose_frames(video: Path) -> Choice:
    """Choose frames of a video."""
    import numpy as np
    import torch

    from models.geometry.camera import Camera
    from models.geometry.views import View
    from models.sfm.view_selection import select_views
    from nps_cli.photos.exif import GUESSED_35MM
    from nps_cli.photos.intrinsics import GivenIntrinsics

    frames = sample_frames(video, CHOOSING_SIDE_PX)
    sizes = [frame.image.size[::-1] for frame in frames]
    matrices = GivenIntrinsics(focal_35mm=(GUESSED_35MM,)).for_photos(sizes) or []
    views = []
    for frame, size, matrix in zip(frames, sizes, matrices, strict=True):
        image = torch.from_numpy(np.array(frame.image)).permute(2, 0, 1).float() / 255
        views.append(View(image, Camera(torch.tensor(matrix), torch.eye(4), size)))
    return Choice(
        source=str(video),
        names=tuple(f"{video.stem}_{frame.number:05d}.png" for frame in frames),
        files=(video,),
        times_s=tuple(frame.time_s for frame in frames),
        selection=select_views(views),
    )


def _load(photos: list[Path]) -> "tuple[list[View], list[Path]]":
    """Return small views of the photos that can be read, with their files; warn of the others."""
    from nps_cli.photos.load import load_photo
    from nps_cli.photos.stereo import is_stereo_photo

    views, readable = [], []
    with console.progress("comparing photos", len(photos)) as advance:
        for photo in photos:
            try:
                if is_stereo_photo(photo):
                    raise NpsError(f"{photo} is a stereo photo.", hint="Give it alone.")
                views.append(load_photo(photo, CHOOSING_SIDE_PX).view)
                readable.append(photo)
            except NpsError as error:
                console.warning(f"left out: {error}")
            advance()
    return views, readable
