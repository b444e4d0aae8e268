"""A figure of the evidence for poses: matches, epipolar lines, cameras and points."""

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from torch import Tensor

from models.geometry.camera import Camera
from models.geometry.epipolar import epipolar_segments, fundamental_matrix
from models.geometry.rigid import transform_points
from models.reconstruction import Reconstruction
from nps_cli.formats.poses import photo_cameras
from nps_cli.output import whole_file
from nps_cli.photos.load import Photo

WIDTH_IN, DPI = 16.0, 120
NARROW_ASPECT = 1.8  # width over height of the photos in a row: below it, one row holds all axes
GAP = 0.03  # between photos, in heights of a photo
MAX_MATCHES, MAX_EPIPOLAR_LINES = 100, 8  # between two photos
MIN_SPACING, MIN_INSET = 0.07, 0.03  # of points with epipolar lines, in widths of a photo
FRUSTUM_LENGTH = 0.16  # over the median depth of the first photo
SHOWN_QUANTILE = 0.9  # of the points' distances from the cameras
COLORS = "#e6b400 #00a5c8 #e84fa8 #3fae3c #f07020 #8a63e0 #404850 #e03020".split()
DIRECTIONS = (("right", "left"), ("down", "up"), ("forward", "back"))


def write_plot(
    document: dict[str, Any],
    photos: list[Photo],
    reconstruction: Reconstruction,
    path: Path,
    *,
    force: bool,
) -> None:
    """Write the figure as a PNG file, whole or not at all."""
    with whole_file(path, force=force) as file:
        file.write_bytes(encode_plot(document, photos, reconstruction))


def encode_plot(
    document: dict[str, Any], photos: list[Photo], reconstruction: Reconstruction
) -> bytes:
    """Return the figure as a PNG file."""
    encoded = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a photo's name, not in the font
        plot_poses(document, photos, reconstruction).savefig(encoded, format="png", dpi=DPI)
    return encoded.getvalue()


