"""Videos and pictures, checked by reading them again."""

import weakref
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from nps_cli.formats.video import write_gif, write_mp4, write_png, write_pngs, write_webm

COLORS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]])


def frames(count: int = 8, height: int = 64, width: int = 96):
    """Four colored columns, and a white square that moves two pixels to the right a frame."""
    for index in range(count):
        columns = COLORS.repeat_interleave(width // 4, dim=0).T
        frame = columns[:, None].repeat(1, height, 1)
        frame[:, 40:56, 2 * index : 2 * index + 16] = 1
        yield frame


def decode(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_an_mp4_holds_every_frame_in_its_colors(tmp_path: Path):
    write_mp4(frames(), tmp_path / "video", fps=24)
    decoded = decode(tmp_path / "video")
    assert len(decoded) == 8
    assert decoded[0].shape == (64, 96, 3)
    for index, color in enumerate(COLORS):
        seen = torch.from_numpy(decoded[5][20, 24 * index + 12]).float() / 255
        torch.testing.assert_close(seen, color, atol=0.02, rtol=0)


def test_an_mp4_moves_in_the_right_direction(tmp_path: Path):
    write_mp4(frames(), tmp_path / "video", fps=24)
    first, last = (decode(tmp_path / "video")[index][48, :, 1] > 200 for index in (0, 7))
    assert first[:16].all() and not last[:12].any() and last[16:30].all()


def test_an_mp4_plays_everywhere_and_says_what_its_colors_mean(tmp_path: Path):
    path = tmp_path / "video"
    write_mp4(frames(), path, fps=24)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 24)
        assert (context.color_primaries, context.color_trc, context.colorspace) == (1, 1, 1)
        assert context.color_range == 1
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays while it loads


def test_a_webm_holds_every_frame_in_its_colors(tmp_path: Path):
    write_webm(frames(), tmp_path / "video", fps=24)
    with av.open(str(tmp_path / "video")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("vp9", "yuv420p")
        assert (stream.average_rate, stream.codec_context.colorspace) == (24, 1)
    decoded = decode(tmp_path / "video")
    assert len(decoded) == 8
    for index, color in enumerate(COLORS):
        seen = torch.from_numpy(decoded[5][20, 24 * index + 12]).float() / 255
        torch.testing.assert_close(seen, color, atol=0.02, rtol=0)


def test_frames_are_not_all_held_in_memory(tmp_path: Path):
    made: list[weakref.ref] = []

    def watched():
        for frame in frames(8):
            made.append(weakref.ref(frame))
            del frame
            yield made[-1]()
            assert sum(reference() is not None for reference in made) <= 2

    write_mp4(watched(), tmp_path / "video", fps=24)
    write_pngs(watched(), tmp_path)


def test_a_gif_repeats_and_keeps_frames_colors_and_pace(tmp_path: Path):
    write_gif(frames(), tmp_path / "animation", fps=25)
    with Image.open(tmp_path / "animation") as gif:
        assert (gif.format, gif.n_frames, gif.info["loop"], gif.info["duration"]) == (
            *("GIF", 8, 0, 40),
        )
        gif.seek(7)
        seen = np.asarray(gif.convert("RGB"))
    for index, color in enumerate(COLORS):
        assert np.abs(seen[20, 24 * index + 12] - 255 * color.numpy()).max() < 12


def test_pictures_are_numbered_and_exact(tmp_path: Path):
    write_pngs(frames(3), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("00000.png", "00001.png", "00002.png"),
    ]
    expected = [frame for frame in frames(3)][2]
    seen = np.asarray(Image.open(tmp_path / "00002.png"))
    assert seen.shape == (64, 96, 3)
    np.testing.assert_array_equal(seen, (expected * 255).round().permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("value", "byte"), [(-0.5, 0), (0.499, 127), (1.7, 255)])
def test_colors_outside_of_the_range_are_clipped_not_wrapped(tmp_path: Path, value, byte):
    write_png(torch.full((3, 8, 8), value), tmp_path / "picture")
    assert (np.asarray(Image.open(tmp_path / "picture")) == byte).all()
