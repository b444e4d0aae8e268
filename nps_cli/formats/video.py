"""Write frames to .mp4, .webm, .gif or .png files, one at a time to bound the memory."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

CONSTANT_RATE_FACTOR = {"libx264": 18, "libvpx-vp9": 24}  # visually lossless
BT709 = 1  # of the primaries, the transfer and the matrix in H.264's tables (ITU-T H.264, E)
LIMITED_RANGE = 1


def write_mp4(frames: "Iterable[Tensor]", path: Path, fps: float) -> None:
    """Write H.264 that plays everywhere: 4:2:0, tagged BT.709, its index at the start.

    `frames` are RGB in [0, 1], [3, height, width], all of one size with even sides; the path's
    suffix does not matter.
    """
    _encode(frames, path, fps, "mp4", "libx264")


def write_webm(frames: "Iterable[Tensor]", path: Path, fps: float) -> None:
    """Write VP9, free of patents, for web pages; arguments are those of `write_mp4`."""
    _encode(frames, path, fps, "webm", "libvpx-vp9")


def _encode(
    frames: "Iterable[Tensor]", path: Path, fps: float, container_format: str, codec: str
) -> None:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    index_first = {"movflags": "+faststart"} if container_format == "mp4" else {}
    with av.open(str(path), "w", format=container_format, options=index_first) as container:
        stream: Any = None
        for pixels in _to_pixels(frames):
            if stream is None:
                rate = Fraction(fps).limit_denominator(1001)
                stream = container.add_stream(
                    codec, rate=rate, options={"crf": str(CONSTANT_RATE_FACTOR[codec])}
                )
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
                context = stream.codec_context
                context.color_primaries = context.color_trc = context.colorspace = BT709
                context.color_range = LIMITED_RANGE
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
            )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_gif(frames: "Iterable[Tensor]", path: Path, fps: float) -> None:
    """Write a looping GIF with one palette, the first frame's, so that colors do not flicker.

    GIF counts hundredths of a second: 30 frames per second become 33.
    """
    from PIL import Image

    images = (Image.fromarray(pixels) for pixels in _to_pixels(frames))
    first = next(images)
    palette = first.quantize(256, method=Image.Quantize.MEDIANCUT)
    first.quantize(palette=palette).save(
        path,
        format="GIF",
        save_all=True,
        append_images=(image.quantize(palette=palette) for image in images),
        duration=max(20, 10 * round(100 / fps)),
        loop=0,
        optimize=False,
    )


VIDEO_WRITERS = {".mp4": write_mp4, ".webm": write_webm, ".gif": write_gif}


def write_pngs(frames: "Iterable[Tensor]", folder: Path) -> None:
    """Write 00000.png, 00001.png, ... into a folder that exists."""
    for index, frame in enumerate(frames):
        write_png(frame, folder / f"{index:05d}.png")


def write_png(frame: "Tensor", path: Path) -> None:
    """Write one picture, [3, height, width] in [0, 1], whatever the path's suffix."""
    from PIL import Image

    (pixels,) = _to_pixels([frame])
    Image.fromarray(pixels).save(path, format="PNG")


def _to_pixels(frames: "Iterable[Tensor]") -> Iterator[Any]:
    for frame in frames:
        yield (frame.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().cpu().numpy()
