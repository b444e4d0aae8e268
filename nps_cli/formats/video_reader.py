"""Read single frames of a video: .mp4, .mov and what else FFmpeg decodes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli.errors import NpsError

if TYPE_CHECKING:
    import av
    from PIL import Image

READABLE_VIDEOS = (
    *(".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".3gp", ".wmv", ".flv", ".ogv"),
)
BURSTS, BURST_FRAMES = 24, 4
MAX_STEP_S = 0.3  # between the frames of a burst: those seconds apart have little in common
MIN_SEEK_S = 2.0  # what is nearer is reached by decoding all that lies between


@dataclass(frozen=True)
class Frame:
    """A frame of a video, upright."""

    image: "Image.Image"
    time_s: float  # from the first frame
    number: int  # at the video's average rate, from 0


def is_video(path: Path) -> bool:
    """Return True if a path is named like a video."""
    return path.suffix.lower() in READABLE_VIDEOS


def sample_frames(path: Path, max_side: int) -> list[Frame]:
    """Return up to 96 frames of a video, reduced to this long side in pixels, in order.

    They are evenly spread over a video of up to half a minute, and bursts of a longer one. A video
    that breaks off gives what it has. Raises NpsError if it has no two frames.
    """
    with _opened(path) as container:
        frames = list(_sample(_Reader(container), _duration(container), max_side))
    if len(frames) < 2:
        raise NpsError(
            f"{path} has {'one frame' if frames else 'no frames'}.",
            hint="Give a video of a camera that moves, or two photos.",
        )
    return frames


def read_frames(path: Path, times_s: Sequence[float]) -> list[Frame]:
    """Return the frames at these increasing times of `sample_frames`, in full size."""
    frames = []
    with _opened(path) as container:
        reader = _Reader(container)
        for time_s in times_s:
            reader.seek(time_s)
            frame = reader.first_at(time_s)
            if frame is not None:
                frames.append(reader.upright(frame, None))
    return frames


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield a video's container; turn what FFmpeg and the file system raise into NpsError."""
    import av

    if not path.is_file():
        reason = "is no file" if path.exists() else "does not exist"
        raise NpsError(f"{path} {reason}.", hint="Check the path.")
    av.logging.set_level(av.logging.PANIC)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise NpsError(f"{path} shows no picture.", hint="Give a video, or photos.")
            container.streams.video[0].thread_type = "AUTO"
            yield container
    except (av.FFmpegError, OSError) as error:
        raise NpsError(
            f"{path} cannot be decoded ({error.strerror or error}).",
            hint="It is damaged, cut short or of an unknown kind: export it as .mp4.",
        ) from error


def _duration(container: Any) -> float:
    """Return the seconds of a video; where no header says it, by reading to the end."""
    stream = container.streams.video[0]
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration:
        return float(container.duration / 1e6)
    times = [packet.pts for packet in container.demux(stream) if packet.pts is not None]
    container.seek(0)
    return float((max(times, default=0) - min(times, default=0)) * stream.time_base)


def _sample(reader: "_Reader", duration_s: float, max_side: int) -> Iterator[Frame]:
    step_s = min(duration_s / (BURSTS * BURST_FRAMES), MAX_STEP_S)
    for burst in range(BURSTS):
        wanted_s = burst * duration_s / BURSTS
        if wanted_s - reader.position_s > MIN_SEEK_S and reader.seek(wanted_s):
            wanted_s = 0.0  # the keyframe before will do, and is there at once
        for _ in range(BURST_FRAMES):
            frame = reader.first_at(wanted_s)
            if frame is None:
                return
            yield reader.upright(frame, max_side)
            wanted_s = max(wanted_s, reader.position_s) + step_s


class _Reader:
    """Decodes the first picture of a container; times are from its first frame."""

    def __init__(self, container: Any) -> None:
        self._container, self._stream = container, container.streams.video[0]
        self._start_s = float((self._stream.start_time or 0) * self._stream.time_base)
        self._rate = float(self._stream.average_rate or 30)
        self._frames = self._decode()
        self._can_seek = True
        self.position_s = -1.0  # of the frame that was returned last

    def seek(self, time_s: float) -> bool:
        """Go on from the keyframe at or before a time; return False if that leads back."""
        if not self._can_seek:
            return False
        self._container.seek(
            int((self._start_s + time_s) / self._stream.time_base), stream=self._stream
        )
        decoded = self._decode()
        first = next(decoded, None)
        self._frames = decoded if first is None else chain([first], decoded)
        self._can_seek = first is not None and self._time(first) > self.position_s
        return self._can_seek

    def first_at(self, time_s: float) -> "av.VideoFrame | None":
        """Return the first new frame at or after a time; None if there is none."""
        for frame in self._frames:
            found_s = self._time(frame)
            if found_s > self.position_s and found_s >= time_s - 1e-6:
                self.position_s = found_s
                return frame
        return None

    def upright(self, frame: "av.VideoFrame", max_side: int | None) -> Frame:
        """Return a frame turned as it is shown, with square pixels, reduced to a long side."""
        aspect = float(self._stream.sample_aspect_ratio or 1)
        width, height = frame.width * aspect, float(frame.height)
        scale = min(1.0, max_side / max(width, height)) if max_side else 1.0
        size = {"width": max(1, round(width * scale)), "height": max(1, round(height * scale))}
        image = frame.to_image(**size, interpolation="AREA")
        if frame.rotation:  # degrees, counterclockwise
            image = image.rotate(frame.rotation, expand=True)
        return Frame(image, self.position_s, round(self.position_s * self._rate))

    def _decode(self) -> "Iterator[av.VideoFrame]":
        """Yield frames up to the end, or to where the video is damaged."""
        import av

        try:
            yield from self._container.decode(self._stream)
        except av.FFmpegError:
            return

    def _time(self, frame: "av.VideoFrame") -> float:
        if frame.time is None:
            return self.position_s + 1 / self._rate
        return float(frame.time) - self._start_s
