"""Frames of videos, read again after our own writer, and of files that are broken."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from nps_cli.errors import NpsError
from nps_cli.formats.video import write_mp4, write_webm
from nps_cli.formats.video_reader import read_frames, sample_frames


def shades(count: int, size: tuple[int, int] = (32, 48)):
    """Frames that get brighter, the left half red."""
    for index in range(count):
        frame = torch.full((3, *size), (index + 1) / (count + 1))
        frame[1:, :, : size[1] // 2] = 0
        yield frame


def brightness(frame) -> float:
    return np.asarray(frame.image)[:, -4:].mean() / 255


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_mp4(shades(12), path, fps=10)
    return path


def test_a_short_video_gives_every_frame_reduced(video: Path):
    frames = sample_frames(video, max_side=24)
    assert [frame.number for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([n / 10 for n in range(12)])
    assert {frame.image.size for frame in frames} == {(24, 16)}
    assert brightness(frames[8]) == pytest.approx(9 / 13, abs=0.03)


def test_a_frame_is_read_again_in_full_size(video: Path):
    times = [sample_frames(video, 24)[number].time_s for number in (3, 9)]
    frames = read_frames(video, times)
    assert [frame.number for frame in frames] == [3, 9]
    assert frames[1].image.size == (48, 32)
    assert brightness(frames[1]) == pytest.approx(10 / 13, abs=0.03)


@pytest.mark.parametrize("write", [write_mp4, write_webm])
def test_a_long_video_gives_bursts_up_to_its_end(tmp_path: Path, write):
    write(shades(600), tmp_path / "long.mp4", fps=4)  # 150 seconds; a keyframe every minute or so
    frames = sample_frames(tmp_path / "long.mp4", 48)
    assert 60 < len(frames) <= 96
    assert all(before.time_s < after.time_s for before, after in pairwise(frames))
    assert frames[-1].time_s > 140
    for frame in frames[::20]:
        assert brightness(frame) == pytest.approx((frame.number + 1) / 601, abs=0.03)
    (again,) = read_frames(tmp_path / "long.mp4", [frames[-1].time_s])
    assert again.number == frames[-1].number


def test_a_video_that_is_shown_turned_is_turned(video: Path):
    content = bytearray(video.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 4 + 20 + 16  # ISO 14496-12, 8.3.2, of version 0
    one, minus = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    content[matrix : matrix + 16] = zero + one + zero + minus  # a, b, u, c
    content[matrix + 16 : matrix + 20] = zero  # d: a quarter turn clockwise
    video.write_bytes(content)
    frame = sample_frames(video, 48)[5]
    assert frame.image.size == (32, 48)
    pixels = np.asarray(frame.image).astype(int)
    assert pixels[4, :, 0].mean() > 80 > 40 > pixels[4, :, 1].mean()  # the left side is above now
    assert abs(pixels[-4, :, 0] - pixels[-4, :, 1]).mean() < 20


def test_a_video_that_breaks_off_gives_what_it_has(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    generator = torch.Generator().manual_seed(0)
    write_mp4((torch.rand(3, 64, 64, generator=generator) for _ in range(20)), path, fps=10)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 2 <= len(sample_frames(path, 64)) < 20


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "cannot be decoded"), (b"no video" * 100, "cannot be decoded"), (None, "not exist")],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes | None, reason: str):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NpsError, match=reason):
        sample_frames(path, 48)


def test_a_single_frame_is_no_video(tmp_path: Path):
    write_mp4(shades(1), tmp_path / "clip.mp4", fps=10)
    with pytest.raises(NpsError, match="has one frame"):
        sample_frames(tmp_path / "clip.mp4", 48)
