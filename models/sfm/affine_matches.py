"""Matches moved until the photos agree around them, to a fraction of a pixel.

How the photo is stretched around a match then tells, too, how the cameras moved: what lies beside
it has to follow the same epipolar geometry. Affine matches tell motions apart that explain the
same single points (Barath, Toth and Hajder, "A minimal solution for two-view focal-length
estimation using two affine correspondences", CVPR 2017).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from models.geometry.camera import to_pixels
from models.sfm.two_view import MatchedPair, epipolar_offsets, triangulate

RADIUS = 8  # of the squares that are compared, in pixels of the coarser photo
STEPS = 8
NEAR_PX = 3.0  # matches this far from their epipolar lines are tried
FARTHEST_PX = 3.0  # a match that moves by more was another one
ALIKE = 0.8  # correlation of two squares that show the same
SETTLED_PX = 0.1  # length of the last step
LONGEST_PX = 1.5  # of any step
RIGID, STIFF = 1e-4, 1e-3  # resistance to moves and to changes of shape, beside contrast 1
RIM_PX = 6.0  # distance from a match at which its surroundings count as matches of their own


@dataclass(frozen=True)
class Surroundings:
    """What lies around the matches of two photos, brought into agreement."""

    second: Float[Tensor, "match 2"]  # where the second photo shows the match, in [0, 1]
    shape: Float[Tensor, "match 2 2"]  # how it shows a step beside it; in pixels of both photos
    good: Bool[Tensor, " match"]  # elsewhere the photos do not agree, and nothing is changed


def align(
    images: tuple[Float[Tensor, "3 _height _width"], Float[Tensor, "3 _height2 _width2"]],
    pair: MatchedPair,
    motions: list[Float[Tensor, "4 4"]],
) -> Surroundings:
    """Align what two photos show around their matches.

    A motion says roughly how the surroundings of those matches that agree with it are stretched;
    what disagrees with all motions is left alone.

    Args:
        images: Both photos.
        pair: Their matches.
        motions: Motions from the first to the second camera, the likeliest first.
    """
    at = pair.where(pair.matches)
    gray = images[0].mean(0).cpu(), images[1].mean(0).cpu()
    scales = [at[0].new_tensor([width, height]) for height, width in pair.sizes]
    places = [each * scale for each, scale in zip(at, scales, strict=True)]
    second, good = places[1].clone(), torch.zeros(len(at[0]), dtype=torch.bool)
    shape = torch.zeros(len(at[0]), 2, 2)
    for motion in motions:
        depth, _ = triangulate(*at, pair.intrinsics[0], pair.intrinsics[1], motion)
        offsets = epipolar_offsets(at, pair.intrinsics, pair.sizes, motion).abs()
        tried = ((offsets < NEAR_PX) & (depth > 0) & ~good).nonzero()[:, 0]
        guess = _stretch(places[0][tried], depth[tried], pair, motion)
        found = _register(gray, places[0][tried], places[1][tried], guess)
        agreed = tried[found.good]
        second[agreed], shape[agreed] = found.second[found.good], found.shape[found.good]
        good[agreed] = True
    return Surroundings(second / scales[1], shape, good)


def with_rims(
    pair: MatchedPair, around: Surroundings
) -> tuple[Float[Tensor, "point 2"], Float[Tensor, "point 2"]]:
    """Where both photos show the matches, and then four points around each that was aligned."""
    first = pair.where(pair.matches)[0]
    scales = [first.new_tensor([width, height]) for height, width in pair.sizes]
    step = RIM_PX * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    rims = (
        first[around.good, None] + step / scales[0],
        around.second[around.good, None] + step @ around.shape[around.good].mT / scales[1],
    )
    centers = first, around.second
    return tuple(torch.cat([c, r.flatten(0, 1)]) for c, r in zip(centers, rims, strict=True))  # type: ignore[return-value]


def _register(
    gray: tuple[Float[Tensor, "_height _width"], Float[Tensor, "_height2 _width2"]],
    first: Float[Tensor, "match 2"],
    second: Float[Tensor, "match 2"],
    shape: Float[Tensor, "match 2 2"],
) -> Surroundings:
    """Move and stretch squares until they correlate best. All in pixels.

    Inverse compositional alignment (Baker and Matthews, IJCV 2004): the slopes are those of the
    first photo, so that nothing but the second has to be sampled anew at each step.
    """
    cell = 1 / torch.linalg.det(shape).abs().sqrt().clamp(0.1, 1)  # first photo's pixels by ours
    line = torch.arange(-RADIUS - 1.0, RADIUS + 2.0)
    wide = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
    here = _sample(gray[0], first[:, None, None] + wide * cell[:, None, None, None])
    inner = wide[1:-1, 1:-1].flatten(0, 1)
    window = (-inner.square().sum(1) / (2 * (0.6 * RADIUS) ** 2)).exp()
    window = window / window.sum()
    template, contrast = _standardized(here[:, 1:-1, 1:-1].flatten(1), window)
    slopes = torch.stack(
        [here[:, 1:-1, 2:] - here[:, 1:-1, :-2], here[:, 2:, 1:-1] - here[:, :-2, 1:-1]], dim=1
    ).flatten(2) / (2 * contrast[:, None])
    by_shape = (slopes[:, :, None] * (inner / RADIUS).T).flatten(1, 2)
    slopes = torch.cat([slopes, by_shape], dim=1)
    slopes = slopes - (slopes * window).sum(2, keepdim=True)  # brightness and contrast are free
    slopes = slopes - (slopes * template[:, None] * window).sum(2, keepdim=True) * template[:, None]
    resistance = torch.tensor([RIGID] * 2 + [STIFF] * 4)
    solve = torch.linalg.inv(slopes * window @ slopes.mT + torch.diag(resistance))
    place, square, bent = second, shape * cell[:, None, None], torch.zeros(len(first), 4)
    for _ in range(STEPS):
        there, _ = _standardized(_sample(gray[1], place[:, None] + inner @ square.mT), window)
        push = (slopes * window @ (there - template)[..., None])[..., 0]
        push[:, 2:] += STIFF * bent
        change = (solve @ push[..., None])[..., 0]
        change = change * (LONGEST_PX / change[:, :2].norm(dim=1, keepdim=True)).clamp(max=1)
        bent = bent - change[:, 2:]
        bend = torch.eye(2) + (change[:, 2:] / RADIUS).unflatten(1, (2, 2))
        square = square @ torch.linalg.inv(bend)
        place = place - (square @ change[:, :2, None])[..., 0]
    there, _ = _standardized(_sample(gray[1], place[:, None] + inner @ square.mT), window)
    alike = (there * template * window).sum(1) > ALIKE
    near = (place - second).norm(dim=1) < FARTHEST_PX
    settled = change[:, :2].norm(dim=1) < SETTLED_PX
    return Surroundings(place, square / cell[:, None, None], alike & near & settled)


def _sample(
    image: Float[Tensor, "height width"], places: Float[Tensor, "*square 2"]
) -> Float[Tensor, "*square"]:
    """Gray values at places in pixels, between pixels linearly."""
    height, width = image.shape
    grid = 2 * places / places.new_tensor([width, height]) - 1
    flat = grid.flatten(0, -2)[None, None]
    found = functional.grid_sample(
        image[None, None], flat, padding_mode="border", align_corners=False
    )
    return found.reshape(places.shape[:-1])


def _standardized(
    values: Float[Tensor, "match cell"], window: Float[Tensor, " cell"]
) -> tuple[Float[Tensor, "match cell"], Float[Tensor, "match 1"]]:
    """Values of mean zero and variance one under the window, and their deviation before."""
    centered = values - (values * window).sum(1, keepdim=True)
    deviation = (centered.square() * window).sum(1, keepdim=True).sqrt().clamp(min=1e-5)
    return centered / deviation, deviation


def _stretch(
    first: Float[Tensor, "match 2"],
    depth: Float[Tensor, " match"],
    pair: MatchedPair,
    motion: Float[Tensor, "4 4"],
) -> Float[Tensor, "match 2 2"]:
    """How the second photo shows a small square around each place (in pixels) of the first.

    Its surface is taken to face halfway between the two cameras.
    """
    cameras = [to_pixels(*each) for each in zip(pair.intrinsics, pair.sizes, strict=True)]
    inverse = torch.linalg.inv(cameras[0])
    homogeneous = torch.cat([first, torch.ones_like(first[:, :1])], dim=1)
    points = homogeneous @ inverse.T * depth[:, None]
    rotation, translation = motion[:3, :3], motion[:3, 3]
    to_second = -rotation.T @ translation - points
    normal = functional.normalize(to_second, dim=1) - functional.normalize(points, dim=1)
    planes = normal / (normal * points).sum(1, keepdim=True)
    homographies = cameras[1] @ (rotation + translation[:, None] * planes[:, None]) @ inverse
    seen = (homographies @ homogeneous[..., None])[..., 0]
    slopes = (
        homographies[:, :2, :2] - (seen[:, :2] / seen[:, 2:])[..., None] * homographies[:, 2:, :2]
    )
    return slopes / seen[:, 2, None, None]
