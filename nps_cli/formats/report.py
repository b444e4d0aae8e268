"""A run as a web page to send to others: one file, and nothing is fetched from elsewhere."""

import base64
import io
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from models.confidence import describe_confidence
from models.geometry.colormap import color_depth, depth_range
from nps_cli import __version__
from nps_cli.output import whole_file

if TYPE_CHECKING:
    from torch import Tensor

    from models.reconstruction import Reconstruction
    from models.weights import WeightsInfo
    from nps_cli.photos.load import Photo

TEMPLATE = Path(__file__).with_name("report.html")
FACTS = ("camera", "size", "focal length", "orientation")


def write_report(
    photos: "list[Photo]",
    reconstruction: "Reconstruction",
    weights: "WeightsInfo",
    path: Path,
    *,
    scene: bool,
    force: bool,
) -> None:
    """Write the report of a run, whole or not at all.

    Args:
        photos: The photos, as they were loaded.
        reconstruction: What was made of them.
        weights: The weights that made it.
        path: A .html file.
        scene: Include depth maps and the scene itself, on a turntable.
        force: Replace a file that is there.
    """
    page = encode_report(photos, reconstruction, weights, scene=scene)
    with whole_file(path, force=force) as file:
        file.write_bytes(page)


def encode_report(
    photos: "list[Photo]", reconstruction: "Reconstruction", weights: "WeightsInfo", *, scene: bool
) -> bytes:
    """Return the page: doubts, the scene, photos, matches, depth and poses, in this order."""
    from nps_cli.formats.plot import captions, encode_plot
    from nps_cli.formats.poses import pose_document

    document = pose_document(photos, reconstruction, weights)
    poses = captions({**document, "problems": []})
    figure = encode_plot(document, photos, reconstruction)
    parts = {
        "TITLE": escape(" and ".join(photo.name for photo in photos)),
        "VERDICT": escape(verdict(reconstruction.confidence, document["problems"])),
        "DOUBTS": _list(doubts(photos, reconstruction)),
        "SCENE": _turntable(photos, reconstruction) if scene else "",
        "PHOTOS": "".join(map(_photo, photos)),
        "DEPTHS": _depths(photos, reconstruction) if scene else "",
        "FIGURE": _image(figure, "png", "Matches, epipolar lines, cameras and points"),
        "POSES": _list(poses),
        "DOCUMENT": escape(json.dumps(document, indent=2, allow_nan=False)),
        "RUN": escape(f"nps {__version__}, weights {weights.name} (sha256 {weights.sha256[:12]})"),
    }
    pieces = TEMPLATE.read_text(encoding="utf-8").split("\N{WHITE SQUARE}")
    return "".join(parts[piece] if at % 2 else piece for at, piece in enumerate(pieces)).encode()


def verdict(confidence: float, problems: Sequence[str]) -> str:
    """Return how sure the poses are, in words and as a probability."""
    words = describe_confidence(confidence, tuple(problems))
    return f"Poses: {words} (confidence {confidence:.2f} of 1)"


def doubts(photos: "list[Photo]", reconstruction: "Reconstruction") -> list[str]:
    """Return sentences: the run's problems, then what was only guessed."""
    guessed = [
        f"{photo.name}: the focal length is {photo.intrinsics_note}; if that is wrong, so are "
        "angles and shapes. The original file, with EXIF, or --focal-35mm would tell."
        for photo in photos
        if photo.intrinsics_source == "guessed"
    ]
    return [*reconstruction.problems, *guessed]


def _list(sentences: list[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else "<p>None.</p>"


def _turntable(photos: "list[Photo]", reconstruction: "Reconstruction") -> str:
    from nps_cli.formats.page import encode_page
    from nps_cli.formats.poses import photo_cameras
    from nps_cli.formats.provenance import SceneCamera

    cameras = zip(photos, photo_cameras(photos, reconstruction), strict=True)
    shown = [SceneCamera(photo.name, camera) for photo, camera in cameras]
    page = b"".join(encode_page(reconstruction.gaussians, shown)).decode()
    return f'<h2>Scene</h2><iframe title="The scene" srcdoc="{escape(page)}"></iframe>'


def _photo(photo: "Photo") -> str:
    height, width = photo.camera.size
    camera = " ".join(filter(None, (photo.facts.make, photo.facts.model)))
    turned = photo.orientation is not None and photo.orientation != 1
    values = (
        camera or "EXIF does not say",
        f"{width} x {height} pixels",
        photo.intrinsics_note,
        f"stored turned (EXIF {photo.orientation}), shown upright" if turned else "upright",
    )
    rows = "".join(
        f"<dt>{name}</dt><dd>{escape(value)}</dd>"
        for name, value in zip(FACTS, values, strict=True)
    )
    picture = _image(_encode(photo.image, "jpeg"), "jpeg", photo.name)
    return f"<figure>{picture}<figcaption>{escape(photo.name)}</figcaption><dl>{rows}</dl></figure>"


def _depths(photos: "list[Photo]", reconstruction: "Reconstruction") -> str:
    import torch

    maps = [depth.detach().float().cpu() for depth in reconstruction.depths]
    near, far = depth_range(torch.cat([depth.flatten() for depth in maps]))
    figures = "".join(
        f"<figure>{_image(_encode(color_depth(depth, near, far), 'png'), 'png', 'Depth')}"
        f"<figcaption>{escape(photo.name)}</figcaption></figure>"
        for photo, depth in zip(photos, maps, strict=True)
    )
    limits = f"bright is near ({near:.2f}), dark is far ({far:.2f}), in the scene's own units"
    return f'<h2>Depth</h2><p>{limits}</p><div class="row">{figures}</div>'


def _encode(image: "Tensor", kind: str) -> bytes:
    from PIL import Image

    pixels = image.detach().cpu().clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, kind, quality=88)
    return encoded.getvalue()


def _image(content: bytes, kind: str, alt: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{data}">'