def plot_poses(
    document: dict[str, Any], photos: list[Photo], reconstruction: Reconstruction
) -> Figure:
    """Return a figure with axes for matches, epipolar lines and the scene, under the captions."""
    title = "\n".join(textwrap.fill(line, 150) for line in captions(document))
    aspect = sum(_aspect(photo) + GAP for photo in photos)
    narrow = aspect < NARROW_ASPECT
    height_in = WIDTH_IN / (3 * aspect) if narrow else WIDTH_IN * 1.62 / aspect + 0.75
    height_in += 0.75 + 0.25 * (title.count("\n") + 1)
    figure = Figure((WIDTH_IN, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    axes: dict[str, Any] = figure.subplot_mosaic(
        [["matches", "epipolar", "scene"]] if narrow else [["matches"] * 2, ["epipolar", "scene"]],
        width_ratios=[1, 1, 1] if narrow else [0.62, 0.38],
        height_ratios=[1] if narrow else [1, 0.62],
        per_subplot_kw={"scene": {"projection": "3d"}},
    )
    figure.suptitle(title, fontsize=13, x=0.01, ha="left", parse_math=False)
    points = reconstruction.points.detach().cpu()
    observations = reconstruction.observations.detach().cpu()
    cameras = photo_cameras(photos, reconstruction)
    depth = points[:, 2].numpy()
    low, high = np.quantile(depth, [0.03, 0.97]) if len(depth) else (0, 1)
    colors = ScalarMappable(Normalize(low, high, clip=True), "turbo_r")
    _plot_matches(axes["matches"], photos, observations, colors.to_rgba(depth))
    _plot_epipolar_lines(axes["epipolar"], photos, cameras, observations)
    frustum_length = FRUSTUM_LENGTH * float(reconstruction.depths[0].median())
    _plot_scene(axes["scene"], cameras, frustum_length, points, colors.to_rgba(depth))
    if len(points):
        figure.colorbar(colors, ax=axes["scene"], shrink=0.6, label="depth in photo 1")
    return figure


def captions(document: dict[str, Any]) -> list[str]:
    """Return a line for every pair of a pose document, then its problems."""
    lines = []
    for pair in document["pairs"]:
        moved = ", ".join(
            f"{abs(length):.2f} {words[length < 0]}"
            for length, words in zip(pair["baseline_direction"], DIRECTIONS, strict=True)
        )
        lines.append(
            f"Photo {pair['from'] + 1} to {pair['to'] + 1}:  turned {pair['rotation_deg']:.1f}°,  "
            f"moved {moved if pair['confidence'] else 'an unknown way'};  "
            f"{pair['inliers']:,} inliers ({pair['inlier_ratio']:.0%}),  "
            f"confidence {pair['confidence']:.2f}"
        )
    return [*lines, *(f"Warning: {problem}" for problem in document["problems"])]


def spread_out(coordinates: Tensor, count: int, min_distance: float = 0.0) -> list[int]:
    """Return indices of points far from each other in every photo: farthest-point sampling.

    `coordinates` are [view, point, 2] and finite. The first of the at most `count` points is the
    one nearest to the first photo's center; none is nearer to another than `min_distance`.
    """
    if coordinates.shape[1] == 0:
        return []
    chosen = [int((coordinates[0] - 0.5).norm(dim=-1).argmin())]
    distance = (coordinates - coordinates[:, chosen]).norm(dim=-1).amin(0)
    while len(chosen) < count and distance.max() > min_distance:
        chosen.append(int(distance.argmax()))
        last = coordinates[:, chosen[-1:]]
        distance = distance.minimum((coordinates - last).norm(dim=-1).amin(0))
    return chosen


def _aspect(photo: Photo) -> float:
    height, width = photo.camera.size
    return width / height


def _show_photos(axes: Axes, photos: list[Photo], title: str) -> list[tuple[float, float]]:
    """Show photos of one height in a row; return the left edge and the width of each."""
    left, places = 0.0, []
    for number, photo in enumerate(photos, start=1):
        width = _aspect(photo)
        axes.imshow(photo.image.permute(1, 2, 0).cpu().numpy(), extent=(left, left + width, 1, 0))
        name = textwrap.shorten(f"{number}  {photo.name}", 48, placeholder="…")
        axes.text(left, -0.015, name, va="bottom", fontsize=10, parse_math=False)
        places.append((left, width))
        left += width + GAP
    axes.set(xlim=(0, left - GAP), ylim=(1, 0), anchor="NW")
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=12, pad=22)
    return places


def _plot_matches(
    axes: Axes, photos: list[Photo], observations: Tensor, colors: np.ndarray
) -> None:
    chosen = []
    for view in range(len(photos) - 1):
        both = observations[view : view + 2]
        shared = both.isfinite().all(-1).all(0).nonzero()[:, 0]
        chosen.append(shared[spread_out(both[:, shared], MAX_MATCHES)].tolist())
    count = sum(map(len, chosen))
    title = f"{count} of the matches that agree with the poses" if count else "No matches"
    places = _show_photos(axes, photos, title)
    for view, points in enumerate(chosen):
        ends = observations[view : view + 2, points].numpy().copy()
        for end, (left, width) in zip(ends, places[view : view + 2], strict=True):
            end[:, 0] = left + width * end[:, 0]
            axes.scatter(end[:, 0], end[:, 1], s=14, c=colors[points], ec="k", lw=0.4, zorder=3)
        segments = list(ends.transpose(1, 0, 2))
        axes.add_collection(LineCollection(segments, colors=colors[points], lw=0.9, alpha=0.85))


def _plot_epipolar_lines(
    axes: Axes, photos: list[Photo], cameras: list[Camera], observations: Tensor
) -> None:
    inset = (observations - 0.5).abs().amax(-1).amax(0) < 0.5 - MIN_INSET  # false where NaN
    candidates = inset.nonzero()[:, 0]
    spread = spread_out(observations[:, candidates], MAX_EPIPOLAR_LINES, MIN_SPACING)
    chosen = candidates[spread]
    title = "Each numbered point lies on its epipolar line" if spread else "No common points"
    places = _show_photos(axes, photos, title)
    for view, ((left, width), camera) in enumerate(zip(places, cameras, strict=True)):
        fundamental = fundamental_matrix(camera.world2cam, cameras[0].intrinsics, camera.intrinsics)
        segments = epipolar_segments(observations[0, chosen], fundamental).numpy()
        for color, segment in zip(COLORS, segments if view else (), strict=False):
            axes.plot(left + width * segment[:, 0], segment[:, 1], color=color, lw=1.6)
        for number, (x, y) in enumerate(observations[view, chosen].tolist()):
            _plot_badge(axes, (left + width * x, y), number)


def _plot_badge(axes: Any, at: Sequence[float], index: int) -> None:
    axes.text(
        *(*at, str(index + 1)),
        **{"ha": "center", "va": "center", "fontsize": 8, "color": "white", "weight": "bold"},
        bbox={"boxstyle": "circle,pad=0.2", "fc": COLORS[index], "ec": "white"},
        zorder=1000,  # above the frusta
    )


def _plot_scene(
    axes: Any, cameras: list[Camera], frustum_length: float, points: Tensor, colors: np.ndarray
) -> None:
    """Plot cameras as frusta among the points; up in the figure is up in the first photo."""

    def to_axes(world: Tensor) -> np.ndarray:
        return world[..., [0, 2, 1]].numpy() * [1, 1, -1]

    middle = torch.stack([camera.center for camera in cameras]).mean(0)
    distance = (points - middle).norm(dim=-1)
    near = distance <= (distance.quantile(SHOWN_QUANTILE) if len(points) else 0)
    shown = [to_axes(points[near])]
    axes.scatter(*shown[0].T, s=4, c=colors[near.numpy()], depthshade=False)
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    for index, camera in enumerate(cameras):
        rays = camera.rays_at(corners) * frustum_length
        base = to_axes(transform_points(rays, camera.cam2world))
        apex = to_axes(camera.center)
        sides = [[apex, base[side - 1], base[side]] for side in range(4)]
        axes.add_collection3d(Poly3DCollection([base], fc=COLORS[index], alpha=0.3))
        axes.add_collection3d(Poly3DCollection(sides, fc="none", ec=COLORS[index], lw=1.4))
        _plot_badge(axes, apex.tolist(), index)
        shown += [base, apex[None]]
    low, high = np.concatenate(shown).min(0), np.concatenate(shown).max(0)
    half = 0.52 * (high - low).clip(0.1 * (high - low).max())
    for name, center, reach in zip("xyz", (low + high) / 2, half, strict=True):
        axes.set(**{f"{name}lim": (center - reach, center + reach), f"{name}ticklabels": []})
    axes.set_box_aspect(half, zoom=1.3)
    axes.set_title("Cameras and points", loc="left", fontsize=12)
    axes.view_init(elev=28, azim=-62)
