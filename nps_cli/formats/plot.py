"""One picture of what poses rest on: matches, epipolar lines, cameras and points."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nps_cli.formats.canvas import Canvas, Panel, between, pushed_apart

if TYPE_CHECKING:
    from models.reconstruction import Reconstruction
    from nps_cli.photos.load import Photo

WIDTH, MARGIN, GAP, OVERVIEW = 1600, 24, 10, 460  # pixels, as are all lengths here
TEXT, LINE, SMALL, SMALL_LINE = 22, 33, 17, 26  # heights of letters and of lines
NARROW, WIDE = 1.7, 3.1  # widths of the photos together, by their height
LINES = 100  # matches of two neighbors that get a line
CHOSEN, APART, INSET = 8, 0.07, 0.03  # points with epipolar lines; how far from each other, inside
INK, FAINT, ALARM, DARK = "#f2f2f2", "#9aa3ad", "#ff9d5c", "#1d2128"
RAMP = ("#5b7cff", "#29c7e0", "#5ddc5a", "#ffd23b", "#ff5a45")  # far to near
DISTINCT = ("#ffd23b", "#29c7e0", "#ff7ac8", "#5ddc5a", "#ff8a3b", "#b69cff", "#f2f2f2", "#ff5a45")
WAYS = (("right", "left"), ("down", "up"), ("forward", "back"))


@dataclass(frozen=True)
class Layout:
    """Where everything goes: one panel per photo, twice, and one or two looks at the scene."""

    matches: list[Panel]
    epipolar: list[Panel]
    overviews: list[Panel]

    @property
    def bottom(self) -> float:
        """Where the last panel ends."""
        return self.overviews[-1].top + self.overviews[-1].height


def write_plot(
    document: dict[str, Any],
    photos: "list[Photo]",
    reconstruction: "Reconstruction",
    path: Path,
    *,
    force: bool,
) -> None:
    """Draw the picture into a PNG file, whole or not at all."""
    from nps_cli.output import whole_file

    canvas = draw(document, photos, reconstruction)
    with whole_file(path, force=force) as file:
        canvas.save(file)


def draw(
    document: dict[str, Any], photos: "list[Photo]", reconstruction: "Reconstruction"
) -> Canvas:
    """Draw what is said of the poses, and three views of what they rest on."""
    measure = Canvas(1, 1)
    said = [
        (line, color)
        for text, color in captions(document)
        for line in measure.wrapped(text, TEXT, WIDTH - 2 * MARGIN)
    ]
    top = MARGIN + LINE * len(said)
    layout = arrange([photo.width / photo.height for photo in photos], top)
    canvas = Canvas(WIDTH, round(layout.bottom) + MARGIN)
    for number, (line, color) in enumerate(said):
        canvas.text((MARGIN, MARGIN + LINE * number), line, TEXT, color)
    for strip in (layout.matches, layout.epipolar):
        for number, (panel, photo) in enumerate(zip(strip, photos, strict=True), start=1):
            name = canvas.shortened(f"{number}  {photo.name}", SMALL, panel.width)
            canvas.text((panel.left, panel.top - SMALL_LINE), name, SMALL, INK)
            canvas.photo(panel, photo.image)
    _draw_matches(canvas, layout.matches, reconstruction)
    _draw_epipolar_lines(canvas, layout.epipolar, photos, reconstruction)
    for panel, above in zip(layout.overviews, (False, True), strict=False):
        _draw_overview(canvas, panel, photos, reconstruction, above)
    return canvas


def arrange(aspects: list[float], top: float) -> Layout:
    """Place photos of these widths by heights below `top`, so that each row is full."""
    whole, together = WIDTH - 2 * MARGIN, sum(aspects)
    half = (whole - 2 * GAP) / 2
    title, names = SMALL_LINE + 14, SMALL_LINE
    if together <= NARROW:  # both strips side by side
        matches = _strip(MARGIN, top + title + names, half, aspects)
        epipolar = _strip(MARGIN + half + 2 * GAP, top + title + names, half, aspects)
    else:
        matches = _strip(MARGIN, top + title + names, whole, aspects)
        width = whole if together > WIDE else 0.66 * whole
        below = matches[0].top + matches[0].height + title + names
        epipolar = _strip(MARGIN, below, width, aspects)
    last = epipolar[-1]
    left, below = last.left + last.width + 2 * GAP, last.top + last.height + title
    if left < WIDTH / 2 + half / 2:  # room beside the strip for one look, else below it for two
        overviews = [Panel(left, last.top, WIDTH - MARGIN - left, last.height)]
    else:
        sides = MARGIN, MARGIN + half + 2 * GAP
        overviews = [Panel(side, below, half, OVERVIEW) for side in sides]
    return Layout(matches, epipolar, overviews)


def captions(document: dict[str, Any]) -> list[tuple[str, str]]:
    """What a pose document says of every pair, and against itself; each with its color."""
    lines = []
    for pair in document["pairs"]:
        moved = ", ".join(
            f"{abs(length):.2f} {words[length < 0]}"
            for length, words in zip(pair["baseline_direction"], WAYS, strict=True)
        )
        text = (
            f"Photo {pair['from'] + 1} to {pair['to'] + 1}:  turned {pair['rotation_deg']:.1f}°,  "
            f"moved {moved if pair['confidence'] else 'an unknown way'};  "
            f"{pair['inliers']:,} inliers ({pair['inlier_ratio']:.0%}),  "
            f"confidence {pair['confidence']:.2f}"
        )
        lines.append((text, INK))
    return lines + [(problem, ALARM) for problem in document["problems"]]


def _strip(left: float, top: float, width: float, aspects: list[float]) -> list[Panel]:
    """Panels of one height beside each other."""
    height = (width - GAP * (len(aspects) - 1)) / sum(aspects)
    panels = []
    for aspect in aspects:
        panels.append(Panel(left, top, aspect * height, height))
        left += aspect * height + GAP
    return panels


def _draw_matches(canvas: Canvas, panels: list[Panel], reconstruction: "Reconstruction") -> None:
    from models.overview import nearness, spread

    sightings = reconstruction.sightings.detach().cpu()
    near = nearness(reconstruction.points[:, 2].detach().cpu())
    drawn = 0
    for left in range(len(panels) - 1):
        neighbors, both = panels[left : left + 2], sightings[left : left + 2]
        shared = both.isfinite().all(-1).all(0).nonzero()[:, 0]
        for point in shared[spread(both[:, shared], LINES)].tolist():
            color = between(RAMP, float(near[point]))
            ends = [
                panel.at(*place)
                for panel, place in zip(neighbors, both[:, point].tolist(), strict=True)
            ]
            canvas.line(ends, color + "c0", width=1.5)
            for end in ends:
                canvas.dot(end, 3.5, color)
            drawn += 1
    if drawn:
        _title(canvas, panels[0], f"{drawn} of the matches that agree with the poses", names=True)
        _draw_legend(canvas, panels[-1])
    else:
        _title(canvas, panels[0], "No matches that could be placed in space", names=True)


def _draw_legend(canvas: Canvas, panel: Panel) -> None:
    right, top = panel.left + panel.width, panel.top - 2 * SMALL_LINE
    for step in range(120):
        x = right - 170 + step
        canvas.line([(x, top + 5), (x, top + SMALL)], between(RAMP, step / 119))
    canvas.text((right - 202, top), "far", SMALL, FAINT)
    canvas.text((right - 40, top), "near", SMALL, FAINT)


def _draw_epipolar_lines(
    canvas: Canvas, panels: list[Panel], photos: "list[Photo]", reconstruction: "Reconstruction"
) -> None:
    from models.geometry.epipolar import epipolar_segments, fundamental_matrix
    from models.overview import spread

    sightings = reconstruction.sightings.detach().cpu()
    inside = ((sightings > INSET) & (sightings < 1 - INSET)).all(-1).all(0).nonzero()[:, 0]
    chosen = inside[spread(sightings[:, inside], CHOSEN, APART)]
    text = "Each numbered point has to lie on its line" if len(chosen) else "No common points"
    _title(canvas, panels[0], text, names=True)
    for view, panel in enumerate(panels):
        if view:
            fundamental = fundamental_matrix(
                reconstruction.world2cam[view].detach().cpu(),
                photos[0].intrinsics,
                photos[view].intrinsics,
            )
            segments = epipolar_segments(sightings[0, chosen], fundamental)
            for color, segment in zip(DISTINCT, segments, strict=False):
                if segment.isfinite().all():
                    canvas.line([panel.at(*end) for end in segment.tolist()], color)
        for number, place in enumerate(sightings[view, chosen].tolist()):
            canvas.badge(panel.at(*place), str(number + 1), DISTINCT[number])


def _draw_overview(
    canvas: Canvas,
    panel: Panel,
    photos: "list[Photo]",
    reconstruction: "Reconstruction",
    above: bool,
) -> None:
    import torch

    from models.overview import look_from_outside, nearness

    _title(canvas, panel, "The same from straight above" if above else "Cameras and points")
    canvas.area([panel.at(*corner) for corner in ((0, 0), (1, 0), (1, 1), (0, 1))], DARK)
    points = reconstruction.points.detach().cpu()
    overview = look_from_outside(
        points,
        reconstruction.world2cam.detach().cpu(),
        torch.stack([photo.intrinsics for photo in photos]),
        (round(panel.height), round(panel.width)),
        distance=float(reconstruction.depths[0].median()),
        above=above,
    )
    for place, near in zip(overview.points, nearness(points[:, 2]).tolist(), strict=True):
        if place.isfinite().all():
            canvas.dot(panel.at(*place.tolist()), 2, between(RAMP, near))
    for number, frustum in enumerate(overview.frusta.tolist()):
        color = DISTINCT[number]
        center, *corners = (panel.at(*corner) for corner in frustum)
        canvas.area(corners, color + "38")
        canvas.line([*corners, corners[0]], color)
        for corner in corners:
            canvas.line([center, corner], color)
    centers = [panel.at(*frustum[0]) for frustum in overview.frusta.tolist()]
    for number, center in enumerate(pushed_apart(centers)):
        canvas.badge(center, str(number + 1), DISTINCT[number])


def _title(canvas: Canvas, panel: Panel, text: str, names: bool = False) -> None:
    """Write above a panel, and above the photos' names where there are any."""
    lines = 2 if names else 1
    canvas.text((panel.left, panel.top - lines * SMALL_LINE), text, SMALL, FAINT)
